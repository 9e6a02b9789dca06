package eos_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rivulet-io/rivulet/test/eos"
)

const run = 7

// input is 3 keys of 40 records, one each 100 ms, in one partition, and one record that ends all windows.
func input(t *testing.T) *eos.Input {
	t.Helper()
	in := eos.NewInput(run)
	for seq := uint64(1); seq <= 40; seq++ {
		for key := range uint32(3) {
			if err := in.Add(0, eos.Record{Key: key, Seq: seq, TS: int64(seq) * 100, Run: run}.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := in.Add(0, eos.Record{Key: 3, Seq: 1, TS: 14000, Run: run}.Append(nil)); err != nil {
		t.Fatal(err)
	}
	in.Close()
	return in
}

// perfect is what a job without fault writes.
func perfect(topic string) (rows [][]byte) {
	counts, groups := map[uint32]uint64{}, map[uint32]int64{}
	windows := map[[2]int64]eos.Windowed{}
	var order [][2]int64
	move := func(group uint32, by int64) {
		groups[group] += by
		rows = append(rows, eos.Grouped{Group: group, Run: run, Keys: groups[group]}.Append(nil))
	}
	add := func(r eos.Record) {
		counts[r.Key]++
		switch topic {
		case "j2":
			rows = append(rows, eos.Counted{Record: r, Count: r.Seq, Sum: r.Seq * (r.Seq + 1) / 2}.Append(nil))
		case "j3":
			k := [2]int64{int64(r.Key), r.TS / eos.Window * eos.Window}
			w, ok := windows[k]
			if !ok {
				w = eos.Windowed{Key: r.Key, Run: run, Start: k[1], Min: r.Seq}
				order = append(order, k)
			}
			w.Count, w.Sum, w.Max = w.Count+1, w.Sum+r.Seq, r.Seq
			windows[k] = w
		case "j5":
			if n := counts[r.Key]; n == 1 || eos.Group(n) != eos.Group(n-1) {
				if n > 1 {
					move(eos.Group(n-1), -1)
				}
				move(eos.Group(n), 1)
			}
		default:
			rows = append(rows, r.Append(nil))
		}
	}
	for seq := uint64(1); seq <= 40; seq++ {
		for key := range uint32(3) {
			add(eos.Record{Key: key, Seq: seq, TS: int64(seq) * 100, Run: run})
		}
	}
	add(eos.Record{Key: 3, Seq: 1, TS: 14000, Run: run})
	for _, k := range order {
		if k[0] != 3 { // its window has not ended
			rows = append(rows, windows[k].Append(nil))
		}
	}
	return rows
}

func check(t *testing.T, topic string, rows [][]byte) eos.Count {
	t.Helper()
	o := eos.NewOracle(topic, input(t))
	for _, r := range rows {
		o.Add(r)
	}
	o.Finish()
	return o.Count
}

// TestOracle: what is as it should be is taken, and each kind of damage is named exactly.
func TestOracle(t *testing.T) {
	for _, topic := range []string{"j1", "j2", "j3", "j5", "j8b"} {
		rows := perfect(topic)
		if c := check(t, topic, rows); c.Bad() != 0 || c.Out != c.Expected {
			t.Errorf("%s: of a perfect output: %+v", topic, c)
		}
	}
	type rows = [][]byte
	without := func(r rows, i int) rows { return append(r[:i:i], r[i+1:]...) }
	again := func(r rows, i int) rows { return append(append(r[:i+1:i+1], r[i]), r[i+1:]...) }
	for _, tt := range []struct {
		topic, what string
		damage      func(rows) rows
		want        string
	}{
		{"j1", "one lost", func(r rows) rows { return without(r, 10) }, "lost 1: record 4 of 40 of key 1 did not come"},
		{"j1", "the last of a key lost", func(r rows) rows { return without(r, 118) }, "lost 1: record 40 of 40 of key 1 did not come"},
		{"j1", "one doubled", func(r rows) rows { return again(r, 10) }, "doubled 1: record 4 of key 1 came again, after record 4"},
		{"j1", "two swapped", func(r rows) rows { r[10], r[13] = r[13], r[10]; return r }, "disordered 1: record 4 of key 1 came after record 5"},
		{"j1", "one damaged", func(r rows) rows { r[10][40] ^= 1; return r }, "lost 1 phantom 1: row 11 is damaged"},
		{"j1", "one cut off", func(r rows) rows { r[10] = r[10][:63]; return r }, "lost 1 phantom 1: row 11 is damaged"},
		{"j8a", "one with more behind it", func(r rows) rows { r[10] = append(r[10], 0); return r }, "lost 1 phantom 1: row 11 is damaged"},
		{"j1", "one of another run", func(r rows) rows {
			return append(r, eos.Record{Key: 1, Seq: 4, Run: 6}.Append(nil))
		}, "phantom 1: record 4 of key 1 of run 6 is not of the input"},
		{"j1", "one too many", func(r rows) rows {
			return append(r, eos.Record{Key: 1, Seq: 41, Run: run}.Append(nil))
		}, "phantom 1: record 41 of key 1 of run 7 is not of the input"},
		{"j2", "a lost update of state", func(r rows) rows {
			r[117] = eos.Counted{Record: eos.Record{Key: 0, Seq: 40, TS: 4000, Run: run}, Count: 39, Sum: 820}.Append(nil)
			return r
		}, "wrong 1: record 40 of key 0 was counted as number 39, with a sum of 820"},
		{"j2", "a wrong sum", func(r rows) rows {
			r[117] = eos.Counted{Record: eos.Record{Key: 0, Seq: 40, TS: 4000, Run: run}, Count: 40, Sum: 821}.Append(nil)
			return r
		}, "wrong 1: record 40 of key 0 was counted as number 40, with a sum of 821"},
		{"j3", "a window lost", func(r rows) rows { return without(r, 4) }, "lost 1: window 1000 of key 1 did not come"},
		{"j3", "a window twice", func(r rows) rows { return again(r, 4) }, "doubled 1: window 1000 of key 1 came again"},
		{"j3", "a record too few", func(r rows) rows {
			w, _ := eos.ParseWindowed(r[4])
			w.Count--
			r[4] = w.Append(nil)
			return r
		}, "wrong 1: window {Key:1 Run:7 Start:1000 Count:9 Sum:145 Min:10 Max:19}, want {Key:1 Run:7 Start:1000 Count:10 Sum:145 Min:10 Max:19}"},
		{"j3", "two windows swapped", func(r rows) rows { r[1], r[4] = r[4], r[1]; return r }, "disordered 1: window 0 of key 1 came after window 1000"},
		{"j3", "a window too early", func(r rows) rows {
			return append(r, eos.Windowed{Key: 3, Run: run, Start: 14000, Count: 1, Sum: 1, Min: 1, Max: 1}.Append(nil))
		}, "phantom 1: window 14000 of key 3 has no records in the input, or has not ended"},
		{"j5", "a row twice", func(r rows) rows { return again(r, 5) }, "doubled 1: group 0 has 1 keys again"},
		{"j5", "a row lost", func(r rows) rows { return without(r, 4) }, "lost 1 wrong 1: group 1 went from 0 to 2 keys"},
	} {
		t.Run(tt.topic+" "+tt.what, func(t *testing.T) {
			c := check(t, tt.topic, tt.damage(perfect(tt.topic)))
			var got []string
			for _, n := range []struct {
				name string
				n    int64
			}{{"lost", c.Lost}, {"doubled", c.Doubled}, {"disordered", c.Disordered}, {"phantom", c.Phantom}, {"wrong", c.Wrong}} {
				if n.n > 0 {
					got = append(got, fmt.Sprintf("%s %d", n.name, n.n))
				}
			}
			if got := strings.Join(got, " ") + ": " + c.First; got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestInput: an input with a gap, a repetition, or of another run says nothing about the job.
func TestInput(t *testing.T) {
	for _, seqs := range [][]uint64{{2}, {1, 3}, {1, 1}} {
		in := eos.NewInput(run)
		var err error
		for _, s := range seqs {
			err = in.Add(0, eos.Record{Key: 1, Seq: s, Run: run}.Append(nil))
		}
		if err == nil {
			t.Errorf("%v was taken", seqs)
		}
	}
	if err := eos.NewInput(run).Add(0, eos.Record{Key: 1, Seq: 1, Run: 6}.Append(nil)); err == nil {
		t.Error("another run was taken")
	}
	if err := eos.NewInput(run).Add(0, nil); err == nil {
		t.Error("nothing was taken")
	}
}
