package main

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"github.com/rivulet-io/rivulet/pkg/app"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

const (
	stateKeys = 1_000_000
	// updateRate is how many records each second: first each key once, then keys at random.
	updateRate = 100_000
)

type visit struct {
	User         string
	Pages, Until int64
}

// visits keeps a struct of three fields for each of a million keys of 20 bytes.
func visits(env *stream.Env) error {
	in := stream.From(env, datagen.Source(func(i int64) visit {
		key := uint64(i)
		if i >= stateKeys {
			key = (uint64(i) * 0x9E3779B97F4A7C15) >> 20 % stateKeys
		}
		return visit{User: fmt.Sprintf("user-%015d", key), Pages: 1, Until: i}
	}, datagen.PerSecond(updateRate)), event.NoWatermarks[visit](), stream.UID("visits"))
	sums := stream.Reduce(stream.KeyBy(in, func(v visit) string { return v.User }), func(a, b visit) visit {
		return visit{User: a.User, Pages: a.Pages + b.Pages, Until: max(a.Until, b.Until)}
	}, stream.UID("sums"))
	stream.To(sums, blackhole.Sink[visit](), stream.UID("out"))
	return nil
}

func init() { //nolint:gochecknoinits // a role registers itself
	roles["visits"] = func(context.Context, []byte) (any, error) {
		app.Main("visits", visits)
		return nil, nil //nolint:nilnil // Main does not return
	}
}

// snapshotStats is what the suite reads of one checkpoint or savepoint.
type snapshotStats struct {
	ID          int64  `json:"id"`
	Status      string `json:"status"`
	IsSavepoint bool   `json:"is_savepoint"`
	Duration    int64  `json:"end_to_end_duration"`
	StateSize   int64  `json:"state_size"`
	Written     int64  `json:"checkpointed_size"`
	External    string `json:"external_path"`
}

// snapshots returns what is known of the job's checkpoints and savepoints, the newest first, and the longest pause of its keyed vertex in each, in milliseconds.
func (p *program) snapshots(ctx context.Context) (out []snapshotStats, pause map[int64]int64, err error) {
	d, err := p.job(ctx)
	if err != nil {
		return nil, nil, err
	}
	var list struct{ History []snapshotStats }
	if err := p.call(ctx, http.MethodGet, "/jobs/"+d.JID+"/checkpoints", nil, &list); err != nil {
		return nil, nil, err
	}
	pause = map[int64]int64{}
	for _, s := range list.History {
		if s.Status != "COMPLETED" {
			continue
		}
		out = append(out, s)
		for _, v := range d.Vertices {
			var t struct {
				Subtasks []struct{ Checkpoint struct{ Sync int64 } }
			}
			if err := p.call(ctx, http.MethodGet, fmt.Sprintf("/jobs/%s/checkpoints/details/%d/subtasks/%s", d.JID, s.ID, v.ID), nil, &t); err != nil {
				return nil, nil, err
			}
			for _, sub := range t.Subtasks {
				pause[s.ID] = max(pause[s.ID], sub.Checkpoint.Sync)
			}
		}
	}
	return out, pause, nil
}

// stateSuite measures checkpoints, savepoints and restores of a million keys.
func stateSuite(ctx context.Context, c options) (Table, error) {
	t := Table{Columns: []string{"snapshot", "state MB", "changed MB", "written MB", "written / (3 x changed + state/16)", "longest pause ms", "took ms"}}
	const interval = 2 * time.Second
	every := []string{"-D", "execution.checkpointing.interval=" + interval.String()}
	p, err := runProgram(ctx, "visits", filepath.Join(c.dir, "state"), every...)
	if err != nil {
		return t, err
	}
	running := p
	defer func() { _ = running.stop() }()
	err = until(ctx, "the keys are loaded", func() (bool, error) {
		d, err := p.job(ctx)
		return err == nil && len(d.Vertices) == 2 && d.Vertices[1].Metrics.Read > stateKeys+6*updateRate, err
	})
	if err != nil {
		return t, err
	}
	d, err := p.job(ctx)
	if err != nil {
		return t, err
	}
	var trigger struct {
		ID string `json:"request-id"`
	}
	if err := p.call(ctx, http.MethodPost, "/jobs/"+d.JID+"/savepoints", map[string]any{"target-directory": filepath.Join(c.dir, "savepoints")}, &trigger); err != nil {
		return t, err
	}
	var savepoint string
	err = until(ctx, "the savepoint", func() (bool, error) {
		var s struct {
			Status    struct{ ID string }
			Operation struct {
				Location string
				Cause    any `json:"failure-cause"`
			}
		}
		err := p.call(ctx, http.MethodGet, "/jobs/"+d.JID+"/savepoints/"+trigger.ID, nil, &s)
		if s.Operation.Cause != nil {
			return false, fmt.Errorf("savepoint: %v", s.Operation.Cause)
		}
		savepoint = s.Operation.Location
		return s.Status.ID == "COMPLETED", err
	})
	if err != nil {
		return t, err
	}
	list, pause, err := p.snapshots(ctx)
	if err != nil {
		return t, err
	}
	row := func(what string, s snapshotStats, pause int64, changed float64) {
		bound := "whole"
		if changed > 0 {
			bound = fmt.Sprintf("%.2f", float64(s.Written)/(3*changed+float64(s.StateSize)/16))
		}
		t.add(what, fmt.Sprintf("%.1f", float64(s.StateSize)/1e6), fmt.Sprintf("%.1f", changed/1e6), fmt.Sprintf("%.1f", float64(s.Written)/1e6), bound, strconv.FormatInt(pause, 10), strconv.FormatInt(s.Duration, 10))
	}
	incremental := 0
	for i := len(list) - 1; i >= 0; i-- {
		s := list[i]
		switch {
		case i == len(list)-1:
			row("first checkpoint, of the keys so far", s, pause[s.ID], 0)
		case s.IsSavepoint:
			row("savepoint", s, pause[s.ID], 0)
		case i <= 3 && incremental < 2:
			incremental++
			updates := updateRate * interval.Seconds()
			row("incremental checkpoint", s, pause[s.ID], updates*(1-updates/2/stateKeys)*float64(s.StateSize)/stateKeys)
		}
	}
	if err := p.stop(); err != nil {
		return t, err
	}
	q, err := runProgram(ctx, "visits", filepath.Join(c.dir, "state2"), append(every, "--from-savepoint", savepoint)...)
	if err != nil {
		return t, err
	}
	running = q
	var took time.Duration
	err = until(ctx, "it runs again", func() (bool, error) {
		d, err := q.job(ctx)
		for _, v := range d.Vertices {
			if v.Status != "RUNNING" {
				return false, err
			}
		}
		took = time.Since(q.started)
		return err == nil && len(d.Vertices) > 0, err
	})
	if err != nil {
		return t, err
	}
	err = until(ctx, "a checkpoint after the restore", func() (bool, error) {
		list, pause, err = q.snapshots(ctx)
		return len(list) > 0, err
	})
	if err != nil {
		return t, err
	}
	row("first checkpoint after NO_CLAIM", list[len(list)-1], pause[list[len(list)-1].ID], 0)
	t.Notes = append(t.Notes, fmt.Sprintf("%d updates each second to keys at random, a checkpoint each %v. Restored from the savepoint: all tasks RUNNING %d ms after process start.", updateRate, interval, took.Milliseconds()))
	return t, nil
}
