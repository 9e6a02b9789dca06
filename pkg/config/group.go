package config

import (
	"errors"
	"time"
)

var errMaxParallelism = errors.New("want a whole number from 1 to 32768, or -1")

// Mode says what a checkpoint promises.
type Mode string

// The checkpointing modes.
const (
	ExactlyOnce Mode = "EXACTLY_ONCE"
	AtLeastOnce Mode = "AT_LEAST_ONCE"
)

// Retention says what becomes of the checkpoints of a job that ends. One that finishes never leaves any.
type Retention string

// The retentions.
const (
	RetainOnCancellation      Retention = "RETAIN_ON_CANCELLATION"      // kept on cancel, fail and suspend
	DeleteOnCancellation      Retention = "DELETE_ON_CANCELLATION"      // kept on fail
	NoExternalizedCheckpoints Retention = "NO_EXTERNALIZED_CHECKPOINTS" // never kept
)

// ClaimMode says who owns the savepoint that a job starts from.
type ClaimMode string

// The claim modes.
const (
	NoClaim ClaimMode = "NO_CLAIM"
	Claim   ClaimMode = "CLAIM"
)

// Failover says which tasks are restarted when one fails.
type Failover string

// The failover strategies.
const (
	FailoverRegion Failover = "region"
	FailoverFull   Failover = "full"
)

// RestartKind names a restart strategy.
type RestartKind string

// The restart strategies.
const (
	RestartNone             RestartKind = "none"
	RestartFixedDelay       RestartKind = "fixed-delay"
	RestartFailureRate      RestartKind = "failure-rate"
	RestartExponentialDelay RestartKind = "exponential-delay"
)

// restartKind reads a strategy under any of Flink's spellings.
func restartKind(text string) (RestartKind, error) {
	switch fold(text) {
	case "none", "off", "disable":
		return RestartNone, nil
	case "fixed-delay", "fixeddelay":
		return RestartFixedDelay, nil
	case "failure-rate", "failurerate":
		return RestartFailureRate, nil
	case "exponential-delay", "exponentialdelay":
		return RestartExponentialDelay, nil
	}
	return "", errors.New("want none, fixed-delay, failure-rate or exponential-delay")
}

// Checkpointing is all that a job's checkpoints are configured with.
type Checkpointing struct {
	Interval          time.Duration // 0 is off
	Mode              Mode
	Timeout           time.Duration
	MinPause          time.Duration // from a completion to the next checkpoint
	MaxConcurrent     int           // 1 when there is a MinPause
	TolerableFailures int           // in a row
	Retained          int
	Dir               string // empty: the host's default
	SavepointDir      string // empty: the host's default
	Retention         Retention
	Incremental       bool
	AfterTasksFinish  bool
	LocalBackup       bool // TaskManagers keep copies of state
	LocalRecovery     bool // and tasks are restored from them
}

// Enabled reports whether checkpoints are taken by themselves.
func (c Checkpointing) Enabled() bool { return c.Interval > 0 }

// CheckpointingOf reads the options of checkpoints.
func CheckpointingOf(c *Config) Checkpointing {
	out := Checkpointing{
		Interval:          mustGet(c, CheckpointInterval),
		Mode:              mustGet(c, CheckpointMode),
		Timeout:           mustGet(c, CheckpointTimeout),
		MinPause:          mustGet(c, CheckpointMinPause),
		MaxConcurrent:     mustGet(c, MaxConcurrentCheckpoints),
		TolerableFailures: mustGet(c, TolerableFailedCheckpoints),
		Retained:          mustGet(c, RetainedCheckpoints),
		Dir:               mustGet(c, CheckpointDir),
		SavepointDir:      mustGet(c, SavepointDir),
		Retention:         mustGet(c, CheckpointRetention),
		Incremental:       mustGet(c, IncrementalCheckpoints),
		AfterTasksFinish:  mustGet(c, CheckpointsAfterTasksFinish),
		LocalBackup:       mustGet(c, LocalBackup),
		LocalRecovery:     mustGet(c, LocalRecovery),
	}
	if !IsSet(c, LocalBackup) {
		out.LocalBackup = out.LocalRecovery
	}
	if out.MinPause > 0 {
		out.MaxConcurrent = 1
	}
	return out
}

// RestartStrategy is what happens when a task fails. Only the fields of its Kind mean anything.
type RestartStrategy struct {
	Kind RestartKind

	Attempts int           // fixed-delay: restarts in all; exponential-delay: failures in a row before the job fails
	Delay    time.Duration // fixed-delay and failure-rate: the wait before a restart

	MaxFailures int           // failure-rate: failures in one Interval that are followed by a restart
	Interval    time.Duration // failure-rate

	InitialBackoff time.Duration // exponential-delay: the first wait
	MaxBackoff     time.Duration // exponential-delay: the longest wait
	Multiplier     float64       // exponential-delay: greater than 1
	ResetThreshold time.Duration // exponential-delay: this long without a failure starts again with InitialBackoff
	Jitter         float64       // exponential-delay: 0 to 1, the part of a wait that is random
}

// RestartStrategyOf reads the restart strategy. When none is set a job with checkpoints has exponential-delay and one
// without has none, as in Flink.
func RestartStrategyOf(c *Config) RestartStrategy {
	kind := mustGet(c, RestartType)
	if kind == "" {
		kind = RestartNone
		if mustGet(c, CheckpointInterval) > 0 {
			kind = RestartExponentialDelay
		}
	}
	out := RestartStrategy{Kind: kind}
	switch kind {
	case RestartFixedDelay:
		out.Attempts = mustGet(c, FixedDelayAttempts)
		out.Delay = mustGet(c, FixedDelay)
	case RestartFailureRate:
		out.MaxFailures = mustGet(c, FailureRateMax)
		out.Interval = mustGet(c, FailureRateInterval)
		out.Delay = mustGet(c, FailureRateDelay)
	case RestartExponentialDelay:
		out.Attempts = mustGet(c, BackoffAttempts)
		out.InitialBackoff = mustGet(c, InitialBackoff)
		out.MaxBackoff = mustGet(c, MaxBackoff)
		out.Multiplier = mustGet(c, BackoffMultiplier)
		out.ResetThreshold = mustGet(c, ResetBackoffThreshold)
		out.Jitter = mustGet(c, BackoffJitter)
	}
	return out
}
