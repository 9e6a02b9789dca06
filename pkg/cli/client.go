package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/client"
	"github.com/rivulet-io/rivulet/pkg/config"
)

func init() {
	for name, c := range map[string]*clientCommand{
		"list":       {summary: "list the jobs of a running process", run: list, flags: listFlags},
		"info":       {summary: "show a job: its vertices, checkpoints and failures", args: "[JOB]", run: info},
		"cancel":     {summary: "cancel a job, without a savepoint", args: "[JOB]", run: cancelJob},
		"stop":       {summary: "stop a job with a savepoint, from which it goes on when it is started again", args: "[JOB]", run: stopJob, flags: stopFlags},
		"savepoint":  {summary: "take a savepoint of a job; savepoint inspect PATH shows one, savepoint dispose PATH deletes one", args: "[JOB] [DIR] | inspect PATH | dispose PATH", run: savepoint, flags: savepointFlags},
		"checkpoint": {summary: "take a checkpoint of a job now", args: "[JOB]", run: takeCheckpoint, flags: checkpointFlags},
	} {
		commands[name] = command{summary: c.summary, run: func(ctx context.Context, env commandEnv, args []string) int { return c.main(ctx, env, name, args) }}
	}
}

// clientCommand is a command for a process that runs, over REST.
type clientCommand struct {
	summary, args string
	// flags defines the command's own options.
	flags func(c *call, fs *flag.FlagSet)
	run   func(ctx context.Context, c *call) error
}

// call is one run of a command.
type call struct {
	env  commandEnv
	name string
	args []string
	rest *client.Client

	json                    bool
	running, scheduled, all bool // list
	drain, full, verify     bool
	dir, dispose            string
	migrate                 migrateOptions
}

// main runs a command and returns the exit code.
func (k *clientCommand) main(ctx context.Context, env commandEnv, name string, args []string) int {
	c := &call{env: env, name: name}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	o := &Options{}
	address := ""
	fs.StringVar(&address, "rest-address", "", "the running process's REST address, `HOST:PORT` (default "+defaultREST+", or what -D rest.address and rest.port say)")
	fs.StringVar(&address, "m", "", "as --rest-address, for who comes from Flink: `HOST:PORT`")
	fs.Var(&settingsValue{o}, "D", "set an option of Flink's, `KEY=VALUE`; may be repeated")
	fs.BoolVar(&c.json, "json", false, "write the result as JSON")
	if k.flags != nil {
		k.flags(c, fs)
	}
	err := c.parse(fs, split(args))
	if errors.Is(err, flag.ErrHelp) {
		k.usage(env.stdout, env.program, name, fs)
		return exitOK
	}
	if err == nil {
		c.rest, err = o.client(address)
	}
	if err == nil {
		err = k.run(ctx, c)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, client.ErrUnreachable) && name != "migrate": // which says itself what is to be done
		err = fmt.Errorf("%w; is the job running? A process says at its start where it serves REST; give that as --rest-address HOST:PORT", err)
	}
	return fail(env.stderr, env.program+" "+name, err)
}

// parse reads options and arguments in any order.
func (c *call) parse(fs *flag.FlagSet, args []string) error {
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return fmt.Errorf("%w: %s", errUsage, explain(err, fs))
		}
		rest := fs.Args()
		if len(rest) == 0 {
			return nil
		}
		if n := len(args) - len(rest); n > 0 && args[n-1] == "--" {
			c.args = append(c.args, rest...)
			return nil
		}
		c.args, args = append(c.args, rest[0]), rest[1:]
	}
}

// client finds the server.
func (o *Options) client(address string) (*client.Client, error) {
	if address == "" {
		settings, err := o.layers()
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		c, err := config.New(settings...)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		host, err := config.Get(c, config.RestAddress)
		if err != nil {
			return nil, err
		}
		port, err := config.Get(c, config.RestPort)
		if err != nil {
			return nil, err
		}
		address = net.JoinHostPort(host, fmt.Sprint(port))
	}
	if _, _, err := net.SplitHostPort(address); err != nil && !strings.Contains(address, "://") {
		return nil, fmt.Errorf("%w: --rest-address %q: want HOST:PORT, such as %s", errUsage, address, defaultREST)
	}
	return client.New(address), nil
}

func (k *clientCommand) usage(w io.Writer, program, name string, fs *flag.FlagSet) {
	var b strings.Builder
	for i, args := range strings.Split(k.args, " | ") {
		head := "Usage:"
		if i > 0 {
			head = "      "
		}
		fmt.Fprintf(&b, "%s %s %s %s[OPTIONS]\n", head, program, name, strings.TrimLeft(args+" ", " "))
	}
	fmt.Fprintf(&b, "\n%s%s.\n", strings.ToUpper(k.summary[:1]), k.summary[1:])
	if strings.Contains(k.args, "JOB") {
		b.WriteString("JOB is the job's id or name; it may be left out when there is one job only.\n")
	}
	b.WriteString("\nOptions:\n")
	describeFlags(&b, fs, nil)
	b.WriteString("\nExit codes: 0 done, 1 failed, 2 the command was not understood.\n")
	_, _ = io.WriteString(w, b.String())
}

// print writes a result: as JSON when that is asked for.
func (c *call) print(v any, text string) error {
	if c.json {
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		text = string(b) + "\n"
	}
	_, err := io.WriteString(c.env.stdout, text)
	return err
}

// say writes a line for people; with --json not on the standard output.
func (c *call) say(format string, args ...any) {
	w := c.env.stdout
	if c.json {
		w = c.env.stderr
	}
	fmt.Fprintf(w, format+"\n", args...)
}

// none refuses arguments.
func (c *call) none(most int) error {
	if len(c.args) > most {
		return fmt.Errorf("%w: %q is one argument too many; --help shows what is expected", errUsage, c.args[most])
	}
	return nil
}

var jobID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// job finds the job that an argument names; without one the only job.
func (c *call) job(ctx context.Context, name string) (*client.Job, error) {
	all, err := c.rest.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	var open, found []client.Job
	for _, j := range all {
		if !j.Ended() {
			open = append(open, j)
		}
		if name != "" && (j.ID == name || j.Name == name) {
			found = append(found, j)
		}
	}
	if name == "" {
		if found = open; len(found) == 0 {
			found = all
		}
	} else if running := slices.DeleteFunc(slices.Clone(found), func(j client.Job) bool { return j.Ended() }); len(running) > 0 {
		found = running // of jobs of one name the one that runs is meant
	}
	switch {
	case len(found) == 1:
		return &found[0], nil
	case len(all) == 0:
		return nil, fmt.Errorf("there is no job at %s", c.rest.Address())
	case len(found) > 1 && name == "":
		return nil, fmt.Errorf("%w: there are %d jobs, say which: %s", errUsage, len(found), names(found))
	case len(found) > 1:
		return nil, fmt.Errorf("%w: %d jobs are named %q, give the id of one: %s", errUsage, len(found), name, names(found))
	case jobID.MatchString(name):
		return nil, fmt.Errorf("there is no job with the id %s at %s; there are %s", name, c.rest.Address(), names(all))
	}
	return nil, fmt.Errorf("there is no job %q at %s; there are %s", name, c.rest.Address(), names(all))
}

func names(jobs []client.Job) string {
	var out []string
	for _, j := range jobs {
		out = append(out, fmt.Sprintf("%q (%s, %s)", j.Name, j.ID, j.State))
	}
	return strings.Join(out, ", ")
}

func listFlags(c *call, fs *flag.FlagSet) {
	fs.BoolVar(&c.running, "r", false, "only running and restarting jobs")
	fs.BoolVar(&c.running, "running", false, "only running and restarting jobs")
	fs.BoolVar(&c.scheduled, "s", false, "only jobs that wait for slots")
	fs.BoolVar(&c.scheduled, "scheduled", false, "only jobs that wait for slots")
	fs.BoolVar(&c.all, "a", false, "ended jobs too")
	fs.BoolVar(&c.all, "all", false, "ended jobs too")
}

// list writes the jobs as Flink does.
func list(ctx context.Context, c *call) error {
	if err := c.none(0); err != nil {
		return err
	}
	jobs, err := c.rest.Jobs(ctx)
	if err != nil {
		return err
	}
	slices.SortStableFunc(jobs, func(a, b client.Job) int { return int(a.Start - b.Start) })
	var running, scheduled, ended []client.Job
	for _, j := range jobs {
		switch {
		case j.Ended():
			ended = append(ended, j)
		case j.State == "CREATED" || j.State == "INITIALIZING":
			scheduled = append(scheduled, j)
		default:
			running = append(running, j)
		}
	}
	var b strings.Builder
	shown := []client.Job{}
	section := func(title, none string, jobs []client.Job) {
		shown = append(shown, jobs...)
		if len(jobs) == 0 {
			fmt.Fprintf(&b, "%s\n", none)
			return
		}
		fmt.Fprintf(&b, "%s\n", rule(title))
		for _, j := range jobs {
			fmt.Fprintf(&b, "%s : %s : %s (%s)\n", clock(j.Start), j.ID, j.Name, j.State)
		}
		fmt.Fprintf(&b, "%s\n", strings.Repeat("-", ruleWidth))
	}
	if !c.scheduled || c.running || c.all {
		section("Running/Restarting Jobs", "No running jobs.", running)
	}
	if !c.running || c.scheduled || c.all {
		section("Scheduled/Initializing Jobs", "No scheduled jobs.", scheduled)
	}
	if c.all {
		section("Terminated Jobs", "No terminated jobs.", ended)
	}
	return c.print(shown, b.String())
}

// ruleWidth is the width of the lines that Flink draws.
const ruleWidth = 62

func rule(title string) string {
	left := (ruleWidth - len(title) - 2) / 2
	return strings.Repeat("-", left) + " " + title + " " + strings.Repeat("-", ruleWidth-len(title)-2-left)
}

// clock writes a time as Flink's list does.
func clock(ms int64) string { return time.UnixMilli(ms).Format("02.01.2006 15:04:05") }

// info shows a job.
func info(ctx context.Context, c *call) error {
	if err := c.none(1); err != nil {
		return err
	}
	j, err := c.job(ctx, c.arg(0))
	if err != nil {
		return err
	}
	d, err := c.rest.Job(ctx, j.ID)
	if err != nil {
		return err
	}
	checkpoints, err := c.rest.Checkpoints(ctx, j.ID)
	if client.NotFound(err) {
		checkpoints, err = nil, nil // checkpointing is off
	}
	if err != nil {
		return err
	}
	failures, err := c.rest.Failures(ctx, j.ID)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(map[string]any{"job": d, "checkpoints": checkpoints, "failures": failures}, "")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Job %q (%s)\n", d.Name, d.ID)
	fmt.Fprintf(&b, "  state        %s, started %s, for %s\n", d.State, clock(d.Start), short(d.Duration))
	if checkpoints != nil {
		fmt.Fprintf(&b, "  checkpoints  %d completed, %d failed, %d in progress\n", checkpoints.Counts.Completed, checkpoints.Counts.Failed, checkpoints.Counts.InProgress)
		latest := func(what string, k *client.Checkpoint) {
			if k != nil {
				fmt.Fprintf(&b, "  %-12s %d at %s in %s, %s of state: %s\n", what, k.ID, clock(k.Trigger), short(k.Duration), bytesOf(k.Size), k.Path)
			}
		}
		latest("latest", checkpoints.Latest.Completed)
		latest("savepoint", checkpoints.Latest.Savepoint)
		if f := checkpoints.Latest.Failed; f != nil {
			fmt.Fprintf(&b, "  failed       %d at %s: %s\n", f.ID, clock(f.Trigger), f.Failure)
		}
	} else {
		b.WriteString("  checkpoints  off\n")
	}
	b.WriteString("  vertices\n")
	for _, v := range d.Vertices {
		m := v.Metrics
		fmt.Fprintf(&b, "    %s\n      %s, parallelism %d of %d; records in %s, out %s; bytes in %s, out %s\n",
			v.Name, v.State, v.Parallelism, v.MaxParallelism, count(float64(m.ReadRecords)), count(float64(m.WriteRecords)), bytesOf(m.ReadBytes), bytesOf(m.WriteBytes))
	}
	for i, f := range failures {
		if i == 0 {
			b.WriteString("  failures, newest first\n")
		}
		where := ""
		if f.Task != "" {
			where = f.Task + ": "
		}
		fmt.Fprintf(&b, "    %s  %s%s\n", clock(f.At), where, f.Text())
	}
	return c.print(nil, b.String())
}

func (c *call) arg(i int) string {
	if i < len(c.args) {
		return c.args[i]
	}
	return ""
}

// short writes a duration of milliseconds so that people can compare it.
func short(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	if d >= time.Minute {
		d = d.Round(time.Second)
	}
	return d.String()
}

// bytesOf writes a size.
func bytesOf(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.3g GB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.3g MB", float64(n)/(1<<20))
	case n >= 10<<10:
		return fmt.Sprintf("%.3g kB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}

// cancelJob cancels a job and waits until it has ended.
func cancelJob(ctx context.Context, c *call) error {
	if err := c.none(1); err != nil {
		return err
	}
	j, err := c.job(ctx, c.arg(0))
	if err != nil {
		return err
	}
	c.say("Cancelling job %s (%s).", j.ID, j.Name)
	if err := c.rest.Cancel(ctx, j.ID); err != nil {
		return err
	}
	state := "CANCELED"
	w := c.waiting("cancelling")
	defer w.end()
	for {
		s, err := c.rest.State(ctx, j.ID)
		if errors.Is(err, client.ErrUnreachable) {
			break // the process ends with its only job
		}
		if err != nil {
			return err
		}
		if client.Ended(s) {
			state = s
			break
		}
		w.tick("")
		if err := client.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	w.end()
	if state != "CANCELED" {
		return fmt.Errorf("job %s (%s) is %s", j.ID, j.Name, state)
	}
	if c.json {
		return c.print(map[string]string{"job": j.ID, "name": j.Name, "state": state}, "")
	}
	return c.print(nil, fmt.Sprintf("Cancelled job %s.\n", j.ID))
}

func stopFlags(c *call, fs *flag.FlagSet) {
	fs.BoolVar(&c.drain, "drain", false, "let all event-time timers and windows fire first: for a job that will not be started again")
	fs.BoolVar(&c.drain, "d", false, "as --drain")
	fs.StringVar(&c.dir, "savepoint-path", "", "write the savepoint into a new directory below `DIR`, as the running process sees it (default: the one that is configured)")
	fs.StringVar(&c.dir, "p", "", "as --savepoint-path: `DIR`")
}

// stopJob stops a job with a savepoint.
func stopJob(ctx context.Context, c *call) error {
	if err := c.none(1); err != nil {
		return err
	}
	j, err := c.job(ctx, c.arg(0))
	if err != nil {
		return err
	}
	dir, err := absolute(c.dir)
	if err != nil {
		return err
	}
	how := "Suspending"
	if c.drain {
		how = "Draining"
	}
	c.say("%s job %s (%s) with a savepoint.", how, j.ID, j.Name)
	t, err := c.rest.Stop(ctx, j.ID, dir, c.drain)
	if err != nil {
		return err
	}
	return c.savepointDone(ctx, j, t)
}

// absolute makes an absolute path of one: the running process has another working directory. URIs and the empty path stay.
func absolute(dir string) (string, error) {
	if dir == "" || strings.Contains(dir, "://") {
		return dir, nil
	}
	return filepath.Abs(dir)
}

func savepointFlags(c *call, fs *flag.FlagSet) {
	fs.StringVar(&c.dir, "savepoint-path", "", "write the savepoint into a new directory below `DIR`, as the running process sees it (default: the one that is configured)")
	fs.StringVar(&c.dir, "p", "", "as --savepoint-path: `DIR`")
	fs.StringVar(&c.dispose, "dispose", "", "delete the savepoint at `PATH`, as savepoint dispose PATH does")
	fs.StringVar(&c.dispose, "d", "", "as --dispose: `PATH`")
	fs.BoolVar(&c.verify, "verify", false, "inspect: read all state and compare its checksums")
}

// savepoint takes a savepoint, or looks at one, or deletes one.
func savepoint(ctx context.Context, c *call) error {
	switch {
	case c.dispose != "":
		if err := c.none(0); err != nil {
			return err
		}
		return disposeOf(ctx, c, c.dispose)
	case c.arg(0) == "dispose" && len(c.args) == 2:
		return disposeOf(ctx, c, c.args[1])
	case c.arg(0) == "inspect" && len(c.args) == 2:
		return inspect(ctx, c, c.args[1])
	case c.arg(0) == "inspect" || c.arg(0) == "dispose":
		return fmt.Errorf("%w: want %s %s PATH", errUsage, c.name, c.args[0])
	}
	if err := c.none(2); err != nil {
		return err
	}
	name, dir := c.arg(0), c.dir
	if len(c.args) == 2 {
		dir = c.args[1]
	}
	// One argument with a slash is a directory, as long as no job has that name.
	if strings.Contains(name, "/") && len(c.args) == 1 && dir == "" {
		if all, err := c.rest.Jobs(ctx); err == nil && !slices.ContainsFunc(all, func(j client.Job) bool { return j.Name == name }) {
			name, dir = "", name
		}
	}
	j, err := c.job(ctx, name)
	if err != nil {
		return err
	}
	if dir, err = absolute(dir); err != nil {
		return err
	}
	c.say("Triggering savepoint for job %s (%s).", j.ID, j.Name)
	t, err := c.rest.Savepoint(ctx, j.ID, dir)
	if err != nil {
		return err
	}
	return c.savepointDone(ctx, j, t)
}

// savepointDone waits for a savepoint and says where it is.
func (c *call) savepointDone(ctx context.Context, j *client.Job, t client.Trigger) error {
	r, err := c.wait(ctx, "savepoint", j, t)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(map[string]string{"job": j.ID, "name": j.Name, "path": r.Path}, "")
	}
	return c.print(nil, fmt.Sprintf("Savepoint completed. Path: %s\n", r.Path))
}

func checkpointFlags(c *call, fs *flag.FlagSet) {
	fs.BoolVar(&c.full, "full", false, "write all state, so that it depends on no earlier checkpoint")
}

// takeCheckpoint takes a checkpoint now.
func takeCheckpoint(ctx context.Context, c *call) error {
	if err := c.none(1); err != nil {
		return err
	}
	j, err := c.job(ctx, c.arg(0))
	if err != nil {
		return err
	}
	c.say("Triggering checkpoint for job %s (%s).", j.ID, j.Name)
	t, err := c.rest.Checkpoint(ctx, j.ID, c.full)
	if err != nil {
		return err
	}
	r, err := c.wait(ctx, "checkpoint", j, t)
	if err != nil {
		return err
	}
	if c.json {
		return c.print(map[string]any{"job": j.ID, "name": j.Name, "checkpoint": r.Checkpoint}, "")
	}
	return c.print(nil, fmt.Sprintf("Checkpoint %d for job %s completed.\n", r.Checkpoint, j.ID))
}

func disposeOf(ctx context.Context, c *call, path string) error {
	path, err := absolute(path)
	if err != nil {
		return err
	}
	c.say("Disposing savepoint %q.", path)
	t, err := c.rest.Dispose(ctx, path)
	if err != nil {
		return err
	}
	w := c.waiting("disposing")
	defer w.end()
	if _, err := c.rest.Wait(ctx, t, func() { w.tick("") }); err != nil {
		return err
	}
	w.end()
	if c.json {
		return c.print(map[string]string{"disposed": path}, "")
	}
	return c.print(nil, fmt.Sprintf("Savepoint %q disposed.\n", path))
}

// wait waits for a checkpoint or savepoint and shows how far it is.
func (c *call) wait(ctx context.Context, what string, j *client.Job, t client.Trigger) (client.Result, error) {
	w := c.waiting(what)
	defer w.end()
	r, err := c.rest.Wait(ctx, t, func() {
		w.tick(c.progressOf(ctx, j.ID, what == "savepoint"))
	})
	var e *client.Error
	switch {
	case err == nil:
	case errors.Is(err, client.ErrUnreachable):
		err = fmt.Errorf("the process went away before it said how the %s went: %w", what, err)
	case errors.As(err, &e) && e.Status == http.StatusNotFound:
		err = fmt.Errorf("the process does not know the %s any more, it was started anew: %w", what, err)
	}
	return r, err
}

// progressOf says how far the newest one under way is; nothing when that is not known.
func (c *call) progressOf(ctx context.Context, job string, savepoint bool) string {
	all, err := c.rest.Checkpoints(ctx, job)
	if err != nil {
		return "" // Wait will say it
	}
	for _, k := range all.History {
		if k.Status == "IN_PROGRESS" && k.Savepoint == savepoint {
			return fmt.Sprintf("number %d, %d of %d subtasks, %s written", k.ID, k.Acked, k.Subtasks, bytesOf(k.Written))
		}
	}
	return ""
}

// waiting shows that something is under way: on a terminal one live line, elsewhere a line each ten seconds, on the standard error.
type waiting struct {
	console *console
	what    string
	began   time.Time
	next    time.Time
}

func (c *call) waiting(what string) *waiting {
	now := time.Now()
	return &waiting{console: newConsole(c.env.stderr, isTerminal(c.env.stderr)), what: what, began: now, next: now.Add(logInterval)}
}

func (w *waiting) tick(detail string) {
	line := fmt.Sprintf("%s: %s", w.what, time.Since(w.began).Round(time.Second))
	if detail != "" {
		line += ", " + detail
	}
	if w.console.live {
		w.console.draw([]string{line})
		return
	}
	if now := time.Now(); !now.Before(w.next) {
		w.next = now.Add(logInterval)
		fmt.Fprintln(w.console, line)
	}
}

func (w *waiting) end() { w.console.draw(nil) }
