package cluster

import (
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/internal/task"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// Job is a job to run.
type Job struct {
	// Name finds the job's state in the data directory.
	Name string
	// Build makes the job's streams. It is called once, by NewMini.
	Build func(env *stream.Env) error
	// Args are the job's own arguments: Env.Args.
	Args []string
	// Program is used instead of Build by the engine's own tests.
	Program task.Program

	// FromSavepoint is the directory of a savepoint to start from; Claim makes it the job's own.
	FromSavepoint string
	Claim         bool
	// AllowNonRestoredState drops stored state that the program has no operator for.
	AllowNonRestoredState bool
	// AllowDuplicates goes back behind a damaged checkpoint even if that doubles output.
	AllowDuplicates bool
	// Fresh starts the job without the state that it has in the data directory, and even if it has ended.
	Fresh bool
}

// build makes the job's program under the process's settings.
func (j *Job) build(settings []config.Setting, checked *config.Config) error {
	if j.Program != nil {
		return nil
	}
	if j.Build == nil {
		return fmt.Errorf("job %q has nothing to build it", j.Name)
	}
	options := map[string]string{}
	for _, s := range settings {
		options[s.Key] = s.Value
	}
	// Under their current names too, where they are no secrets.
	for _, s := range checked.Settings() {
		if _, given := options[s.Key]; !given {
			options[s.Key] = s.Value
		}
	}
	// What has a default of our own is said, so that a program that is checked against Flink's sees it.
	interval := config.CheckpointingOf(checked).Interval
	env := stream.NewEnv(j.Name, options, j.Args...)
	if !config.IsSet(checked, config.CheckpointInterval) {
		env.Set(config.CheckpointInterval.Name, config.FormatDuration(interval))
	}
	if err := j.Build(env); err != nil {
		return fmt.Errorf("job %q: %w", j.Name, err)
	}
	p, err := operator.Program(env)
	if err != nil {
		return err
	}
	j.Program = p
	return nil
}
