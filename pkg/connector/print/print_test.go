package print_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/connector/print"
	"github.com/rivulet-io/rivulet/pkg/event"
)

type point struct{ X, Y int }

// TestPrefix follows the table in the documentation of Flink's print sink.
func TestPrefix(t *testing.T) {
	for _, c := range []struct {
		identifier           string
		subtask, parallelism int
		want                 string
	}{
		{"", 0, 1, "{1 2}\n"},
		{"", 2, 4, "3> {1 2}\n"},
		{"clicks", 0, 1, "clicks> {1 2}\n"},
		{"clicks", 2, 4, "clicks:3> {1 2}\n"},
	} {
		for _, toStderr := range []bool{false, true} {
			var out, err bytes.Buffer
			restore := print.Redirect(&out, &err)
			opts := []print.Option{print.Identifier(c.identifier)}
			if toStderr {
				opts = append(opts, print.ToStderr())
			}
			w, werr := print.Sink[point](opts...).NewWriter(connector.WriterContext{Subtask: c.subtask, Parallelism: c.parallelism})
			if werr != nil {
				t.Fatal(werr)
			}
			if werr := w.Write(point{1, 2}, event.None); werr != nil {
				t.Fatal(werr)
			}
			restore()
			got := []string{out.String(), err.String()}
			want := []string{c.want, ""}
			if toStderr {
				slices.Reverse(want)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%+v: %s", c, d)
			}
		}
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestErrorEndsTheTask(t *testing.T) {
	defer print.Redirect(broken{}, broken{})()
	w, err := print.Sink[int]().NewWriter(connector.WriterContext{Parallelism: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Write(1, event.None); err == nil || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}
