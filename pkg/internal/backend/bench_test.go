package backend_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/state"
)

const benchKeys = 1 << 20

// cpu is the processor time that the process has used: on a machine that does other things too, the honest measure.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// loop is b.Loop, and reports the processor time per call.
func loop(b *testing.B, f func()) {
	b.ReportAllocs()
	start := cpu(b)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// runtime is a function's runtime over a backend.
type runtime struct {
	b  *backend.Keyed
	tb testing.TB
}

func (r runtime) StateBackend() state.Backend { return r.b }
func (r runtime) FailState(err error)         { r.tb.Fatal(err) }

func benchBackend(b testing.TB, d *disk, restored ...*snapshotv1.KeyedState) *backend.Keyed {
	b.Helper()
	k, err := backend.Open(backend.Config{
		Range: base.KeyGroupRange{Start: 0, End: 127}, MaxParallelism: 128, Now: func() event.Time { return 0 },
		Restored: restored, Base: "mem://x", Read: d.read,
	})
	if err != nil {
		b.Fatal(err)
	}
	return k
}

// stats is the state of the figure: three fields.
type stats struct{ Count, Sum, Top int64 }

// structKey is 20 bytes, as package codec encodes a string of 19.
func structKey(buf []byte, i uint64) []byte {
	buf = append(buf[:0], 19)
	buf = binary.LittleEndian.AppendUint64(buf, i*0x9e3779b97f4a7c15)
	buf = binary.LittleEndian.AppendUint64(buf, i)
	return append(buf, 7, 7, 7)
}

func setKey(b testing.TB, k *backend.Keyed, key []byte) {
	if err := k.SetKey(key, base.HashKey(key)); err != nil {
		b.Fatal(err)
	}
}

// structState is a backend with a struct for each of benchKeys keys.
func structState(b testing.TB, d *disk, restored ...*snapshotv1.KeyedState) (*backend.Keyed, func(i uint64)) {
	k := benchBackend(b, d, restored...)
	v := state.NewValue[stats](runtime{k, b}, "stats")
	var buf []byte
	return k, func(i uint64) {
		buf = structKey(buf, i)
		setKey(b, k, buf)
		s := v.Get()
		s.Count++
		s.Sum += 5
		s.Top = max(s.Top, 5)
		v.Set(s)
	}
}

func fill(update func(i uint64)) {
	for i := range uint64(benchKeys) {
		update(i)
	}
}

func BenchmarkUpdate(b *testing.B) {
	b.Run("key=20B/value=struct", func(b *testing.B) {
		k, update := structState(b, newDisk())
		fill(update)
		rng := rand.New(rand.NewPCG(1, 2))
		loop(b, func() { update(rng.Uint64N(benchKeys)) })
		b.ReportMetric(float64(k.Held())/benchKeys, "B/key")
	})
	b.Run("key=20B/value=struct/fetched", func(b *testing.B) { // as a keyed operator does
		k := benchBackend(b, newDisk())
		v := state.NewValue[stats](runtime{k, b}, "stats")
		var keys [32][]byte
		var hashes [32]base.Hash
		update := func(i int) {
			if err := k.SetKey(keys[i], hashes[i]); err != nil {
				b.Fatal(err)
			}
			s := v.Get()
			s.Count++
			s.Sum += 5
			s.Top = max(s.Top, 5)
			v.Set(s)
		}
		for i := range uint64(benchKeys) {
			keys[0] = structKey(keys[0], i)
			hashes[0] = base.HashKey(keys[0])
			update(0)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		loop(b, func() {
			for i := range keys {
				keys[i] = structKey(keys[i], rng.Uint64N(benchKeys))
				hashes[i] = base.HashKey(keys[i])
			}
			k.Fetch(hashes[:])
			for i := range keys {
				update(i)
			}
		})
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(32*b.N), "ns/record")
	})
	b.Run("key=uint64/sum", func(b *testing.B) {
		k := benchBackend(b, newDisk())
		v := state.NewAggregating(runtime{k, b}, "sum", state.Aggregator[uint64, uint64, uint64](adder{}))
		var buf [8]byte
		update := func(i uint64) {
			binary.LittleEndian.PutUint64(buf[:], i)
			setKey(b, k, buf[:])
			v.Fold(i)
		}
		fill(update)
		rng := rand.New(rand.NewPCG(1, 2))
		loop(b, func() { update(rng.Uint64N(benchKeys)) })
		b.ReportMetric(float64(k.Held())/benchKeys, "B/key")
	})
	b.Run("key=uint64/sum/fetched", func(b *testing.B) { // as a keyed operator does
		k := benchBackend(b, newDisk())
		v := state.NewAggregating(runtime{k, b}, "sum", state.Aggregator[uint64, uint64, uint64](adder{}))
		var keys [32][8]byte
		var hashes [32]base.Hash
		update := func(i int) {
			if err := k.SetKey(keys[i][:], hashes[i]); err != nil {
				b.Fatal(err)
			}
			v.Fold(uint64(i))
		}
		for i := range uint64(benchKeys) {
			binary.LittleEndian.PutUint64(keys[0][:], i)
			hashes[0] = base.HashKey(keys[0][:])
			update(0)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		loop(b, func() {
			for i := range keys {
				binary.LittleEndian.PutUint64(keys[i][:], rng.Uint64N(benchKeys))
				hashes[i] = base.HashKey(keys[i][:])
			}
			k.Fetch(hashes[:])
			for i := range keys {
				update(i)
			}
		})
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(32*b.N), "ns/record")
	})
	b.Run("key=uint64/map", func(b *testing.B) {
		k := benchBackend(b, newDisk())
		m := state.NewMap[uint64, uint64](runtime{k, b}, "map")
		var buf [8]byte
		update := func(i uint64) {
			binary.LittleEndian.PutUint64(buf[:], i>>3)
			setKey(b, k, buf[:])
			m.Put(i&7, m.Get(i&7)+1)
		}
		fill(update)
		rng := rand.New(rand.NewPCG(1, 2))
		loop(b, func() { update(rng.Uint64N(benchKeys)) })
		b.ReportMetric(float64(k.Held())/benchKeys, "B/entry")
	})
}

type adder struct{}

func (adder) Create() uint64           { return 0 }
func (adder) Add(a, v uint64) uint64   { return a + v }
func (adder) Result(a uint64) uint64   { return a }
func (adder) Merge(a, b uint64) uint64 { return a + b }

// BenchmarkTimers is what a window operator does per record, and per window and key.
func BenchmarkTimers(b *testing.B) {
	for _, keys := range []uint64{1 << 10, 1 << 20} {
		b.Run(fmt.Sprint("register-again/keys=", keys), func(b *testing.B) {
			k := benchBackend(b, newDisk())
			q := k.Timers("t")
			var buf [8]byte
			var ns [16]byte
			register := func(i uint64) {
				binary.LittleEndian.PutUint64(buf[:], i)
				setKey(b, k, buf[:])
				k.SetNamespace(ns[:])
				q.Register(1000)
				q.Register(2000)
			}
			for i := range keys {
				register(i)
			}
			rng := rand.New(rand.NewPCG(1, 2))
			loop(b, func() { register(rng.Uint64N(keys)) })
		})
		b.Run(fmt.Sprint("register-and-fire/keys=", keys), func(b *testing.B) {
			k := benchBackend(b, newDisk())
			q := k.Timers("t")
			var buf [8]byte
			var ns [16]byte
			wm := event.Time(0)
			start := cpu(b)
			loop(b, func() {
				wm += 1000
				binary.BigEndian.PutUint64(ns[:], uint64(wm))
				for i := range keys {
					binary.LittleEndian.PutUint64(buf[:], i)
					setKey(b, k, buf[:])
					k.SetNamespace(ns[:])
					q.Register(wm)
				}
				n := uint64(0)
				for _, ok := q.Pop(wm); ok; _, ok = q.Pop(wm) {
					n++
				}
				if n != keys {
					b.Fatal(n)
				}
			})
			b.ReportMetric(float64((cpu(b)-start).Nanoseconds())/float64(uint64(b.N)*keys), "cpu-ns/timer")
		})
	}
}

// BenchmarkCheckpoint is the pause and the bytes of each kind of checkpoint of a million structs, one in a hundred changed, and how long a restore takes.
func BenchmarkCheckpoint(b *testing.B) {
	d := newDisk()
	k, update := structState(b, d)
	fill(update)
	rng := rand.New(rand.NewPCG(1, 2))
	id := int64(0)
	var last *snapshotv1.KeyedState
	take := func(b *testing.B, full, shared bool, change int) {
		var pause, worst time.Duration
		var written int64
		during, n := 0, 0
		var took time.Duration
		for b.Loop() {
			for range change {
				update(rng.Uint64N(benchKeys))
			}
			id++
			n++
			start := time.Now()
			write := k.Snapshot(id, full, shared)
			p := time.Since(start)
			pause += p
			worst = max(worst, p)
			done := make(chan *snapshotv1.KeyedState)
			go func() {
				s, err := write(context.Background(), &diskStore{d: d})
				if err != nil {
					b.Error(err)
				}
				done <- s
			}()
			for last = nil; last == nil; {
				select {
				case last = <-done:
				default:
					for range 100 {
						update(rng.Uint64N(benchKeys))
					}
					during += 100
				}
			}
			took += time.Since(start)
			written += last.GetWrittenBytes()
			if shared {
				k.Complete(id)
			} else {
				k.Aborted(id)
			}
		}
		b.ReportMetric(float64(pause.Microseconds())/float64(n), "µs-pause")
		b.ReportMetric(float64(worst.Microseconds()), "µs-worst-pause")
		b.ReportMetric(float64(written)/float64(n)/1e6, "MB-written")
		b.ReportMetric(float64(took.Nanoseconds())/float64(max(during, 1)), "ns/update-meanwhile")
	}
	b.Run("first", func(b *testing.B) { take(b, true, true, 0) })
	b.Run("incremental/changed=1%", func(b *testing.B) { take(b, false, true, benchKeys/100) })
	b.Run("savepoint", func(b *testing.B) { take(b, true, false, 0) })
	b.Run("restore", func(b *testing.B) {
		loop(b, func() { benchBackend(b, d, last) })
	})
}
