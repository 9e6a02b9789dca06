// Package event holds what a stream knows of time: event timestamps, watermarks and the strategies that make them.
//
// Start with Time, and with BoundedOutOfOrderness for a source's watermark strategy.
// Its law: a Watermark(t) promises that no element with a timestamp of t or less follows.
package event

import (
	"math"
	"strconv"
	"time"
)

// Time is a point in event time or wall-clock time: milliseconds since the Unix epoch, as in Flink.
type Time int64

const (
	// Min is the watermark before the first one, and the timestamp of a record that has none.
	Min Time = math.MinInt64
	// Max is the watermark that says the stream has ended.
	Max Time = math.MaxInt64
	// None is the timestamp of a record that was given none.
	None = Min
)

// At returns t in milliseconds since the epoch, rounded down. The zero time.Time is None.
func At(t time.Time) Time {
	if t.IsZero() {
		return None
	}
	return Time(t.UnixMilli())
}

// Time returns t as a UTC time.Time. None is the zero time.Time.
func (t Time) Time() time.Time {
	if t == None {
		return time.Time{}
	}
	return time.UnixMilli(int64(t)).UTC()
}

// String returns the time in RFC 3339 with milliseconds, or "none" and "max".
func (t Time) String() string {
	switch t {
	case Min:
		return "none"
	case Max:
		return "max"
	}
	if s := t.Time(); s.Year() >= 0 && s.Year() <= 9999 {
		return s.Format("2006-01-02T15:04:05.000Z07:00")
	}
	return strconv.FormatInt(int64(t), 10) + "ms"
}
