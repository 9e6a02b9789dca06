package cluster_test

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
)

// fabrics are the ways of handing over that every test runs with.
var fabrics = map[string]bool{"direct": false, "serialized": true}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func settings(kv ...string) (out []config.Setting) {
	for i := 0; i < len(kv); i += 2 {
		out = append(out, config.Setting{Key: kv[i], Value: kv[i+1]})
	}
	return out
}

func TestBoundedJobFinishes(t *testing.T) {
	for name, serialized := range fabrics {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newProgram(3, 2, 10)
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				err := cluster.RunMini(ctx, cluster.MiniConfig{
					Jobs: []cluster.Job{{Name: "numbers", Program: p}}, Memory: cluster.NewMemory(), Serialized: serialized, Logger: logger(t), TaskManagers: 2,
				})
				if err != nil {
					t.Fatal(err)
				}
				p.check(t, 6)
			})
		})
	}
}

// check compares the output with what it must be: every number of each split once, in order.
func (p *program) check(t *testing.T, splits int) {
	t.Helper()
	if len(p.out.seen) != splits {
		t.Errorf("%d splits were read, want %d", len(p.out.seen), splits)
	}
	for s, ns := range p.out.seen {
		for i, n := range ns {
			if n != int64(i) {
				t.Fatalf("split %s: %v", s, ns)
			}
		}
		if int64(len(ns)) != p.limit {
			t.Errorf("split %s: %d numbers, want %d", s, len(ns), p.limit)
		}
	}
}
