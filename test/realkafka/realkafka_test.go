package realkafka_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/rivulet-io/rivulet/test/realkafka"
)

func TestKillAndRestart(t *testing.T) {
	c := realkafka.Start(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.Bootstrap()), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	produce := func(v string) int64 {
		t.Helper()
		r, err := cl.ProduceSync(t.Context(), kgo.StringRecord(v)).First()
		if err != nil {
			t.Fatal(err)
		}
		return r.Offset
	}
	if o := produce("one"); o != 0 {
		t.Errorf("offset %d", o)
	}
	c.Kill(t)
	c.Restart(t)
	if o := produce("two"); o != 1 {
		t.Errorf("offset %d after a restart: the data is gone", o)
	}
}
