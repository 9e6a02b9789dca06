package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/config"
)

// settings returns what -D sets in arguments, in each of its forms: -Dk=v, -D=k=v, -D k=v.
func settings(t *testing.T, args []string) (out []config.Setting) {
	t.Helper()
	for i := 0; i < len(args); i++ {
		text, ok := strings.CutPrefix(args[i], "-D")
		if !ok {
			continue
		}
		if text = strings.TrimPrefix(text, "="); text == "" {
			if i++; i == len(args) {
				t.Errorf("%v: nothing follows -D", args)
				break
			}
			text = args[i]
		}
		s, err := config.ParseSetting(text)
		if err != nil {
			t.Error(err)
			continue
		}
		out = append(out, s)
	}
	return out
}

// checkSettings checks what -D sets: each key is known and acted on, each value valid.
func checkSettings(t *testing.T, name string, args []string) *config.Config {
	t.Helper()
	return check(t, name, settings(t, args))
}

func check(t *testing.T, name string, s []config.Setting) *config.Config {
	t.Helper()
	c, err := config.New(s...)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	for _, w := range c.Warnings() {
		t.Errorf("%s: %s: %s", name, w.Key, w.Reason)
	}
	return c
}

// within checks that a process that keeps to its memory is within the limit of its container, in bytes.
func within(t *testing.T, name string, args []string, limit int64) {
	t.Helper()
	memory := config.Bytes(0)
	i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "--memory=") })
	if i >= 0 {
		var err error
		if memory, err = config.ParseBytes(strings.TrimPrefix(args[i], "--memory=")); err != nil {
			t.Error(err)
		}
	}
	if memory == 0 || int64(memory) > limit {
		t.Errorf("%s: --memory is %v, the limit of its container %v: want as much or less, and not nothing", name, memory, config.Bytes(limit))
	}
}

// checkConfig checks a config.yaml.
func checkConfig(t *testing.T, name, text string) {
	t.Helper()
	s, err := config.Parse([]byte(text), "config.yaml")
	if err != nil || len(s) == 0 {
		t.Errorf("%s: config.yaml has %d keys: %v", name, len(s), err)
	}
	check(t, name, s)
}
