package config

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"0": 0, "200": 200 * time.Millisecond, "10 s": 10 * time.Second, " 10s ": 10 * time.Second, "1 min": time.Minute, "5m": 5 * time.Minute,
		"500ms": 500 * time.Millisecond, "3 DAYS": 72 * time.Hour, "1 h": time.Hour, "2 hours": 2 * time.Hour, "7 secs": 7 * time.Second,
		"4 millis": 4 * time.Millisecond, "9 µs": 9 * time.Microsecond, "9 micros": 9 * time.Microsecond, "1 nano": 1, "8ns": 8,
		"PT10S": 10 * time.Second, "pt1h30m": 90 * time.Minute, "P2DT3H": 51 * time.Hour, "PT0.5S": 500 * time.Millisecond,
		"PT0S": 0, "PT1M0.000000001S": time.Minute + 1,
		"9223372036854775807 ns": math.MaxInt64,
	} {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", " ", "s", "-1 s", "1.5 s", "1h30m", "10 parsecs", "P", "PT", "P1", "P1H", "PT1", "PT1S2M", "P1DT", "PT.5S", "PT1.5M",
		"PT0.1234567890S", "-PT1S", "PT-1S", "9223372036854775808", "300000 d", "P300000D", "PT9223372036854775807S", "1e3 s", "１ s",
	} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "4096": 4096, "4096 bytes": 4096, "1b": 1, "64 mb": 64 << 20, "64MB": 64 << 20, "1g": 1 << 30, "2 kibibytes": 2048, "3k": 3072,
		"1 tebibytes": 1 << 40, "5tb": 5 << 40, "8 mebibytes": 8 << 20, "1 gibibytes": 1 << 30, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := ParseBytes(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "mb", "-1", "1.5g", "1 pb", "64 mib", "9223372036854775808", "9007199254740992 k", "8388608 t"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
	for b, want := range map[Bytes]string{0: "0 bytes", 1: "1 bytes", 1024: "1 kb", 1025: "1025 bytes", 64 << 20: "64 mb", 3 << 40: "3 tb"} {
		if got := b.String(); got != want {
			t.Errorf("%d: %q, want %q", int64(b), got, want)
		}
	}
}

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{0: "0 ms", 1: "1 ns", 1500 * time.Millisecond: "1500 ms", 90 * time.Second: "90 s", 10 * time.Minute: "10 min", 48 * time.Hour: "2 d", 1500: "1500 ns", 2000: "2 µs"} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%d: %q, want %q", int64(d), got, want)
		}
	}
}

func TestPorts(t *testing.T) {
	for text, want := range map[string][]int{"8081": {8081}, "0": {0}, "8081-8083": {8081, 8082, 8083}, "9000, 8000-8001": {9000, 8000, 8001}} {
		got, err := ports(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: %v, %s", text, err, diff)
		}
	}
	for _, text := range []string{"", "x", "8083-8081", "65536", "1-", "-1", "1,,2", "0-65535,0-65535"} {
		if got, err := ports(text); err == nil {
			t.Errorf("%q: %d ports, want an error", text, len(got))
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"10 s", "500ms", "PT1H2M3.4S", "P1D", "9223372036854775807 ns", "µs", "1 μs", "PT", "p.", "P1DT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseDuration(text)
		if err != nil {
			return
		}
		if d < 0 {
			t.Fatalf("%q: %d is negative", text, d)
		}
		back, err := ParseDuration(FormatDuration(d))
		if err != nil || back != d {
			t.Fatalf("%q: %d is written as %q, read back as %d, %v", text, d, FormatDuration(d), back, err)
		}
	})
}

func FuzzParseBytes(f *testing.F) {
	for _, s := range []string{"64 mb", "1g", "4096", "9223372036854775807", "8388607t", "0 kibibytes"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		b, err := ParseBytes(text)
		if err != nil {
			return
		}
		if b < 0 {
			t.Fatalf("%q: %d is negative", text, int64(b))
		}
		back, err := ParseBytes(b.String())
		if err != nil || back != b {
			t.Fatalf("%q: %d is written as %q, read back as %d, %v", text, int64(b), b.String(), int64(back), err)
		}
	})
}

// FuzzSettings feeds any keys and values: New must not panic, and what it accepts must be readable.
func FuzzSettings(f *testing.F) {
	f.Add("parallelism.default", "4")
	f.Add("restart-strategy", "off")
	f.Add("execution.checkpointing.interval", "none")
	f.Add("high-availability.x.y", "")
	f.Add("rest.bind-port", "1-2,3")
	f.Add("fs.", "x")
	f.Fuzz(func(t *testing.T, name, value string) {
		c, err := New(Setting{Key: name, Value: value})
		if err != nil {
			if !strings.Contains(err.Error(), strings.TrimSpace(name)) {
				t.Fatalf("%q: %v does not name the key", name, err)
			}
			return
		}
		if len(c.Settings()) != 1 {
			t.Fatalf("%q: accepted, and %d settings", name, len(c.Settings()))
		}
		CheckpointingOf(c)
		RestartStrategyOf(c)
	})
}
