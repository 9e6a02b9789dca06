package kafka

import (
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// TestDescribed: what is stored is told in words, and what is another connector's is not.
func TestDescribed(t *testing.T) {
	p := position{partition: partition{"clicks", 3}, offset: 42, epoch: 7, stop: unset}
	c := committable{id: "count-out-0-1", pid: 9, epoch: 2, checkpoint: 17, records: 5, first: time.UnixMilli(1000), deadline: time.UnixMilli(61000)}
	s := sinkState{prefix: "count-out", subtasks: 1, slots: 2}
	stored := map[string][]byte{"split": p.append(nil), "committable": c.append(nil), "sink": s.append(nil), "other": []byte("other"), "none": nil}
	asks := map[string]func(connector.Describer, []byte) string{"split": connector.Describer.Split, "committable": connector.Describer.Committable, "sink": connector.Describer.Sink}
	want := map[string]string{
		"split": "Kafka topic clicks partition 3, next offset 42",
		"committable": `Kafka transaction "count-out-0-1" (producer 9, epoch 2, checkpoint 17, 5 records), first record 1970-01-01T00:00:01Z, ` +
			"may be aborted by the broker from 1970-01-01T00:01:01Z",
		"sink": `Kafka transactions with the prefix "count-out"`,
	}
	for ask, f := range asks {
		for what, b := range stored {
			expected := ""
			if what == ask {
				expected = want[ask]
			}
			if got := connector.Described(f, b); got != expected {
				t.Errorf("%s asked as %s: %q, want %q", what, ask, got, expected)
			}
		}
	}
	p.offset, p.stop = earliest, 100
	if got := connector.Described(connector.Describer.Split, p.append(nil)); got != "Kafka topic clicks partition 3, from its start, ends before 100" {
		t.Errorf("%q", got)
	}
}
