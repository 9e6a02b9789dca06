package execution

import (
	"fmt"
	"math"
	"time"
)

// RestartKind is one of Flink's restart strategies.
type RestartKind int

const (
	// NoRestart fails the job at the first failure.
	NoRestart RestartKind = iota
	// FixedDelay restarts Attempts times, each after Delay.
	FixedDelay
	// FailureRate restarts after Delay as long as there are at most MaxFailures within Interval.
	FailureRate
	// ExponentialDelay restarts after a delay that grows from failure to failure.
	ExponentialDelay
)

// Restart configures the restart strategy: Flink's keys under restart-strategy, by strategy. Values out of range are the caller's to refuse.
type Restart struct {
	Kind RestartKind
	// Attempts is fixed-delay.attempts; Unlimited for ever.
	Attempts int
	// Delay is fixed-delay.delay and failure-rate.delay.
	Delay time.Duration
	// MaxFailures and Interval are failure-rate.max-failures-per-interval and failure-rate.failure-rate-interval.
	MaxFailures int
	Interval    time.Duration
	// The rest is under exponential-delay. Jitter is a share of the delay, from 0 to 1; AttemptsBeforeReset is attempts-before-reset-backoff.
	InitialBackoff, MaxBackoff, ResetThreshold time.Duration
	Multiplier, Jitter                         float64
	AttemptsBeforeReset                        int
}

// Unlimited is the number of attempts that is never reached.
const Unlimited = math.MaxInt

// DefaultRestart returns a strategy with Flink's defaults.
func DefaultRestart(kind RestartKind) Restart {
	return Restart{
		Kind: kind, Attempts: 1, Delay: time.Second, MaxFailures: 1, Interval: time.Minute,
		InitialBackoff: time.Second, MaxBackoff: time.Minute, ResetThreshold: time.Hour, Multiplier: 1.5, Jitter: 0.1, AttemptsBeforeReset: Unlimited,
	}
}

// String is what the job's configuration shows, in Flink's words.
func (r Restart) String() string {
	switch r.Kind {
	case FixedDelay:
		n := fmt.Sprint(r.Attempts)
		if r.Attempts == Unlimited {
			n = "unlimited"
		}
		return fmt.Sprintf("FixedDelayRestartBackoffTimeStrategy(maxNumberRestartAttempts=%s, backoffTimeMS=%d)", n, r.Delay.Milliseconds())
	case FailureRate:
		return fmt.Sprintf("FailureRateRestartBackoffTimeStrategy(failuresIntervalMS=%d, backoffTimeMS=%d, maxFailuresPerInterval=%d)", r.Interval.Milliseconds(), r.Delay.Milliseconds(), r.MaxFailures)
	case ExponentialDelay:
		return fmt.Sprintf("ExponentialDelayRestartBackoffTimeStrategy(initialBackoffMS=%d, maxBackoffMS=%d, backoffMultiplier=%g, resetBackoffThresholdMS=%d, jitterFactor=%g)",
			r.InitialBackoff.Milliseconds(), r.MaxBackoff.Milliseconds(), r.Multiplier, r.ResetThreshold.Milliseconds(), r.Jitter)
	}
	return "NoRestartBackoffTimeStrategy"
}

// restarts is what a strategy remembers.
type restarts struct {
	Restart
	attempts int
	failures []time.Time // of FailureRate, at most MaxFailures+1
	backoff  time.Duration
	next     time.Time // ExponentialDelay: when the restart that was granted last is due
	random   uint64
}

// fail records a failure and says whether the job may restart, and after how long.
func (r *restarts) fail(now time.Time) (delay time.Duration, ok bool) {
	switch r.Kind {
	case FixedDelay:
		r.attempts++
		return r.Delay, r.attempts <= r.Attempts
	case FailureRate:
		r.failures = append(r.failures, now)
		if over := len(r.failures) - r.MaxFailures - 1; over > 0 {
			r.failures = r.failures[over:]
		}
		return r.Delay, len(r.failures) <= r.MaxFailures || now.Sub(r.failures[0]) > r.Interval
	case ExponentialDelay:
		// Failures before the restart that is already granted belong to it: its delay is not lengthened.
		if now.Before(r.next) {
			return r.next.Sub(now), true
		}
		if r.backoff == 0 || now.Sub(r.next) >= r.ResetThreshold+r.backoff {
			r.backoff, r.attempts = r.InitialBackoff, 0
		} else {
			r.backoff = min(time.Duration(float64(r.backoff)*r.Multiplier), r.MaxBackoff)
		}
		r.attempts++
		if r.attempts > r.AttemptsBeforeReset {
			return 0, false
		}
		delay = r.backoff + time.Duration(float64(r.backoff)*r.Jitter*r.jitter())
		delay = min(max(delay, r.InitialBackoff), r.MaxBackoff)
		r.next = now.Add(delay)
		return delay, true
	}
	return 0, false
}

// jitter returns the next number of [-1, 1) of the sequence that the seed began (splitmix64).
func (r *restarts) jitter() float64 {
	r.random += 0x9e3779b97f4a7c15
	z := r.random
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	return float64(z>>11)/(1<<52) - 1
}
