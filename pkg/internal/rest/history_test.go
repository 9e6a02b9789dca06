package rest_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/rest"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// TestHistory: of the jobs that have ended, web.history are shown, the newest; of those that have not, all.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		job := func(name string, bounded bool) cluster.Job {
			return cluster.Job{Name: name, Build: func(env *stream.Env) error {
				in := stream.From(env, numbers{count: 3, bounded: bounded}, event.NoWatermarks[int64](), stream.UID("in"))
				stream.To(in, blackhole.Sink[int64](), stream.UID("out"))
				return nil
			}}
		}
		m, err := cluster.NewMini(cluster.MiniConfig{
			Jobs: []cluster.Job{job("one", true), job("two", false), job("three", true), job("four", true)}, Memory: cluster.NewMemory(), KeepRunning: true,
			Settings: []config.Setting{{Key: "web.history", Value: "1"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, mini: m}
		if w.server, err = rest.New(nil, rest.Config{JobManager: m.JobManager(), Metrics: m.Metrics(), Config: m.Config()}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		defer func() { cancel(); <-done }()
		w.wait("three ended", func() bool {
			n := 0
			for _, j := range m.JobManager().Jobs() {
				if j.State.Terminal() {
					n++
				}
			}
			return n == 3
		})
		var shown []string
		for _, name := range []string{"one", "two", "three", "four"} {
			if strings.Contains(w.do("GET", "/jobs/overview", "").Body.String(), `"name":"`+name+`"`) {
				shown = append(shown, name)
			}
		}
		if d := cmp.Diff([]string{"two", "four"}, shown); d != "" {
			t.Error(d)
		}
		if body := w.do("GET", "/overview", "").Body.String(); !strings.Contains(body, `"jobs-running":1,"jobs-finished":1,`) {
			t.Error(body)
		}
	})
}
