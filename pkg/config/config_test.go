package config

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// TestSettings plays testdata/settings*.txt: settings in, one per line with an optional origin in front
// ("config.yaml:3| key=value"); what is said and what is then set out.
func TestSettings(t *testing.T) {
	datadriven.Walk(t, "testdata/settings", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "load" {
				d.Fatalf(t, "unknown command %q", d.Cmd)
			}
			var settings []Setting
			for line := range strings.Lines(d.Input) {
				origin, arg, found := strings.Cut(strings.TrimSuffix(line, "\n"), "| ")
				if !found {
					origin, arg = "-D", origin
				}
				s, err := ParseSetting(arg)
				if err != nil {
					return err.Error()
				}
				s.Origin = origin
				settings = append(settings, s)
			}
			c, err := New(settings...)
			if err != nil {
				return err.Error()
			}
			var b strings.Builder
			for _, w := range c.Warnings() {
				fmt.Fprintf(&b, "warning: %s=%s: %s\n", w.Key, w.Value, w.Reason)
			}
			for _, s := range c.Settings() {
				fmt.Fprintf(&b, "%s=%s (%s)\n", s.Key, s.Value, s.Origin)
			}
			if d.HasArg("restart") {
				fmt.Fprintf(&b, "%+v\n", RestartStrategyOf(c))
			}
			if d.HasArg("checkpointing") {
				fmt.Fprintf(&b, "%+v\n", CheckpointingOf(c))
			}
			if b.Len() == 0 {
				return "ok"
			}
			return b.String()
		})
	})
}

func TestNilConfigHoldsTheDefaults(t *testing.T) {
	var c *Config
	p, err := Get(c, Parallelism)
	if err != nil || p != 1 {
		t.Errorf("parallelism of a nil Config: %d, %v", p, err)
	}
	if IsSet(c, Parallelism) || c.Settings() != nil || c.Warnings() != nil {
		t.Error("a nil Config has settings")
	}
	got, err := c.With(Setting{Key: "parallelism.default", Value: "3"})
	if err != nil {
		t.Fatal(err)
	}
	if p, _ := Get(got, Parallelism); p != 3 || !IsSet(got, Parallelism) {
		t.Errorf("parallelism %d, want 3", p)
	}
}

func TestWithOverridesAndLeavesTheBaseAlone(t *testing.T) {
	base, err := New(Setting{Key: "parallelism.default", Value: "3"}, Setting{Key: "rest.port", Value: "0"})
	if err != nil {
		t.Fatal(err)
	}
	job, err := base.With(Setting{Key: "parallelism.default", Value: "5"})
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range map[*Config]int{base: 3, job: 5} {
		if p, _ := Get(c, Parallelism); p != want {
			t.Errorf("parallelism %d, want %d", p, want)
		}
		if p, _ := Get(c, RestPort); p != 0 {
			t.Errorf("port %d, want 0", p)
		}
	}
	if _, err := base.With(Setting{Key: "parallelism.default", Value: "x"}); err == nil {
		t.Error("a wrong value was accepted")
	}
}

func ExampleNew() {
	s, err := ParseSetting("execution.checkpointing.interval=30 s")
	if err != nil {
		fmt.Println(err)
		return
	}
	c, err := New(s)
	if err != nil {
		fmt.Println(err)
		return
	}
	interval, _ := Get(c, CheckpointInterval)
	fmt.Println(interval, RestartStrategyOf(c).Kind)

	_, err = New(Setting{Key: "parallelism.defualt", Value: "4", Origin: "-D"})
	fmt.Println(err)
	// Output:
	// 30s exponential-delay
	// parallelism.defualt: unknown key; did you mean parallelism.default? (-D)
}

func ExampleParseDuration() {
	for _, text := range []string{"200", "10 s", "PT1M30S"} {
		d, err := ParseDuration(text)
		fmt.Println(d, FormatDuration(d), err)
	}
	// Output:
	// 200ms 200 ms <nil>
	// 10s 10 s <nil>
	// 1m30s 90 s <nil>
}

func ExampleRedact() {
	fmt.Println(Redact("dial kafka://me:hunter2@broker:9092/x?a=@b: refused, as was s3://bucket/a@b"))
	// Output: dial kafka://******@broker:9092/x?a=@b: refused, as was s3://bucket/a@b
}

// TestParse plays testdata/file.txt: texts of config.yaml in, what is set and where out.
func TestParse(t *testing.T) {
	datadriven.RunTest(t, "testdata/file.txt", func(t *testing.T, d *datadriven.TestData) string {
		settings, err := Parse([]byte(d.Input), "config.yaml")
		var b strings.Builder
		for _, s := range settings {
			fmt.Fprintf(&b, "%s=%q (%s)\n", s.Key, s.Value, s.Origin)
		}
		if err == nil && d.Cmd == "load" {
			_, err = New(settings...)
		}
		if err != nil {
			fmt.Fprintf(&b, "%v\n", err)
		}
		return b.String()
	})
}

// FuzzParse: no text makes it panic, and whatever it reads has a key and a line.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a.b: c", "a:\n  b: 1\n  c: [x, y]", "a: &x 1\nb: *x", "? [a]\n: b", "a: {b: {c: }}", "- a", "<<: {a: 1}", "a: |\n  text\n", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		settings, _ := Parse([]byte(text), "f")
		for _, s := range settings {
			if s.Key == "" || !strings.HasPrefix(s.Origin, "f:") {
				t.Errorf("%+v", s)
			}
		}
	})
}
