// Command bench measures Rivulet: its engine, its state, its Kafka connector against a bare loop, and its footprint. It prints a table, or JSON.
//
// Every figure is of processes of their own. What is compared is run in turn, in one invocation, the order swapped each round; a cell is the median over the rounds.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
)

// options are what bench was asked for.
type options struct {
	rounds int
	scale  float64
	broker string
	dir    string
	log    io.Writer
}

// suite is a group of measurements that make one table.
type suite struct {
	name, summary string
	run           func(ctx context.Context, c options) (Table, error)
}

var suites = []suite{
	{"idle", "cmd/mini with REST and nothing to do", idle},
	{"kafka", "the job of the Tiny Flink talk: copy all but every hundredth record of 200 bytes, against a bare franz-go loop", talk},
	{"memory", "jobs that need more than --memory, in a control group of that size", memory},
	{"state", "checkpoints, savepoints and a restore of 1 M keys of 20 bytes with a struct of 3 fields", stateSuite},
	{"recovery", "kill -9 under load and a new start, exactly once", recovery},
	{"cluster", "a job in mini against the same on a JobManager and two TaskManagers", clusterSuite},
	{"scale", "a JobManager and TaskManagers as processes: a job of 1,000 subtasks, and a hundred idle jobs", scale},
	{"engine", "a generator through map, filter, keyBy and a sum, without Kafka", engine},
	{"exchange", "32 KB batches of 200-byte records from one process to another, against raw TCP frames", exchangeSuite},
}

func main() {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(child(role))
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	var c options
	fs := flag.NewFlagSet("bench", flag.ExitOnError)
	asJSON := fs.Bool("json", false, "print JSON instead of tables")
	only := fs.String("only", "", "run the suites whose names match the regular expression `RE`; all by default: "+names())
	fs.IntVar(&c.rounds, "rounds", 3, "how often each figure is measured; the median is shown")
	fs.Float64Var(&c.scale, "scale", 1, "multiply the numbers of records by `F`: 0.1 for a quick look")
	fs.StringVar(&c.broker, "broker", "", "measure on \"kfake\", on a \"real\" broker (needs java and mvn), or on both where the latter is possible (default)")
	if err := fs.Parse(os.Args[1:]); err != nil {
		return err
	}
	if fs.NArg() > 0 || c.rounds < 1 || c.scale <= 0 {
		fs.Usage()
		return fmt.Errorf("want --rounds of at least 1, --scale above 0 and no arguments")
	}
	filter, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("--only: %w", err)
	}
	c.log = os.Stderr
	if c.dir, err = os.MkdirTemp("", "rivulet-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(c.dir)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()

	report := Report{Machine: machine()}
	for _, s := range suites {
		if !filter.MatchString(s.name) {
			continue
		}
		fmt.Fprintf(c.log, "bench: %s: %s\n", s.name, s.summary)
		t, err := s.run(ctx, c)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		t.Name, t.Summary = s.name, s.summary
		report.Tables = append(report.Tables, t)
		if !*asJSON {
			t.print(os.Stdout)
		}
	}
	if len(report.Tables) == 0 {
		return fmt.Errorf("--only %q matches no suite; there are %s", *only, names())
	}
	if *asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	fmt.Println(report.Machine)
	return nil
}

func names() string {
	var out []string
	for _, s := range suites {
		out = append(out, s.name)
	}
	return strings.Join(out, ", ")
}
