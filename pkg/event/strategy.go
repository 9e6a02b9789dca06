package event

import "time"

// Generator makes the watermarks of one split. It is used on the task's goroutine only.
type Generator[T any] interface {
	// OnEvent sees each record. It returns a watermark that is emitted at once, or None for none.
	OnEvent(v T, ts Time) Time
	// OnPeriodic returns the watermark as it stands, or None; it is asked at every pipeline.auto-watermark-interval. One that is not larger than the last is ignored.
	OnPeriodic() Time
}

// Strategy says how a source's records get their timestamps and its splits their watermarks. The zero Strategy keeps the source's timestamps and makes no watermarks.
type Strategy[T any] struct {
	timestamp func(T) time.Time
	generator func() Generator[T]
	idleness  time.Duration
}

// BoundedOutOfOrderness takes timestamps from the record and expects that no record is more than d older than the newest: the watermark is the largest timestamp - d - 1 ms.
func BoundedOutOfOrderness[T any](d time.Duration, timestamp func(T) time.Time) Strategy[T] {
	return Strategy[T]{timestamp: timestamp, generator: func() Generator[T] { return newBounded[T](d) }}
}

// BoundedOutOfOrdernessOfSource is BoundedOutOfOrderness with the timestamps that the source knows (for Kafka: the record's).
func BoundedOutOfOrdernessOfSource[T any](d time.Duration) Strategy[T] {
	return Strategy[T]{generator: func() Generator[T] { return newBounded[T](d) }}
}

// Monotonous takes timestamps, which never fall within a split, from the record.
func Monotonous[T any](timestamp func(T) time.Time) Strategy[T] {
	return BoundedOutOfOrderness(0, timestamp)
}

// MonotonousOfSource is Monotonous with the timestamps that the source knows.
func MonotonousOfSource[T any]() Strategy[T] { return BoundedOutOfOrdernessOfSource[T](0) }

// NoWatermarks makes no watermarks: for jobs that only know processing time.
func NoWatermarks[T any]() Strategy[T] { return Strategy[T]{} }

// Custom makes watermarks with a generator of the user's, one per split. timestamp may be nil, for the source's timestamps.
func Custom[T any](timestamp func(T) time.Time, generator func() Generator[T]) Strategy[T] {
	return Strategy[T]{timestamp: timestamp, generator: generator}
}

// WithIdleness has a split that brings no record for d hold back nobody's watermark. 0 is never.
func (s Strategy[T]) WithIdleness(d time.Duration) Strategy[T] {
	s.idleness = d
	return s
}

// Timestamp returns the timestamp of a record to which the source gave ts.
func (s Strategy[T]) Timestamp(v T, ts Time) Time {
	if s.timestamp == nil {
		return ts
	}
	return At(s.timestamp(v))
}

// NewGenerator returns the generator of a new split, nil when there are no watermarks.
func (s Strategy[T]) NewGenerator() Generator[T] {
	if s.generator == nil {
		return nil
	}
	return s.generator()
}

// Idleness returns after how long without a record a split is idle; 0 is never.
func (s Strategy[T]) Idleness() time.Duration { return s.idleness }

type bounded[T any] struct{ largest, delay Time }

func newBounded[T any](d time.Duration) *bounded[T] {
	delay := Time((d + time.Millisecond - 1) / time.Millisecond)
	return &bounded[T]{largest: Min + delay + 1, delay: delay}
}

func (b *bounded[T]) OnEvent(_ T, ts Time) Time {
	b.largest = max(b.largest, ts)
	return None
}

func (b *bounded[T]) OnPeriodic() Time { return b.largest - b.delay - 1 }
