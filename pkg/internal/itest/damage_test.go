package itest

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/fs"
)

// long is small with more input: it does not finish before it is interrupted.
func long() *job {
	j := small()
	j.kind, j.sources[0].records = "long", 600
	return j
}

// shorter is long without its first stage.
func shorter() *job {
	j := long()
	j.kind, j.stages = "shorter", j.stages[1:]
	return j
}

// newestOf returns the number of the newest checkpoint in a file system, and its files: those of its directory, and those that several checkpoints share.
func newestOf(m *fs.Mem) (id int, files []string) { return newestIn(m.Files()) }

func newestIn(all []string) (id int, files []string) {
	for _, f := range all {
		if _, rest, ok := strings.Cut(f, "/chk-"); ok {
			var n int
			_, _ = fmt.Sscan(strings.Split(rest, "/")[0], &n)
			id = max(id, n)
		}
	}
	for _, f := range all {
		if strings.Contains(f, fmt.Sprintf("/chk-%d/", id)) || strings.Contains(f, "/shared/") {
			files = append(files, f)
		}
	}
	return id, files
}

// damages are what can happen to a file.
var damages = map[string]func(h *home, name string){
	"missing":   (*home).removeAll,
	"empty":     cut(func(int) int { return 0 }),
	"half":      cut(func(n int) int { return n / 2 }),
	"one short": cut(func(n int) int { return n - 1 }),
	"longer":    func(h *home, name string) { h.corrupt(name, func(b []byte) []byte { return append(b, 0) }) },
	"first bit": flip(func(int) int { return 0 }),
	"last bit":  flip(func(n int) int { return n - 1 }),
	"a third":   flip(func(n int) int { return n / 3 }),
}

func cut(at func(n int) int) func(*home, string) {
	return func(h *home, name string) { h.corrupt(name, func(b []byte) []byte { return b[:at(len(b))] }) }
}

func flip(at func(n int) int) func(*home, string) {
	return func(h *home, name string) { h.corrupt(name, func(b []byte) []byte { b[at(len(b))] ^= 4; return b }) }
}

// chosen says which damage is done to which of some files where this test runs: every one on one of the fabrics, and in processes, where each takes a second, one to each of
// the first files.
func (h *home) chosen(file, damage int) bool {
	switch {
	case !h.inBubble():
		return file < 3 && damage == []int{0, 2, 4}[file]
	case *durationFlag > 0:
		return true
	}
	return (file+damage)%len(fabrics) == int(h.fabric)
}

// TestDamagedCheckpoint is E5, E6 and E7: each file of the newest checkpoint, and what it shares with older ones, is damaged in each way. If what the checkpoint prepared is not
// committed, the job goes back to the one before it, and its output is exact; if it is, that would double output, and it is refused. Never is there a wrong state.
func TestDamagedCheckpoint(t *testing.T) { onHomes(t, damagedCheckpoint) }

func damagedCheckpoint(t *testing.T, h *home) {
	for _, open := range []bool{true, false} {
		h := h.clone(0)
		j := long()
		w := h.interrupted(t, j, open)
		newest, files := h.newest()
		back, refused := 0, 0
		for i, file := range files {
			for k, name := range slices.Sorted(maps.Keys(damages)) {
				if !h.chosen(i, k) {
					continue
				}
				left, seen := h.clone(100), w.clone()
				damages[name](left, file)
				before := seen.committed()
				m := left.run(t, begin{job: j, world: seen, settings: settings("execution.checkpointing.interval", "50 ms")})
				err := m.finish(t)
				switch {
				case err != nil:
					refused++
					contains(t, err, "FAILED")
					if !strings.Contains(err.Error(), path.Base(file)) && !strings.Contains(err.Error(), fmt.Sprint("chk-", newest)) {
						t.Errorf("%s of %s: the error does not name it: %v", name, file, err)
					}
					if !strings.Contains(err.Error(), "--allow-duplicates") && !strings.Contains(err.Error(), "no checkpoint can be restored") {
						t.Errorf("%s of %s: the error does not say what to do: %v", name, file, err)
					}
					if open && !strings.Contains(file, "/shared/") {
						t.Errorf("%s of %s: it could have gone back: %v", name, file, err)
					}
					if n := seen.committed(); n != before {
						t.Errorf("%s of %s: it was refused, and committed %d", name, file, n-before)
					}
				default:
					seen.check(t, j)
					if int(m.restored()) != newest {
						back++
					}
					if !open && int(m.restored()) != newest {
						t.Errorf("%s of %s: it went back to %d behind what is committed", name, file, m.restored())
					}
				}
			}
		}
		t.Logf("%d files, %d times back, %d times refused", len(files), back, refused)
		if open && back == 0 || !open && refused == 0 {
			t.Error("nothing was damaged")
		}
	}
}

// TestAllowDuplicates says that --allow-duplicates goes back behind a damaged checkpoint that is committed, and nothing is lost.
func TestAllowDuplicates(t *testing.T) { onHomes(t, allowDuplicates) }

func allowDuplicates(t *testing.T, h *home) {
	j := long()
	w := h.interrupted(t, j, false)
	newest, files := h.newest()
	metadata := files[slices.IndexFunc(files, func(f string) bool { return strings.HasSuffix(f, "/_metadata") })]
	h.corrupt(metadata, func(b []byte) []byte { b[len(b)/2] ^= 4; return b })
	b := begin{job: j, world: w}
	contains(t, h.clone(100).run(t, b).finish(t), "--allow-duplicates", fmt.Sprintf("checkpoint %d is damaged", newest))
	b.AllowDuplicates = true
	m := h.run(t, b)
	if err := m.finish(t); err != nil {
		t.Fatal(err)
	}
	if r := m.restored(); int(r) >= newest || r == 0 {
		t.Errorf("restored checkpoint %d", r)
	}
	missing := slices.Clone(j.model()["out"])
	for _, o := range w.out["out"] {
		if i := slices.Index(missing, o); i >= 0 {
			missing = slices.Delete(missing, i, i+1)
		}
	}
	if len(missing) > 0 {
		t.Errorf("%d are missing", len(missing))
	}
}

// TestNoCheckpointLeft is E8: a job whose checkpoints are all gone never starts empty unasked.
func TestNoCheckpointLeft(t *testing.T) { onHomes(t, noCheckpointLeft) }

func noCheckpointLeft(t *testing.T, h *home) {
	j := long()
	w := h.interrupted(t, j, false)
	h.removeAll("/mini/checkpoints")
	before := w.committed()
	b := begin{job: j, world: w}
	contains(t, h.clone(100).run(t, b).finish(t), "does not start empty unasked", "--fresh")
	if w.committed() != before {
		t.Error("it ran all the same")
	}
	b.Fresh, b.world = true, newWorld()
	if err := h.run(t, b).finish(t); err != nil {
		t.Fatal(err)
	}
	b.world.check(t, j)
}

// TestMalformedSavepoint is E15: a savepoint that is none, or a damaged or foreign one, is refused with its name.
func TestMalformedSavepoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { malformedSavepoint(t, &home{t: t, mem: cluster.NewMemory()}) })
}

func malformedSavepoint(t *testing.T, h *home) {
	j := long()
	w := newWorld()
	w.upTo(300)
	m := h.run(t, begin{job: j, world: w, settings: settings("execution.checkpointing.interval", "20 ms", "pipeline.auto-watermark-interval", "5 ms")})
	m.until(t, "output", func() bool { return w.committed() > 0 })
	uri, err := m.savepoint(t, true, "", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.finish(t); err != nil {
		t.Fatal(err)
	}
	w.upTo(0)
	dir := h.name(uri)
	var files []string
	for _, f := range h.files() {
		if strings.HasPrefix(f, dir+"/") {
			files = append(files, f)
		}
	}
	if len(files) < 2 {
		t.Fatalf("the savepoint has the files %q", files)
	}
	// try starts another job from it; at is where it is, if it is not where it was.
	try := func(w *world, h *home, at string) error {
		b := begin{job: j, world: w}
		b.Name, b.FromSavepoint = "other", h.uri(cmp.Or(at, dir))
		return h.run(t, b).finish(t)
	}
	for i, file := range files {
		for k, name := range slices.Sorted(maps.Keys(damages)) {
			if !h.inBubble() && !h.chosen(i, k) {
				continue
			}
			left, seen := h.clone(100), w.clone()
			damages[name](left, file)
			err := try(seen, left, "")
			if err == nil {
				t.Errorf("%s of %s: it was restored", name, file)
			} else if !strings.Contains(err.Error(), path.Base(dir)) {
				t.Errorf("%s of %s: the error does not name it: %v", name, file, err)
			}
			if seen.committed() != w.committed() {
				t.Errorf("%s of %s: it ran all the same", name, file)
			}
		}
	}
	left := h.clone(100)
	damages["first bit"](left, dir+"/_metadata")
	contains(t, try(w.clone(), left, ""), "not a checkpoint metadata")
	left = h.clone(100)
	left.corrupt(dir+"/_metadata", func(b []byte) []byte { b[8] = 99; return b })
	contains(t, try(w.clone(), left, ""), "format version 99", "use a newer Rivulet")
	contains(t, try(w.clone(), h.clone(100), "/mini/nowhere"), "nowhere", "no snapshot")
	// It may be copied away, and is restored by its directory or its metadata file.
	left = h.clone(100)
	for _, f := range files {
		left.write("/elsewhere/sp/"+path.Base(f), left.read(f))
	}
	left.removeAll(dir)
	for _, at := range []string{"/elsewhere/sp", "/elsewhere/sp/_metadata", "/elsewhere/sp/"} {
		seen := w.clone()
		if err := try(seen, left.clone(100), at); err != nil {
			t.Fatal(at, err)
		}
		seen.check(t, j)
	}
}

// TestMissingOperator is E17: state that the program has no operator for is not dropped unasked.
func TestMissingOperator(t *testing.T) { onHomes(t, missingOperator) }

func missingOperator(t *testing.T, h *home) {
	w := h.interrupted(t, long(), false)
	b := begin{job: shorter(), world: w}
	contains(t, h.clone(100).run(t, b).finish(t), "Cannot map checkpoint/savepoint state for operator", `uid "buckets-0"`, `uid "counts-1"`)
	b.AllowNonRestoredState = true
	if err := h.run(t, b).finish(t); err != nil {
		t.Fatal(err)
	}
}

// TestFinishedIsNotRunAgain says that a job that has finished is not run again by the same command, savepoint included: a supervisor gives it again and again.
func TestFinishedIsNotRunAgain(t *testing.T) { onHomes(t, finishedIsNotRunAgain) }

func finishedIsNotRunAgain(t *testing.T, h *home) {
	b := begin{job: long(), world: newWorld(), settings: settings("execution.checkpointing.interval", "20 ms", "pipeline.auto-watermark-interval", "5 ms")}
	b.world.upTo(300)
	m := h.run(t, b)
	m.until(t, "output", func() bool { return b.world.committed() > 0 })
	uri, err := m.savepoint(t, true, "", false)
	if err := errors.Join(err, m.finish(t)); err != nil {
		t.Fatal(err)
	}
	b.world.upTo(0)
	b.Name, b.FromSavepoint = "other", uri
	for run := range 3 {
		if err := h.run(t, b).finish(t); run == 0 && err != nil || run > 0 && !isEnded(err) {
			t.Errorf("run %d: %v", run, err)
		}
		b.world.check(t, b.job)
	}
}
