package cli

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/config"
)

// Options are what the process was started with.
type Options struct {
	// Name is the program's name, and that of its job unless pipeline.name says otherwise.
	Name string
	// DataDir is --data-dir; by default ./rivulet-data/NAME.
	DataDir string
	// Memory is --memory, the process's resident total in bytes; 0 when it is not set.
	Memory config.Bytes
	// FromSavepoint is --from-savepoint; Claim says that it becomes the job's own.
	FromSavepoint string
	Claim         bool
	// AllowNonRestoredState, AllowDuplicates, Fresh and Check are the options of that name.
	AllowNonRestoredState, AllowDuplicates, Fresh, Check bool
	// RESTAddress is --rest-address, HOST:PORT; "off" is no REST.
	RESTAddress string
	// RPCAddress is --rpc-address, HOST:PORT: where the other processes of the cluster find this one.
	RPCAddress string
	// JobManagers are those of --jobmanager; Slots is --slots.
	JobManagers []string
	Slots       int
	// Session is --session: jobs are submitted while the process runs.
	Session bool
	// ConfigDir is --config-dir: the directory of config.yaml.
	ConfigDir string
	// Settings are those of config.yaml, of the environment and of -D, in rising strength.
	Settings []config.Setting
	// Config is Settings, checked.
	Config *config.Config
	// Args are the job's own options and arguments, as they were given: what a TaskManager needs to build the same graph.
	Args []string

	role          role
	jobManagers   string // as they were given
	logLevel      slog.Level
	restPorts     []int        // to try when that of RESTAddress is taken
	listener      net.Listener // of REST, opened before anything starts; nil for none
	version, help bool
}

// role is what a process is in a cluster.
type role int

const (
	mini        role = iota // all of it
	jobManager              // the JobManager
	taskManager             // a TaskManager
)

// defaultRPC is where a JobManager listens for TaskManagers, and they look for it, when nothing else is said.
const defaultRPC = "127.0.0.1:6123"

// defaultREST is where REST listens when nothing else is said: on loopback, since it needs no password.
const defaultREST = "127.0.0.1:8081"

// errUsage is wrapped by errors about the command line.
var errUsage = errors.New("usage")

// parse reads a command line: the process's options, and those that job defined for itself (nil for none).
func parse(name string, r role, job *flag.FlagSet, args []string) (*Options, *flag.FlagSet, error) {
	o := &Options{Name: name, role: r}
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	o.define(fs)
	if job != nil {
		var clash []string
		job.VisitAll(func(f *flag.Flag) {
			if fs.Lookup(f.Name) != nil {
				clash = append(clash, "--"+f.Name)
				return
			}
			fs.Var(f.Value, f.Name, f.Usage)
			fs.Lookup(f.Name).DefValue = f.DefValue
		})
		if len(clash) > 0 {
			return nil, fs, fmt.Errorf("%w: the program defines %s, which Rivulet defines too: choose another name", errUsage, strings.Join(clash, ", "))
		}
	}
	if err := fs.Parse(split(args)); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			o.help = true
			return o, fs, nil
		}
		return nil, fs, fmt.Errorf("%w: %s", errUsage, explain(err, fs))
	}
	if job == nil && fs.NArg() > 0 {
		return nil, fs, fmt.Errorf("%w: %q: no argument is expected%s", errUsage, fs.Arg(0), didYouMean(fs.Arg(0), commandNames(), ""))
	}
	fs.Visit(func(f *flag.Flag) {
		if job != nil && job.Lookup(f.Name) != nil {
			o.Args = append(o.Args, "--"+f.Name+"="+f.Value.String())
		}
	})
	if fs.NArg() > 0 && strings.HasPrefix(fs.Arg(0), "-") {
		o.Args = append(o.Args, "--") // it is no option, wherever it is read again
	}
	o.Args = append(o.Args, fs.Args()...)
	if job != nil {
		// What is left over is the job's: its flag.Args. Its own flags are set already.
		if err := job.Parse(append([]string{"--"}, fs.Args()...)); err != nil {
			return nil, fs, fmt.Errorf("%w: %w", errUsage, err)
		}
	}
	return o, fs, o.finish(fs)
}

// define defines the process's options.
func (o *Options) define(fs *flag.FlagSet) {
	fs.Var((*bytesValue)(&o.Memory), "memory", "the process's resident total, a `SIZE` such as 256MB: the job FAILS with a message at 90 % of it instead of being killed (default: starts at 48MB and grows with the state)")
	fs.Var(&settingsValue{o}, "D", "set an option of Flink's, `KEY=VALUE`, such as -D parallelism.default=4; may be repeated")
	fs.StringVar(&o.ConfigDir, "config-dir", "", "read Flink's options from config.yaml in `DIR` (default: $"+envConfDir+"; without it none is read)")
	fs.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "log `LEVEL` and above: debug, info, warn or error")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	if o.role == taskManager {
		fs.StringVar(&o.DataDir, "data-dir", "", "be known again by what is kept in `DIR` when it is started anew: tasks of a process that was killed go on at once then; one process uses it at a time (default: it is a new TaskManager each time)")
		fs.StringVar(&o.jobManagers, "jobmanager", "", "register with the JobManager at `HOST:PORT`; several, separated by commas, are asked for the one that leads (default "+defaultRPC+", or what jobmanager.rpc.address and jobmanager.rpc.port say)")
		fs.IntVar(&o.Slots, "slots", 0, "offer `N` slots: each runs one subtask of every vertex (default 1, or taskmanager.numberOfTaskSlots)")
		fs.StringVar(&o.RPCAddress, "rpc-address", "", "be found by the JobManager and other TaskManagers at `HOST:PORT` (default: what taskmanager.host and taskmanager.rpc.port say; without them a free port of the address by which this machine reaches the JobManager)")
		fs.StringVar(&o.RESTAddress, "rest-address", "127.0.0.1:0", "serve health and metrics at `HOST:PORT`; \"off\" serves none")
		return
	}
	fs.BoolVar(&o.Session, "session", false, "run no job yet: those are submitted over REST (GET /jars lists the program, POST /jars/PROGRAM/run starts a job of it), and the ones that are left from before go on")
	if o.role == jobManager {
		fs.StringVar(&o.RPCAddress, "rpc-address", "", "be found by TaskManagers at `HOST:PORT` (default "+defaultRPC+", or what jobmanager.rpc.address and jobmanager.rpc.port say)")
	}
	fs.StringVar(&o.DataDir, "data-dir", "", "keep checkpoints, savepoints and what is known of the job in `DIR`; one process uses it at a time (default ./rivulet-data/"+o.Name+")")
	fs.StringVar(&o.FromSavepoint, "from-savepoint", "", "start from the savepoint or checkpoint in the directory `PATH`")
	fs.BoolVar(&o.Claim, "claim", false, "make the savepoint the job's own: it is deleted when it is not needed any more")
	fs.BoolVar(&o.AllowNonRestoredState, "allow-non-restored-state", false, "start although the program has no operator for some of the stored state, which is dropped")
	fs.BoolVar(&o.AllowDuplicates, "allow-duplicates", false, "when the newest checkpoint is damaged and its output may have been committed, go back to the one before it, doubling output")
	fs.BoolVar(&o.Fresh, "fresh", false, "start without the state that the job has in the data directory, and even if the job has ended")
	fs.BoolVar(&o.Check, "check", false, "compare the program with the state that it would start from, print what is kept, new, dropped and refused, and exit (0 when it can start)")
	fs.StringVar(&o.RESTAddress, "rest-address", defaultREST, "serve REST and metrics at `HOST:PORT`; \"off\" serves none")
}

// finish checks what was read, and fills in what follows from -D.
func (o *Options) finish(fs *flag.FlagSet) error {
	if o.version {
		return nil
	}
	var errs []error
	given := map[string]bool{}
	fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
	var err error
	if o.Settings, err = o.layers(); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	if o.Config, err = config.New(o.Settings...); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	// -D is stronger than an option of its own, and that is stronger than the environment and the file.
	ask := func(option string, origins ...string) bool { return !given[option] || slices.Contains(origins, "-D") }
	c := o.Config
	if ask("from-savepoint", config.Origin(c, config.RestorePath)) {
		o.FromSavepoint, err = config.Get(c, config.RestorePath)
		errs = append(errs, err)
	}
	if ask("allow-non-restored-state", config.Origin(c, config.RestoreIgnoreUnclaimed)) {
		o.AllowNonRestoredState, err = config.Get(c, config.RestoreIgnoreUnclaimed)
		errs = append(errs, err)
	}
	if ask("claim", config.Origin(c, config.RestoreClaimMode)) {
		mode, err := config.Get(c, config.RestoreClaimMode)
		errs = append(errs, err)
		o.Claim = mode == config.Claim
	}
	if o.role != jobManager && ask("memory", config.Origin(c, config.ProcessMemory)) {
		o.Memory, err = config.Get(c, config.ProcessMemory)
		errs = append(errs, err)
	}
	const least = 24 << 20
	if o.Memory != 0 && o.Memory < least {
		errs = append(errs, fmt.Errorf("--memory %s: want at least 24MB", o.Memory))
	}
	if o.role != taskManager && ask("rest-address", config.Origin(c, config.RestBindAddress), config.Origin(c, config.RestPort), config.Origin(c, config.RestBindPorts)) {
		o.RESTAddress, o.restPorts, err = restAddress(o.Config)
		errs = append(errs, err)
	}
	finder := []string{config.Origin(c, config.JobManagerAddress), config.Origin(c, config.JobManagerPort)}
	if o.role == taskManager && !ask("jobmanager", finder...) {
		o.JobManagers = strings.Split(o.jobManagers, ",")
		for _, a := range o.JobManagers {
			errs = append(errs, hostPort("--jobmanager", a))
		}
	}
	if o.role == taskManager {
		finder = []string{config.Origin(c, config.TaskManagerHost), config.Origin(c, config.TaskManagerPort)}
		if ask("slots", config.Origin(c, config.TaskSlots)) {
			o.Slots, err = config.Get(c, config.TaskSlots)
			errs = append(errs, err)
		}
	}
	if ask("rpc-address", finder...) {
		o.RPCAddress = "" // as the settings say
	} else {
		errs = append(errs, hostPort("--rpc-address", o.RPCAddress))
	}
	if o.Slots < 0 {
		errs = append(errs, fmt.Errorf("--slots %d: want at least 1", o.Slots))
	}
	if o.RESTAddress != "off" {
		if _, _, err := net.SplitHostPort(o.RESTAddress); err != nil {
			errs = append(errs, fmt.Errorf("--rest-address %q: want HOST:PORT, such as %s", o.RESTAddress, defaultREST))
		}
	}
	if config.IsSet(o.Config, config.JobName) {
		o.Name, err = config.Get(o.Config, config.JobName)
		errs = append(errs, err)
	}
	if o.DataDir == "" && o.role != taskManager {
		o.DataDir = "rivulet-data/" + dirName(o.Name)
	}
	if o.Session && (o.Check || o.Fresh || o.FromSavepoint != "" || len(o.Args) > 0) {
		errs = append(errs, errors.New("--session: no job is run yet, so that its own arguments, --check, --fresh and --from-savepoint mean nothing"))
	}
	if o.Fresh && o.Check {
		errs = append(errs, errors.New("--fresh and --check: a fresh start has no state to compare with"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return nil
}

func hostPort(option, address string) error {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return fmt.Errorf("%s %q: want HOST:PORT, such as %s", option, address, defaultRPC)
	}
	return nil
}

// Where the environment has settings: a directory with config.yaml, and a text like that file's.
const (
	envConfDir    = "RIVULET_CONF_DIR"
	envProperties = "RIVULET_PROPERTIES"
)

// layers reads the settings of the file and of the environment, and puts those of -D over them.
func (o *Options) layers() ([]config.Setting, error) {
	var all []config.Setting
	var errs []error
	dir := cmp.Or(o.ConfigDir, os.Getenv(envConfDir))
	if dir != "" {
		name := filepath.Join(dir, "config.yaml")
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--config-dir, $%s: %w", envConfDir, err)
		}
		file, err := config.Parse(text, name)
		all, errs = append(all, file...), append(errs, err)
	}
	env, err := config.Parse([]byte(os.Getenv(envProperties)), "$"+envProperties)
	return slices.Concat(all, env, o.Settings), errors.Join(append(errs, err)...)
}

// restAddress puts rest.bind-address and the first of the ports together, and returns the others, which are tried in turn.
func restAddress(c *config.Config) (address string, more []int, err error) {
	host, err := config.Get(c, config.RestBindAddress)
	if err != nil {
		return "", nil, err
	}
	port, err := config.Get(c, config.RestPort)
	if err != nil {
		return "", nil, err
	}
	ports, err := config.Get(c, config.RestBindPorts)
	if err != nil {
		return "", nil, err
	}
	if len(ports) > 0 {
		port, more = ports[0], ports[1:]
	}
	return net.JoinHostPort(host, fmt.Sprint(port)), more, nil
}

// dataRoot is the data directory, as an absolute path.
func (o *Options) dataRoot() string {
	if d, err := filepath.Abs(o.DataDir); err == nil {
		return d
	}
	return o.DataDir
}

// dirName makes one path element of a job's name.
func dirName(name string) string {
	clean := strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
			return '_'
		}
		return r
	}, name)
	if strings.Trim(clean, ".") == "" {
		return "job"
	}
	return clean
}

// split takes "-Dkey=value" apart, which package flag does not.
func split(args []string) []string {
	var out []string
	for i, a := range args {
		if a == "--" {
			return append(out, args[i:]...)
		}
		if rest, ok := strings.CutPrefix(a, "-D"); ok && rest != "" && !strings.HasPrefix(rest, "=") {
			out = append(out, "-D", rest)
			continue
		}
		out = append(out, a)
	}
	return out
}

// explain says what is wrong in our words, with the nearest option where there is one.
func explain(err error, fs *flag.FlagSet) string {
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "flag provided but not defined: -"); ok {
		name = strings.TrimPrefix(name, "-")
		var names []string
		fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
		return fmt.Sprintf("unknown option --%s%s", name, didYouMean(name, names, "--"))
	}
	return msg
}

// didYouMean names the nearest of the known names, if one is near.
func didYouMean(name string, known []string, prefix string) string {
	best, distance := "", len(name)/3+2
	for _, k := range known {
		if d := edits(name, k); d < distance {
			best, distance = k, d
		}
	}
	if best == "" {
		return "; --help lists all"
	}
	return fmt.Sprintf("; did you mean %s%s?", prefix, best)
}

// edits counts the insertions, removals and replacements of bytes between two names.
func edits(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j]+1, row[j+1]+1)
			if a[i] == b[j] {
				next = min(next, diagonal)
			} else {
				next = min(next, diagonal+1)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}

// bytesValue is a size on the command line.
type bytesValue config.Bytes

func (v *bytesValue) String() string {
	if v == nil || *v == 0 {
		return ""
	}
	return config.Bytes(*v).String()
}

// Set implements flag.Value.
func (v *bytesValue) Set(s string) error {
	n, err := config.ParseBytes(s)
	*v = bytesValue(n)
	return err
}

// settingsValue collects -D.
type settingsValue struct{ o *Options }

func (v *settingsValue) String() string { return "" }

// Set implements flag.Value.
func (v *settingsValue) Set(s string) error {
	setting, err := config.ParseSetting(s)
	if err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "-D "))
	}
	v.o.Settings = append(v.o.Settings, setting)
	return nil
}

// usage writes --help.
func usage(w io.Writer, name string, r role, fs, job *flag.FlagSet, jobless bool) {
	var b strings.Builder
	switch {
	case r == jobManager && jobless:
		fmt.Fprintf(&b, "Usage: %s [OPTIONS]\n\nRuns the JobManager of a cluster until it is terminated. TaskManagers find it at --rpc-address.\n", name)
	case r == jobManager:
		fmt.Fprintf(&b, "Usage: %s [OPTIONS]\n\nRuns the JobManager of the job, and the job on the TaskManagers that find it at --rpc-address, until the job ends. SIGTERM suspends it: the next start goes on where it was.\n", name)
	case r == taskManager:
		fmt.Fprintf(&b, "Usage: %s [OPTIONS]\n\nRuns tasks for the JobManager until it is terminated. The job's own options come from there.\n", name)
	case jobless:
		fmt.Fprintf(&b, "Usage: %s [OPTIONS]\n       %s COMMAND [ARGUMENTS]\n\nRuns a Rivulet cluster in this process until it is terminated.\n", name, name)
	default:
		fmt.Fprintf(&b, "Usage: %s [OPTIONS]\n       %s COMMAND [ARGUMENTS]\n\nRuns the job in this process until it ends. SIGTERM suspends it: the next start goes on where it was.\n", name, name)
	}
	section := func(title string, want func(string) bool) {
		var flags strings.Builder
		if describeFlags(&flags, fs, want); flags.Len() > 0 {
			fmt.Fprintf(&b, "\n%s\n%s", title, flags.String())
		}
	}
	own := func(n string) bool { return job != nil && job.Lookup(n) != nil }
	section("Options of the job:", own)
	section("Options of the process:", func(n string) bool { return !own(n) })
	b.WriteString("\nOptions of Flink, in rising strength from config.yaml, from $" + envProperties + " (lines like that file's) and with -D; docs/config.md says what they mean:\n")
	for name, value := range config.Defaults {
		fmt.Fprintf(&b, "  %s%s\n", name, map[bool]string{true: " (default " + value + ")"}[value != ""])
	}
	if r == mini {
		b.WriteString("\nCommands:\n")
		for _, n := range commandNames() {
			fmt.Fprintf(&b, "  %-22s %s\n", n, commands[n].summary)
		}
	}
	_, _ = io.WriteString(w, b.String())
}

// describeFlags writes the options that are wanted (nil for all), in alphabetical order.
func describeFlags(b *strings.Builder, fs *flag.FlagSet, want func(name string) bool) {
	var names []string
	fs.VisitAll(func(f *flag.Flag) {
		if want == nil || want(f.Name) {
			names = append(names, f.Name)
		}
	})
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	for _, n := range names {
		f := fs.Lookup(n)
		kind, text := flag.UnquoteUsage(f)
		dash := "--"
		if len(n) == 1 {
			dash = "-"
		}
		head := dash + n
		if kind != "" {
			head += " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" && !strings.Contains(text, "(default") {
			text += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(b, "  %s\n", head)
		for _, line := range wrap(text, 92) {
			fmt.Fprintf(b, "        %s\n", line)
		}
	}
}

// wrap breaks text into lines of at most width bytes.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
