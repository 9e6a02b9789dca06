package backend_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/backend"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	snapshotv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/snapshot/v1"
	"github.com/rivulet-io/rivulet/pkg/state"
)

var writeGolden = flag.Bool("golden", false, "write testdata/golden-v1 anew, which a release never does")

const goldenDir = "testdata/golden-v1"

// goldenOpen opens a backend of all key groups.
func goldenOpen(t testing.TB, d *disk, r base.KeyGroupRange, now int64, restored ...*snapshotv1.KeyedState) (*backend.Keyed, error) {
	t.Helper()
	return backend.Open(backend.Config{
		Range: r, MaxParallelism: maxParallelism, Restored: restored, Base: "mem://x", Read: d.read,
		Now: func() event.Time { return event.Time(now) },
	})
}

var allGroups = base.KeyGroupRange{Start: 0, End: maxParallelism - 1}

// goldenState writes state of all kinds: a first checkpoint, and one with changes.
func goldenState(t testing.TB, d *disk) *snapshotv1.KeyedState {
	b, err := goldenOpen(t, d, allGroups, 1000)
	if err != nil {
		t.Fatal(err)
	}
	r := runtime{b, t}
	value := state.NewValue[string](r, "value")
	list := state.NewList[int32](r, "list")
	m := state.NewMap[string, stats](r, "map")
	reducing := state.NewReducing(r, "reducing", func(a, b int64) int64 { return a + b }, state.WithTTL(state.TTL{Duration: 1 << 40}))
	timers := b.Timers("event-timers")
	var last *snapshotv1.KeyedState
	checkpoint := func(id int64) {
		write := b.Snapshot(id, id == 1, true)
		if last, err = write(context.Background(), &diskStore{d: d}); err != nil {
			t.Fatal(err)
		}
		b.Complete(id)
	}
	for i := range 40 {
		setKey(t, b, fmt.Appendf(nil, "key-%d", i))
		value.Set(strings.Repeat("v", i))
		list.AddAll([]int32{int32(i), 2, 3})
		m.Put("a", stats{1, int64(i), 3})
		m.Put("b", stats{})
		reducing.Add(int64(i))
		b.SetNamespace(fmt.Appendf(nil, "window-%d", i%3))
		reducing.Add(7)
		timers.Register(event.Time(100 * i))
	}
	checkpoint(1)
	for _, i := range []int{1, 5, 30} {
		setKey(t, b, fmt.Appendf(nil, "key-%d", i))
		value.Clear()
		list.Clear()
		list.Add(-1)
		m.Delete("a")
		m.Put("b", stats{4, 5, 6})
		reducing.Add(100)
		timers.Register(-5)
		b.SetNamespace(fmt.Appendf(nil, "window-%d", i%3))
		timers.Delete(event.Time(100 * i))
	}
	checkpoint(2)
	if n := len(last.GetFiles()); n != 2 {
		t.Fatalf("%d files", n)
	}
	return last
}

// TestGolden restores what the first release wrote, to the last row.
func TestGolden(t *testing.T) {
	if *writeGolden {
		d := newDisk()
		last := goldenState(t, d)
		if err := os.MkdirAll(filepath.Join(goldenDir, "shared"), 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := goldenOpen(t, d, allGroups, 0, last)
		if err != nil {
			t.Fatal(err)
		}
		meta, err := proto.Marshal(last)
		if err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{"keyed": meta, "rows.txt": []byte(b.Dump())}
		for name, content := range d.files {
			files[strings.TrimPrefix(name, "mem://x/")] = content
		}
		for name, content := range files {
			if err := os.WriteFile(filepath.Join(goldenDir, name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	d, keyed := readGolden(t)
	want, err := os.ReadFile(filepath.Join(goldenDir, "rows.txt"))
	if err != nil {
		t.Fatal(err)
	}
	for _, parallelism := range []int{1, 3} {
		var got []string
		for i := range parallelism {
			b, err := goldenOpen(t, d, base.RangeOf(i, parallelism, maxParallelism), 0, keyed)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, slices.Collect(strings.Lines(b.Dump()))...)
		}
		slices.Sort(got)
		if s := strings.Join(got, ""); s != string(want) {
			t.Errorf("parallelism %d: got\n%s\nwant\n%s", parallelism, s, want)
		}
	}
	// This release writes the same bytes, so that a change of the format does not go unnoticed.
	e := newDisk()
	goldenState(t, e)
	for name, content := range d.files {
		if !bytes.Equal(e.files[name], content) {
			t.Errorf("%s: other bytes are written than are kept", name)
		}
	}
}

func readGolden(t testing.TB) (*disk, *snapshotv1.KeyedState) {
	t.Helper()
	d, keyed := newDisk(), new(snapshotv1.KeyedState)
	meta, err := os.ReadFile(filepath.Join(goldenDir, "keyed"))
	if err == nil {
		err = proto.Unmarshal(meta, keyed)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range keyed.GetFiles() {
		if d.files["mem://x/"+f.GetPath()], err = os.ReadFile(filepath.Join(goldenDir, f.GetPath())); err != nil {
			t.Fatal(err)
		}
	}
	return d, keyed
}

// TestDamage changes each byte of a state file: a restore finds it, or restores what it would without (a bit that says nothing).
func TestDamage(t *testing.T) {
	d, keyed := readGolden(t)
	name := "mem://x/" + keyed.GetFiles()[1].GetPath()
	whole := d.files[name]
	for i := range whole {
		for _, bit := range []byte{1, 0x80} {
			b := bytes.Clone(whole)
			b[i] ^= bit
			d.files[name] = b
			_, err := goldenOpen(t, d, allGroups, 0, keyed)
			if i >= 12 && i < 16 { // reserved
				if err != nil {
					t.Errorf("byte %d: %v", i, err)
				}
				continue
			}
			if err == nil || !errors.Is(err, base.ErrCorrupt) && !strings.Contains(err.Error(), "use a newer one") || !strings.Contains(err.Error(), name) {
				t.Errorf("byte %d: %v", i, err)
			}
			if verr := backend.Verify(diskReader{bytes.NewReader(b)}, name); verr == nil {
				t.Errorf("byte %d: it is verified", i)
			}
		}
	}
	for n := range whole { // what a crash in the middle of writing leaves
		d.files[name] = whole[:n]
		if _, err := goldenOpen(t, d, allGroups, 0, keyed); !errors.Is(err, base.ErrCorrupt) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err := backend.Verify(diskReader{bytes.NewReader(whole[:n])}, name); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), name) {
			t.Errorf("%d bytes: verify: %v", n, err)
		}
	}
	// Another file of the job under this one's name.
	other := bytes.Clone(d.files["mem://x/"+keyed.GetFiles()[0].GetPath()])
	d.files[name] = other
	keyed.Files[1].Size = int64(len(other))
	if _, err := goldenOpen(t, d, allGroups, 0, keyed); !errors.Is(err, base.ErrCorrupt) || !strings.Contains(err.Error(), "another one than the checkpoint names") {
		t.Errorf("another file: %v", err)
	}
}

// TestKeptState restores state that the program does not open, at once and after another checkpoint.
func TestKeptState(t *testing.T) {
	d, keyed := readGolden(t)
	b, err := goldenOpen(t, d, allGroups, 0, keyed)
	if err != nil {
		t.Fatal(err)
	}
	want := b.Dump()
	state.NewValue[string](runtime{b, t}, "value") // only this one is known
	for id := range int64(3) {
		keyed, err = b.Snapshot(id+1, false, true)(context.Background(), &diskStore{d: d})
		if err != nil {
			t.Fatal(err)
		}
		b.Complete(id + 1)
		if b, err = goldenOpen(t, d, allGroups, 0, keyed); err != nil {
			t.Fatal(err)
		}
		if got := b.Dump(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
	if _, err := b.Open(state.Descriptor{Name: "list", Kind: state.KindMap}); err == nil || !strings.Contains(err.Error(), "it was stored as list state and is map state now") {
		t.Errorf("got %v", err)
	}
	if _, err := b.Open(state.Descriptor{Name: "new", Kind: state.KindValue, Value: codec.CustomSchema("x", nil)}); err != nil {
		t.Error(err)
	}
	if _, err := b.Open(state.Descriptor{Name: "new", Kind: state.KindValue, Value: codec.CustomSchema("x", nil)}); err == nil {
		t.Error("opened twice")
	}
}

// TestMigration mixes rows of three schemas in one checkpoint.
func TestMigration(t *testing.T) {
	type v1 struct{ A int32 }
	type v2 struct{ A, B int64 }
	type v3 struct {
		B int64
		C int64 `rivulet:"C,was=A"`
	}
	d := newDisk()
	reopen := func(b *backend.Keyed) *backend.Keyed {
		var last []*snapshotv1.KeyedState
		if b != nil {
			k, err := b.Snapshot(1, false, true)(context.Background(), &diskStore{d: d})
			if err != nil {
				t.Fatal(err)
			}
			last = append(last, k)
		}
		b, err := goldenOpen(t, d, allGroups, 0, last...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	set := func(b *backend.Keyed, from, to int, f func(i int)) {
		for i := from; i < to; i++ {
			setKey(t, b, binary.AppendUvarint(nil, uint64(i)))
			f(i)
		}
	}
	b := reopen(nil)
	one := state.NewValue[v1](runtime{b, t}, "v")
	set(b, 0, 300, func(i int) { one.Set(v1{int32(i)}) })
	b = reopen(b)
	two := state.NewValue[v2](runtime{b, t}, "v")
	set(b, 100, 400, func(i int) { two.Set(v2{two.Get().A + 1000, int64(i)}) })
	b = reopen(reopen(b)) // the second of them does not open it
	three := state.NewValue[v3](runtime{b, t}, "v")
	set(b, 200, 210, func(int) { three.Set(v3{-1, -2}) })
	b = reopen(b)
	three = state.NewValue[v3](runtime{b, t}, "v")
	set(b, 0, 400, func(i int) {
		want := v3{0, int64(i)}
		switch {
		case i >= 200 && i < 210:
			want = v3{-1, -2}
		case i >= 300:
			want = v3{int64(i), 1000}
		case i >= 100:
			want = v3{int64(i), int64(i) + 1000}
		}
		if got := three.Get(); got != want {
			t.Errorf("key %d: %v, want %v", i, got, want)
		}
	})
}

// FuzzFile restores what is no state file, or one that was changed and has right checksums again.
func FuzzFile(f *testing.F) {
	d, keyed := readGolden(f)
	f.Add(d.files["mem://x/"+keyed.GetFiles()[1].GetPath()]) // the small one
	f.Fuzz(func(t *testing.T, data []byte) {
		backend.FixChecksums(data)
		d := newDisk()
		d.files["mem://x/f"] = data
		sum, err := backend.DirectorySum(data)
		_ = backend.Verify(diskReader{bytes.NewReader(data)}, "f")
		if err != nil {
			sum = 0
		}
		k := &snapshotv1.KeyedState{
			LastKeyGroup: maxParallelism - 1, Files: []*snapshotv1.File{{Path: "f", Size: int64(len(data))}}, Index: binary.LittleEndian.AppendUint32([]byte{1}, sum),
		}
		b, err := goldenOpen(t, d, allGroups, 0, k)
		if err != nil {
			return
		}
		// What can be restored is stored and restored again.
		want := b.Dump()
		again, err := b.Snapshot(1, true, true)(context.Background(), &diskStore{d: d})
		if err != nil {
			t.Fatal(err)
		}
		if b, err = goldenOpen(t, d, allGroups, 0, again); err != nil {
			t.Fatal(err)
		}
		if got := b.Dump(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		if err := b.CheckHeld(); err != nil {
			t.Error(err)
		}
	})
}

// copied is a copy of a file that may be given up for the original.
type copied struct {
	diskReader
	original backend.Reader
	why      []error
}

func (c *copied) Original(why error) error {
	c.why = append(c.why, why)
	if len(c.why) > 1 {
		return why
	}
	c.Reader = c.original.(diskReader).Reader
	return nil
}

// TestCopy restores from copies of state files in which any byte was changed, that end anywhere, or are another file: what is restored is what the originals say.
// What is wrong with an original is damage all the same.
func TestCopy(t *testing.T) {
	d, keyed := readGolden(t)
	b, err := goldenOpen(t, d, allGroups, 0, keyed)
	if err != nil {
		t.Fatal(err)
	}
	want := b.Dump()
	name := "mem://x/" + keyed.GetFiles()[1].GetPath()
	whole := d.files[name]
	restore := func(content []byte) (*copied, string, error) {
		var c *copied
		b, err := backend.Open(backend.Config{
			Range: allGroups, MaxParallelism: maxParallelism, Restored: []*snapshotv1.KeyedState{keyed}, Base: "mem://x", Now: func() event.Time { return 0 },
			Read: func(uri string) (backend.Reader, error) {
				r, err := d.read(uri)
				if uri == name {
					c = &copied{diskReader: diskReader{bytes.NewReader(content)}, original: r}
					return c, err
				}
				return r, err
			},
		})
		if err != nil {
			return c, "", err
		}
		return c, b.Dump(), nil
	}
	check := func(what string, content []byte, given int) {
		t.Helper()
		if c, got, err := restore(content); err != nil || got != want || len(c.why) != given {
			t.Errorf("%s: given up because of %v, error %v, right rows: %v", what, c.why, err, got == want)
		}
	}
	check("whole", whole, 0)
	for i := 0; i < len(whole); i += 3 { // TestDamage has each
		changed := bytes.Clone(whole)
		changed[i] ^= 0x10
		given := 1
		if i >= 12 && i < 16 { // reserved
			given = 0
		}
		check(fmt.Sprint("byte ", i), changed, given)
		check(fmt.Sprint(i, " bytes"), whole[:i], 1)
	}
	other := bytes.Clone(d.files["mem://x/"+keyed.GetFiles()[0].GetPath()])
	check("another file", other, 1)
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 1
	d.files[name] = damaged
	if _, _, err := restore(other); !errors.Is(err, base.ErrCorrupt) {
		t.Errorf("both damaged: %v", err)
	}
}
