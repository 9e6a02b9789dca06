package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

// engineArg says which job an engine process runs.
type engineArg struct {
	Job     string
	Records int64
	Fabric  cluster.Fabric
}

// engineResult is what it measured itself.
type engineResult struct {
	Seconds float64
	// Allocs counts allocations from the first record to the end; GC is the collector's share of the CPU.
	Allocs uint64
	GC     float64
}

func init() { //nolint:gochecknoinits // a role registers itself
	roles["engine"] = func(ctx context.Context, arg []byte) (any, error) {
		var a engineArg
		if err := json.Unmarshal(arg, &a); err != nil {
			return nil, err
		}
		return runEngine(ctx, a)
	}
}

func runEngine(ctx context.Context, a engineArg) (engineResult, error) {
	build := engineJobs[a.Job]
	if build == nil {
		return engineResult{}, fmt.Errorf("no job %q", a.Job)
	}
	dir, err := os.MkdirTemp("", "rivulet-bench-engine-")
	if err != nil {
		return engineResult{}, err
	}
	defer os.RemoveAll(dir)
	var began time.Time
	var before, after runtime.MemStats
	first := func() {
		runtime.ReadMemStats(&before)
		began = time.Now()
	}
	err = cluster.RunMini(ctx, cluster.MiniConfig{
		Jobs:    []cluster.Job{{Name: a.Job, Build: func(env *stream.Env) error { return build(env, a.Records, first) }}},
		DataDir: dir, Fabric: a.Fabric, Settings: []config.Setting{{Key: "execution.checkpointing.interval", Value: "0"}},
	})
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	return engineResult{Seconds: took.Seconds(), Allocs: after.Mallocs - before.Mallocs, GC: after.GCCPUFraction}, err
}

// engineJobs are the programs. They call first when they make their first record.
var engineJobs = map[string]func(env *stream.Env, records int64, first func()) error{
	"chain": func(env *stream.Env, records int64, first func()) error {
		s := numbers(env, records, first)
		s = stream.Map(s, func(v uint64) uint64 { return v ^ v>>7 })
		s = stream.Filter(s, func(v uint64) bool { return v%100 != 0 })
		stream.To(s, blackhole.Sink[uint64]())
		return nil
	},
	"exchange": func(env *stream.Env, records int64, first func()) error {
		s := numbers(env, records, first)
		s = stream.Map(stream.Rebalance(s), func(v uint64) uint64 { return v ^ v>>7 })
		stream.To(s, blackhole.Sink[uint64]())
		return nil
	},
	"sum": func(env *stream.Env, records int64, first func()) error {
		s := numbers(env, records, first)
		s = stream.Map(s, func(v uint64) uint64 { return (v * 0x9E3779B97F4A7C15) >> 44 }) // 1 M keys, scattered
		s = stream.Filter(s, func(v uint64) bool { return v != 1<<20 })
		sums := stream.Reduce(stream.KeyBy(s, func(v uint64) uint64 { return v }), func(a, b uint64) uint64 { return a + b })
		stream.To(sums, blackhole.Sink[uint64]())
		return nil
	},
	"struct": func(env *stream.Env, records int64, first func()) error {
		s := stream.Map(numbers(env, records, first), func(v uint64) sale {
			n := (v * 0x9E3779B97F4A7C15) >> 44
			return sale{Item: item{Shop: n, Shelf: n ^ 0x5555, Place: uint32(n)}, Price: int64(v)}
		})
		perItem := stream.KeyBy(s, func(s sale) item { return s.Item })
		totals := stream.Process(perItem, func() stream.KeyedProcess[item, sale, int64] { return new(totaling) })
		stream.To(totals, blackhole.Sink[int64]())
		return nil
	},
	"big": func(env *stream.Env, records int64, first func()) error {
		s := stream.Map(numbers(env, records, first), func(v uint64) uint64 { return v % 500_000 })
		kept := stream.Process(stream.KeyBy(s, func(v uint64) uint64 { return v }), func() stream.KeyedProcess[uint64, uint64, int64] { return new(keeper[uint64]) })
		stream.To(kept, blackhole.Sink[int64]())
		return nil
	},
}

// item is a key of 20 bytes.
type item struct {
	Shop, Shelf uint64
	Place       uint32
}

type sale struct {
	Item  item
	Price int64
}

type total struct{ Count, Sum, Largest int64 }

// totaling keeps three figures per key.
type totaling struct{ total state.Value[total] }

func (t *totaling) Open(r *stream.Runtime) error {
	t.total = state.NewValue[total](r, "total")
	return nil
}

func (t *totaling) Process(_ stream.Context[item], s sale, out stream.Out[int64]) error {
	v := t.total.Get()
	v.Count, v.Sum, v.Largest = v.Count+1, v.Sum+s.Price, max(v.Largest, s.Price)
	t.total.Set(v)
	out.Emit(v.Sum)
	return nil
}

func (t *totaling) OnTimer(stream.Context[item], time.Time, stream.Out[int64]) error { return nil }

func numbers(env *stream.Env, records int64, first func()) stream.Stream[uint64] {
	return stream.From(env, datagen.Source(func(i int64) uint64 {
		if i == 0 {
			first()
		}
		return uint64(i)
	}, datagen.Count(records)), event.NoWatermarks[uint64]())
}

// engine measures the engine alone.
func engine(ctx context.Context, c options) (Table, error) {
	t := Table{Columns: []string{"job", "million records/s", "allocations/record", "GC CPU"}}
	for _, j := range []struct {
		what string
		arg  engineArg
	}{
		{"generator, map, filter in one chain", engineArg{Job: "chain", Records: 100e6}},
		{"generator -> map, each hand-over serialized", engineArg{Job: "exchange", Records: 20e6, Fabric: cluster.Serialized}},
		{"generator, map, filter -> keyBy, sum: 1 M uint64 keys", engineArg{Job: "sum", Records: 40e6}},
		{"generator, map -> keyBy, three figures: 1 M keys of 20 bytes", engineArg{Job: "struct", Records: 20e6}},
		{"generator -> keyBy, 500 MB of state: 1 KB for each of 500,000 keys", engineArg{Job: "big", Records: 5e6}},
	} {
		j.arg.Records = int64(float64(j.arg.Records) * c.scale)
		var runs []engineResult
		for range c.rounds {
			var r engineResult
			if _, err := measure(ctx, "engine", j.arg, &r); err != nil {
				return t, err
			}
			runs = append(runs, r)
		}
		n := float64(j.arg.Records)
		t.add(j.what, fmt.Sprintf("%.1f", n/1e6/medianOf(runs, func(r engineResult) float64 { return r.Seconds })),
			strconv.FormatFloat(medianOf(runs, func(r engineResult) float64 { return float64(r.Allocs) })/n, 'f', 4, 64),
			fmt.Sprintf("%.1f %%", 100*medianOf(runs, func(r engineResult) float64 { return r.GC })))
	}
	return t, nil
}
