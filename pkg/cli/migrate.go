package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rivulet-io/rivulet/pkg/client"
)

func init() {
	k := clientCommand{
		summary: "move a job to another cluster: stop it with a savepoint, start it there, or else where it was", args: "[JOB] [-- ARGUMENTS OF THE JOB]", run: migrate,
	}
	commands["migrate"] = command{summary: k.summary, run: func(ctx context.Context, env commandEnv, args []string) int {
		var job []string
		if i := slices.Index(args, "--"); i >= 0 {
			args, job = args[:i], args[i+1:]
		}
		k := k
		k.flags = func(c *call, fs *flag.FlagSet) {
			c.migrate.args = job
			migrateFlags(c, fs)
		}
		return k.main(ctx, env, "migrate", args)
	}}
}

// migration is one run of the command. Its law: there are never two running copies of the job. The source has stopped before the target is asked to start; the source
// starts again only when the target has said that it does not run the job, and that the job has taken no checkpoint there, by which it would have committed output.
type migration struct {
	c        *call
	from, to *client.Client
	// job is what is moved; its id is the source's.
	job client.Job
	// savepoint is that of the stop, empty before it.
	savepoint string
	// program is what runs at the target, back at the source; empty where the source has none.
	program, back string
	parallelism   int // at the source, 0 when it is not known
	// release lets the source end, which may end with its job.
	release func()
	outcome outcome
}

// outcome is what --json writes.
type outcome struct {
	Job       string `json:"job"`
	From      string `json:"from,omitempty"`
	To        string `json:"to"`
	Savepoint string `json:"savepoint,omitempty"`
	// Carried is where the savepoint's files are at the target, when it could not read them where they were.
	Carried string `json:"carried,omitempty"`
	// Result is "checked", "migrated", "rolled-back", or "open".
	Result string `json:"result"`
	// Running says where the job runs, and as which id; empty when it runs nowhere, or that is not known.
	Running string `json:"running,omitempty"`
	ID      string `json:"id,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

func migrateFlags(c *call, fs *flag.FlagSet) {
	fs.StringVar(&c.migrate.from, "from", "", "the REST address of the process that runs the job, `URL` (default: that of --rest-address)")
	fs.StringVar(&c.migrate.to, "to", "", "the REST address of the cluster that is to run it, `URL`; the job's program is linked into it")
	fs.StringVar(&c.migrate.job, "job", "", "the job's `NAME` or id; it may be left out when there is one job only")
	fs.StringVar(&c.migrate.program, "program", "", "the program's `NAME` at the target (default: the job's name)")
	fs.StringVar(&c.migrate.dir, "savepoint-dir", "", "write the savepoint below the directory `DIR` (default: where the source keeps savepoints); its files are carried if the target does not read them there")
	fs.StringVar(&c.migrate.savepoint, "savepoint", "", "go on with the savepoint at `PATH` of a migration that was interrupted when the job was stopped already")
	fs.IntVar(&c.migrate.parallelism, "parallelism", 0, "run it with parallelism `N` (default: the target's)")
	fs.BoolVar(&c.migrate.lossy, "allow-non-restored-state", false, "start although the program has no operator for some of the stored state, which is dropped")
	fs.BoolVar(&c.migrate.check, "check", false, "check all that can be checked beforehand, and change nothing")
	fs.DurationVar(&c.migrate.timeout, "timeout", 2*time.Minute, "how long the job may take until it runs at the target and has taken a checkpoint: `TIME`, such as 30s")
}

// migrateOptions are the command's own.
type migrateOptions struct {
	from, to, job, program, dir, savepoint string
	parallelism                            int
	lossy, check                           bool
	timeout                                time.Duration
	args                                   []string // the job's own
}

// migrate is the command.
func migrate(ctx context.Context, c *call) error {
	o := &c.migrate
	if o.to == "" {
		return fmt.Errorf("%w: --to is missing: where the job is to run", errUsage)
	}
	m := &migration{c: c, from: c.rest, to: client.New(o.to), release: func() {}}
	if o.from != "" {
		m.from = client.New(o.from)
	}
	if err := c.none(1); err != nil {
		return err
	}
	if o.job == "" {
		o.job = c.arg(0)
	}
	if m.from.Address() == m.to.Address() {
		return fmt.Errorf("%w: --from and --to are both %s", errUsage, m.to.Address())
	}
	err := m.run(ctx)
	m.outcome.Job, m.outcome.From, m.outcome.To, m.outcome.Savepoint = m.job.Name, m.from.Address(), m.to.Address(), m.savepoint
	if err != nil && !errors.Is(err, errUsage) && c.json {
		m.outcome.Reason = err.Error()
		if m.outcome.Result == "" {
			m.outcome.Result = "open"
		}
	}
	if c.json && !errors.Is(err, errUsage) {
		err = errors.Join(err, c.print(m.outcome, ""))
	}
	return err
}

func (m *migration) run(ctx context.Context) error {
	o := &m.c.migrate
	if err := m.look(ctx); err != nil {
		return err
	}
	if m.outcome.Running != "" {
		m.outcome.Result = "migrated"
		m.c.say("Job %q runs at %s as %s already.", m.job.Name, m.to.Address(), m.outcome.ID)
		return nil
	}
	err := m.checkTarget(ctx)
	if err == nil {
		err = m.checkState(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w; nothing was changed", err)
	}
	if o.check {
		m.outcome.Result = "checked"
		m.c.say("Job %q can be moved to %s. Nothing was changed.", m.job.Name, m.to.Address())
		return nil
	}
	if m.savepoint == "" {
		release, err := m.from.Hold(ctx)
		switch {
		case err == nil:
			m.release = sync.OnceFunc(release)
			defer m.release()
		case !client.NotFound(err): // a server of an older release has no holds
			return fmt.Errorf("%w; nothing was changed", err)
		}
		if err := m.stop(ctx); err != nil {
			return err
		}
	}
	at, err := m.bring(ctx)
	if err != nil {
		return m.rollBack(ctx, "", false, err)
	}
	m.release()
	id, started, err := m.start(ctx, m.to, m.program, at, o.parallelism)
	if err == nil {
		m.outcome.Result, m.outcome.Running, m.outcome.ID = "migrated", m.to.Address(), id
		m.c.say("Job %q runs at %s as %s.", m.job.Name, m.to.Address(), id)
		return nil
	}
	return m.rollBack(ctx, id, started, err)
}

// look finds the job at the source, and whether the source could start it again.
func (m *migration) look(ctx context.Context) error {
	o := &m.c.migrate
	if o.savepoint != "" {
		if o.job == "" {
			return fmt.Errorf("%w: --savepoint needs --job, the job's name", errUsage)
		}
		m.savepoint, m.job.Name = o.savepoint, o.job
		jobs, err := m.from.Jobs(ctx)
		if err != nil && !errors.Is(err, client.ErrUnreachable) {
			return err
		}
		for _, j := range jobs {
			if j.Name == o.job && !j.Ended() {
				return fmt.Errorf("job %q runs at %s, it is %s: it is moved without --savepoint", o.job, m.from.Address(), j.State)
			}
		}
	} else {
		source := *m.c
		source.rest = m.from
		j, err := source.job(ctx, o.job)
		if errors.Is(err, client.ErrUnreachable) {
			return fmt.Errorf("%w; if a migration was interrupted when it had stopped the job, give the savepoint that it named as --savepoint PATH", err)
		}
		if err != nil {
			return err
		}
		m.job = *j
		if j.Ended() {
			if id := m.arrived(ctx); id != "" {
				m.outcome.Running, m.outcome.ID = m.to.Address(), id
				return m.await(ctx, m.to, id)
			}
			err := fmt.Errorf("job %q is %s at %s: there is nothing to stop", j.Name, j.State, m.from.Address())
			if k, kerr := m.from.Checkpoints(ctx, j.ID); kerr == nil && j.State == "FINISHED" && k.Latest.Savepoint != nil {
				err = fmt.Errorf("%w. If it was stopped with its last savepoint, go on with --job %s --savepoint %s", err, j.Name, k.Latest.Savepoint.Path)
			}
			return err
		}
		if j.State != "RUNNING" {
			return fmt.Errorf("job %q is %s at %s: a job that does not run cannot be stopped with a savepoint", j.Name, j.State, m.from.Address())
		}
	}
	if m.job.ID != "" {
		d, err := m.from.Job(ctx, m.job.ID)
		if err != nil {
			return err
		}
		for _, v := range d.Vertices {
			m.parallelism = max(m.parallelism, v.Parallelism)
		}
	}
	m.program = o.program
	if m.program == "" {
		m.program = m.job.Name
	}
	if programs, err := m.from.Programs(ctx); err == nil {
		if p, ok := find(programs, m.program); ok {
			m.back = p.ID
		}
	}
	return nil
}

// arrived returns the id of the job at the target, if it runs there: an earlier run of the command got that far.
func (m *migration) arrived(ctx context.Context) string {
	jobs, err := m.named(ctx, m.to)
	if err != nil {
		return "" // the source's state is what is told
	}
	i := slices.IndexFunc(jobs, func(j client.Job) bool { return !j.Ended() })
	if i < 0 {
		return ""
	}
	return jobs[i].ID
}

// find finds a program by its name or id.
func find(programs []client.Program, name string) (client.Program, bool) {
	i := slices.IndexFunc(programs, func(p client.Program) bool { return p.Name == name || p.ID == name })
	if i < 0 {
		return client.Program{}, false
	}
	return programs[i], true
}

// checkTarget checks what can be checked before anything is stopped.
func (m *migration) checkTarget(ctx context.Context) error {
	o := &m.c.migrate
	programs, err := m.to.Programs(ctx)
	if err != nil {
		return err
	}
	if len(programs) == 0 {
		return fmt.Errorf("%s takes in no jobs but those that it was started with: start the job there with --from-savepoint, or start that process with --session", m.to.Address())
	}
	p, ok := find(programs, m.program)
	if !ok {
		var have []string
		for _, p := range programs {
			have = append(have, p.Name)
		}
		return fmt.Errorf("%s has no program %q; it has %q (--program NAME says which to run)", m.to.Address(), m.program, have)
	}
	m.program = p.ID
	jobs, err := m.to.Jobs(ctx)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.Name == m.job.Name && !j.Ended() {
			return fmt.Errorf("%s runs a job %q already, %s, which is %s", m.to.Address(), j.Name, j.ID, j.State)
		}
	}
	need := max(o.parallelism, 1)
	if o.parallelism == 0 {
		need = max(need, m.parallelism)
	}
	total, free, err := m.to.Slots(ctx)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("%s has %d of %d slots free, and job %q needs %d: add TaskManagers, or give a smaller --parallelism", m.to.Address(), free, total, m.job.Name, need)
	}
	return nil
}

// checkState compares the target's program with the job's state, as its newest checkpoint has it, or its savepoint. What cannot be asked is left to the start.
func (m *migration) checkState(ctx context.Context) error {
	o := &m.c.migrate
	path := m.savepoint
	var refusal *client.Error
	for range 3 { // a checkpoint may be gone when a newer one has been taken
		if m.savepoint == "" {
			k, err := m.from.Checkpoints(ctx, m.job.ID)
			if client.NotFound(err) || err == nil && k.Latest.Completed == nil {
				return nil
			}
			if err != nil {
				return err
			}
			path = k.Latest.Completed.Path
		}
		metadata, err := m.from.Metadata(ctx, path)
		if client.NotFound(err) && m.savepoint == "" {
			continue
		}
		if errors.As(err, &refusal) || m.savepoint != "" && errors.Is(err, client.ErrUnreachable) || err == nil && metadata == nil {
			return nil
		}
		if err != nil {
			return err
		}
		ok, text, err := m.to.Check(ctx, m.program, client.Start{Name: m.job.Name, AllowNonRestoredState: o.lossy, Parallelism: o.parallelism, Args: o.args}, metadata)
		switch {
		case client.NotFound(err): // a server of an older release
			return nil
		case err != nil:
			return fmt.Errorf("%s would not run it: %w", m.to.Address(), err)
		case !ok:
			m.c.say("%s", strings.TrimSuffix(text, "\n"))
			return fmt.Errorf("the program at %s does not fit the job's state", m.to.Address())
		}
		return nil
	}
	return nil
}

// stop stops the job at the source.
func (m *migration) stop(ctx context.Context) error {
	m.c.say("Stopping job %q (%s) at %s with a savepoint.", m.job.Name, m.job.ID, m.from.Address())
	t, err := m.from.Stop(ctx, m.job.ID, m.c.migrate.dir, false)
	if err == nil {
		w := m.c.waiting("stopping")
		var r client.Result
		r, err = m.from.Wait(ctx, t, func() { w.tick("") })
		w.end()
		m.savepoint = r.Path
	}
	switch {
	case err == nil:
		m.c.say("Stopped. Savepoint: %s", m.savepoint)
		return nil
	case errors.Is(err, client.ErrUnreachable), ctx.Err() != nil:
		return fmt.Errorf("whether job %q has stopped at %s is not known: %w; it was not started anywhere. When the source answers, `list -a` tells; if the job has stopped, go on with --job %s --savepoint and the savepoint's path",
			m.job.Name, m.from.Address(), err, m.job.Name)
	}
	m.outcome.Running, m.outcome.ID = m.from.Address(), m.job.ID
	return fmt.Errorf("job %q did not stop: %w; it is left at %s, and was not started anywhere else", m.job.Name, err, m.from.Address())
}

// carries is how often the files are carried from the first to the last, when the target has forgotten what it has of them or nobody answers.
const carries = 3

// bring returns where the target finds the savepoint. It carries its files there unless the target reads the same ones.
func (m *migration) bring(ctx context.Context) (string, error) {
	reads, err := m.reads(ctx)
	if err != nil {
		return "", err
	}
	if reads {
		return m.savepoint, nil
	}
	m.c.say("%s does not read the savepoint there: carrying its files.", m.to.Address())
	w := m.c.waiting("carrying")
	defer w.end()
	for n := 1; ; n++ {
		var bytes int64
		events := time.Now()
		at, err := client.CopySnapshot(ctx, m.from, m.savepoint, m.to, func(done, total int64) {
			bytes = total
			w.tick(fmt.Sprintf("%s of %s", bytesOf(done), bytesOf(total)))
			if now := time.Now(); m.c.json && (done == total || now.After(events)) {
				events = now.Add(drawInterval)
				fmt.Fprintf(w.console, `{"event":"carrying","done":%d,"total":%d}`+"\n", done, total)
			}
		})
		if err == nil {
			w.end()
			m.outcome.Carried = at
			m.c.say("Carried: %s in %s", bytesOf(bytes), at)
			return at, nil
		}
		if n == carries || ctx.Err() != nil || !errors.Is(err, client.ErrUnreachable) && !client.NotFound(err) {
			return "", err
		}
		if err := client.Pause(ctx, time.Second); err != nil {
			return "", err
		}
	}
}

// reads reports whether a job can start at the target from the savepoint where it is: what lies there for the target is what lies there for the source. One that was named
// and that the source does not have is the target's to find.
func (m *migration) reads(ctx context.Context) (bool, error) {
	var refusal *client.Error
	named := m.c.migrate.savepoint != ""
	if strings.HasPrefix(m.savepoint, "jobmanager:") && !named {
		return false, nil // each cluster has its own
	}
	have, err := m.from.SnapshotIdentity(ctx, m.savepoint)
	switch {
	case named && (errors.Is(err, client.ErrUnreachable) || errors.As(err, &refusal)):
		return true, nil
	case errors.As(err, &refusal):
		return false, nil // it may hand it out all the same
	case err != nil:
		return false, err
	}
	if strings.HasPrefix(m.savepoint, "jobmanager:") {
		return false, nil
	}
	sees, err := m.to.SnapshotIdentity(ctx, m.savepoint)
	if errors.As(err, &refusal) {
		return false, nil
	}
	return err == nil && sees == have, err
}

// start starts the job from the savepoint, which is where the server finds it, and waits until it runs and has taken a checkpoint. started is false when the server refused it, or did not hear of it.
func (m *migration) start(ctx context.Context, at *client.Client, program, savepoint string, parallelism int) (id string, started bool, err error) {
	before, err := m.named(ctx, at)
	if err != nil {
		return "", false, err
	}
	m.c.say("Starting it at %s from the savepoint.", at.Address())
	id, err = at.Run(ctx, program, client.Start{
		Name: m.job.Name, Savepoint: savepoint, AllowNonRestoredState: m.c.migrate.lossy, Parallelism: parallelism, Args: m.c.migrate.args,
	})
	var refusal *client.Error
	if errors.As(err, &refusal) || errors.Is(err, syscall.ECONNREFUSED) {
		return "", false, err // it has not heard of it, or did not do it
	}
	if err != nil { // the answer may be what was lost
		id, lerr := m.lookFor(ctx, at, before)
		if lerr != nil {
			return "", true, fmt.Errorf("%w; %w", err, lerr)
		}
		return id, true, m.await(ctx, at, id)
	}
	return id, true, m.await(ctx, at, id)
}

// named returns the jobs of that name.
func (m *migration) named(ctx context.Context, at *client.Client) ([]client.Job, error) {
	jobs, err := at.Jobs(ctx)
	return slices.DeleteFunc(jobs, func(j client.Job) bool { return j.Name != m.job.Name }), err
}

// lookFor looks for a job that may have been started: one of that name that runs, or that was not there before.
func (m *migration) lookFor(ctx context.Context, at *client.Client, before []client.Job) (id string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.c.migrate.timeout, errors.New("it does not list the job, and may still be starting it"))
	defer cancel()
	for {
		jobs, err := m.named(ctx, at)
		for _, j := range jobs {
			if err == nil && (!j.Ended() || !slices.ContainsFunc(before, func(b client.Job) bool { return b.ID == j.ID })) {
				return j.ID, nil
			}
		}
		if err := client.Pause(ctx, 100*time.Millisecond); err != nil {
			return "", err
		}
	}
}

// await waits until the job runs and has taken a checkpoint.
func (m *migration) await(ctx context.Context, at *client.Client, id string) error {
	w := m.c.waiting("starting")
	defer w.end()
	ctx, cancel := context.WithTimeoutCause(ctx, m.c.migrate.timeout, fmt.Errorf("it did not run, with a checkpoint taken, within %v", m.c.migrate.timeout))
	defer cancel()
	for {
		ok, err := m.runs(ctx, at, id)
		if ok || err != nil && !errors.Is(err, client.ErrUnreachable) {
			return err
		}
		w.tick("")
		if err := client.Pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}

// runs reports whether all tasks of a job run and it has taken a checkpoint. The error says why it never will.
func (m *migration) runs(ctx context.Context, at *client.Client, id string) (bool, error) {
	jobs, err := at.Jobs(ctx)
	if err != nil {
		return false, err
	}
	i := slices.IndexFunc(jobs, func(j client.Job) bool { return j.ID == id })
	if i < 0 {
		return false, nil
	}
	j := jobs[i]
	if j.Ended() {
		reason := ""
		if failures, err := at.Failures(ctx, id); err == nil && len(failures) > 0 {
			reason = ": " + failures[0].Text()
		}
		return false, fmt.Errorf("job %q is %s at %s%s", m.job.Name, j.State, at.Address(), reason)
	}
	if j.State != "RUNNING" || j.Tasks["running"]+j.Tasks["finished"] != j.Tasks["total"] {
		return false, nil
	}
	k, err := at.Checkpoints(ctx, id)
	if client.NotFound(err) {
		return true, nil // checkpointing is off
	}
	return err == nil && k.Counts.Completed > 0, err
}

// rollBack starts the job at the source again, if it is certain that it does not run at the target and has committed nothing there. cause is why it did not start.
func (m *migration) rollBack(ctx context.Context, id string, started bool, cause error) error {
	m.c.say("It did not start: %s.", strings.TrimSuffix(cause.Error(), "."))
	mend := fmt.Sprintf("to go on: migrate --from %s --to URL --job %s --savepoint %s", m.from.Address(), m.job.Name, m.savepoint)
	if started {
		// The command may have been told to end: what was begun is brought to a state that can be told.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.c.migrate.timeout)
		defer cancel()
		committed, err := m.endAt(ctx, id)
		switch {
		case err != nil:
			return fmt.Errorf("job %q has stopped at %s, and whether it runs at %s is not known: %w (%w). It was not started again, so that there are never two: see `list -a` there; if it does not run, %s",
				m.job.Name, m.from.Address(), m.to.Address(), cause, err, mend)
		case committed:
			return fmt.Errorf("job %q has stopped at %s, and has stopped at %s after it had taken a checkpoint there (%w): from the savepoint it would write again what it wrote. Start it there from that checkpoint; job %s names it",
				m.job.Name, m.from.Address(), m.to.Address(), cause, id)
		}
	}
	if m.back == "" {
		return fmt.Errorf("job %q did not start at %s (%w). It runs nowhere. %s runs only what it is started with: start it there again as before, and it goes on from its savepoint %s; %s",
			m.job.Name, m.to.Address(), cause, m.from.Address(), m.savepoint, mend)
	}
	again, _, err := m.start(context.WithoutCancel(ctx), m.from, m.back, m.savepoint, m.parallelism)
	if err != nil {
		return fmt.Errorf("job %q did not start at %s (%w), and not at %s again, as job %s (%w). See `list -a` there before it is started anywhere; %s", m.job.Name, m.to.Address(), cause, m.from.Address(), again, err, mend)
	}
	m.outcome.Result, m.outcome.Running, m.outcome.ID = "rolled-back", m.from.Address(), again
	return fmt.Errorf("job %q did not start at %s (%w). It runs at %s again, as %s, from the savepoint %s", m.job.Name, m.to.Address(), cause, m.from.Address(), again, m.savepoint)
}

// endAt sees to it that the job does not run at the target, and reports whether it had taken a checkpoint there. The error says that neither is known.
func (m *migration) endAt(ctx context.Context, id string) (committed bool, err error) {
	if id == "" {
		return false, errors.New("it is not known there")
	}
	for {
		jobs, err := m.to.Jobs(ctx)
		if err != nil {
			return false, err
		}
		i := slices.IndexFunc(jobs, func(j client.Job) bool { return j.ID == id })
		if i >= 0 && jobs[i].Ended() {
			break
		}
		if i >= 0 {
			var refusal *client.Error
			if err := m.to.Cancel(ctx, id); err != nil && !errors.As(err, &refusal) { // a refusal: it is ending
				return false, err
			}
		}
		if err := client.Pause(ctx, 100*time.Millisecond); err != nil && i < 0 {
			return false, errors.New("it does not list the job, and may still be starting it")
		} else if err != nil {
			return false, err
		}
	}
	k, err := m.to.Checkpoints(ctx, id)
	if client.NotFound(err) && strings.Contains(err.Error(), "Checkpointing has not been enabled") {
		return false, nil
	}
	return err == nil && k.Counts.Completed > 0, err
}
