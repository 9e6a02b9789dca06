package main

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rivulet-io/rivulet/pkg/state"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

type click struct {
	Page string    `json:"page"`
	At   time.Time `json:"at"`
}

func (c click) String() string { return c.At.Format(time.TimeOnly) + " " + c.Page }

// count is how often a page was seen in a window, and since the job began.
type count struct {
	Page   string    `json:"page"`
	Start  time.Time `json:"start"`
	End    time.Time `json:"end"`
	Clicks int64     `json:"clicks"`
	Total  int64     `json:"total"`
}

func (c count) String() string {
	return fmt.Sprintf("%s to %s  %-9s %5d clicks, %7d in all", c.Start.Format(time.TimeOnly), c.End.Format(time.TimeOnly), c.Page, c.Clicks, c.Total)
}

var pages = []string{"/", "/about", "/buy", "/help", "/list"}

// generate makes a click of the last second. One in two thousand comes late.
func generate(i int64) click {
	c := click{Page: pages[rand.IntN(len(pages))], At: time.Now().Add(-rand.N(time.Second))}
	if i%2000 == 1999 {
		c.At = c.At.Add(-time.Minute)
	}
	return c
}

// counter is the aggregation of a window: it counts.
type counter struct{}

func (counter) Create() int64                { return 0 }
func (counter) Add(n int64, _ click) int64   { return n + 1 }
func (counter) Result(n int64) int64         { return n }
func (counter) Merge(a int64, b int64) int64 { return a + b }

// totaler adds up the windows of each page.
type totaler struct{ total state.Value[int64] }

func newTotaler() stream.KeyedProcess[string, count, count] { return new(totaler) }

func (t *totaler) Open(r *stream.Runtime) error {
	t.total = state.NewValue[int64](r, "total")
	return nil
}

func (t *totaler) Process(_ stream.Context[string], c count, out stream.Out[count]) error {
	c.Total = t.total.Get() + c.Clicks
	t.total.Set(c.Total)
	out.Emit(c)
	return nil
}

func (t *totaler) OnTimer(stream.Context[string], time.Time, stream.Out[count]) error { return nil }
