package main

import (
	"regexp"
	"strconv"
	"testing"

	"github.com/rivulet-io/rivulet/test/program"
)

func TestMain(m *testing.M) { program.Main(m, main) }

var line = regexp.MustCompile(`(?m)^(\S+) to (\S+)  (/\S*) +(\d+) clicks, +(\d+) in all$`)

// window is a line of the demo.
type window struct {
	page          string
	clicks, total int64
}

func windows(t *testing.T, output string) (out []window) {
	for _, m := range line.FindAllStringSubmatch(output, -1) {
		clicks, err := strconv.ParseInt(m[4], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		total, err := strconv.ParseInt(m[5], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, window{page: m[3], clicks: clicks, total: total})
	}
	return out
}

// TestDemo kills the demo, broker and all, and sees the totals go on.
func TestDemo(t *testing.T) {
	dir := t.TempDir()
	args := []string{"--rest-address", "off", "--window", "1s", "--rate", "500"}
	known := map[string]map[int64]bool{} // totals that a page had in earlier runs
	for run := range 3 {
		p := program.Start(t, dir, args...)
		p.Await("two windows of each page", func(output string) bool { return len(windows(t, output)) >= 2*len(pages)+1 })
		p.Kill()
		last := map[string]int64{}
		seen := windows(t, p.Output())
		for _, w := range seen {
			before, ok := last[w.page]
			last[w.page] = w.total
			switch {
			case ok && w.total != before+w.clicks:
				t.Errorf("run %d: %+v comes after a total of %d", run, w, before)
			case !ok && run > 0 && !known[w.page][w.total-w.clicks]:
				// It goes on from a checkpoint: lines since then are printed again.
				t.Errorf("run %d: %+v does not go on from any of %v", run, w, known[w.page])
			}
		}
		for _, w := range seen {
			if known[w.page] == nil {
				known[w.page] = map[int64]bool{0: run == 0} // killed before the first checkpoint, it begins anew
			}
			known[w.page][w.total] = true
		}
	}
	if len(known) != len(pages) {
		t.Errorf("%d pages", len(known))
	}
}
