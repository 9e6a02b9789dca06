package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// Program is a program that is linked into a process, for jobs that are submitted while it runs (Host.Submit).
type Program struct {
	Name string
	// Build makes the streams of a job, under the arguments that were submitted with it (Env.Args). It is called once at a time.
	Build func(env *stream.Env) error
}

// Submission is a job to run in a session.
type Submission struct {
	// Program names one of the process's; the job has its name, unless Options say otherwise (pipeline.name).
	Program string
	// Args are the job's own arguments, Options its options of Flink, over those of the process.
	Args    []string
	Options map[string]string
	// FromSavepoint, Claim and AllowNonRestoredState are as in Job.
	FromSavepoint         string
	Claim                 bool
	AllowNonRestoredState bool
}

// ErrRunning is wrapped by Submit for a job whose name is that of one that runs.
var ErrRunning = jobmanager.ErrRunning

// ErrNoProgram is wrapped by Submit when the process has no such program.
var ErrNoProgram = errors.New("no such program")

// made is a program that was built for a job of this process.
type made struct {
	name    string
	args    []string
	program task.Program
}

// Programs returns the names of those that can be submitted.
func (h *Host) Programs() []string {
	var out []string
	for _, p := range h.cfg.Programs {
		out = append(out, p.Name)
	}
	return out
}

// Submit builds a job and starts it. Unlike a job of the process's own, one that has ended is run anew: whoever submits it asks for that.
func (h *Host) Submit(ctx context.Context, s Submission) (base.JobID, error) {
	sub, err := h.build(s, "")
	if err != nil {
		return base.JobID{}, err
	}
	// Whoever names a savepoint means it, whatever a job of that name that has stopped here has left.
	sub.Restore.Fresh = s.FromSavepoint != ""
	m := h.remember(sub)
	id, err := h.jm.Submit(ctx, sub)
	if errors.Is(err, ErrEnded) {
		sub.Restore.Fresh = true
		id, err = h.jm.Submit(ctx, sub)
	}
	if err != nil {
		h.forget(m)
		return base.JobID{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.jobs = append(slices.DeleteFunc(h.jobs, func(o base.JobID) bool { return o == id }), id)
	return id, nil
}

// build makes the program of a submission. name is the job's when it is known from before.
func (h *Host) build(s Submission, name string) (jobmanager.Submission, error) {
	i := slices.IndexFunc(h.cfg.Programs, func(p Program) bool { return p.Name == s.Program })
	if i < 0 {
		return jobmanager.Submission{}, base.Permanent(fmt.Errorf("program %q: %w; this process has %q", s.Program, ErrNoProgram, h.Programs()))
	}
	settings := slices.Clone(h.cfg.Settings)
	for _, k := range slices.Sorted(maps.Keys(s.Options)) {
		settings = append(settings, config.Setting{Key: k, Value: s.Options[k], Origin: "submission"})
	}
	checked, err := config.New(settings...)
	if err != nil {
		return jobmanager.Submission{}, base.Permanent(err)
	}
	job := Job{Name: s.Program, Build: h.cfg.Programs[i].Build, Args: s.Args}
	if name != "" {
		job.Name = name
	} else if config.IsSet(checked, config.JobName) {
		if job.Name, err = config.Get(checked, config.JobName); err != nil {
			return jobmanager.Submission{}, err
		}
	}
	h.building.Lock()
	defer h.building.Unlock()
	if err := job.build(settings, checked); err != nil {
		return jobmanager.Submission{}, base.Permanent(err)
	}
	return jobmanager.Submission{
		Name: job.Name, Program: job.Program, Config: settings, Args: s.Args, Linked: s.Program, Options: s.Options,
		Restore: jobmanager.RestoreOptions{Savepoint: h.place.own(s.FromSavepoint), Claim: s.Claim, AllowNonRestoredState: s.AllowNonRestoredState},
	}, nil
}

// recoverJob returns how a job of an earlier session, or of another leader, goes on.
func (h *Host) recoverJob(r *ha.Job) (jobmanager.Submission, error) {
	sub, err := h.build(Submission{Program: r.Program, Args: r.Args, Options: r.Options}, r.Name)
	if err != nil {
		return sub, err
	}
	h.remember(sub)
	h.mu.Lock()
	defer h.mu.Unlock()
	if id := base.JobID(r.ID); !slices.Contains(h.jobs, id) {
		h.jobs = append(h.jobs, id)
	}
	return sub, nil
}

// remember keeps a program for TaskManagers of this process.
func (h *Host) remember(s jobmanager.Submission) *made {
	m := &made{s.Name, s.Args, s.Program}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.made = append(slices.DeleteFunc(h.made, func(o *made) bool { return o.name == m.name && slices.Equal(o.args, m.args) }), m)
	return m
}

func (h *Host) forget(m *made) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.made = slices.DeleteFunc(h.made, func(o *made) bool { return o == m })
}

// program finds the code of a job for a TaskManager of this process.
func (h *Host) program(name string, args []string, _ map[string]string) (task.Program, error) {
	for _, j := range h.cfg.Jobs {
		if j.Name == name {
			return j.Program, nil
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range slices.Backward(h.made) {
		if m.name == name && slices.Equal(m.args, args) {
			return m.program, nil
		}
	}
	return nil, base.Permanent(fmt.Errorf("job %q is not one of this program's", name))
}
