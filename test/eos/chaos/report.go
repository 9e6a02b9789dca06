package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/rivulet-io/rivulet/test/eos"
)

// fault is what became of one.
type fault struct {
	Kind      string    `json:"kind"`
	Began     time.Time `json:"began"`
	Evidence  string    `json:"evidence,omitempty"`
	Confirmed bool      `json:"confirmed"`
	Healed    bool      `json:"healed"`
	// Recovery is in seconds: to the first committed output, in every partition, of input that came after the fault.
	Recovery float64 `json:"recovery_s"`
	Err      string  `json:"err,omitempty"`
}

// report is what a run has to tell.
type report struct {
	Seed    uint64       `json:"seed"`
	Dir     string       `json:"dir"`
	Seconds float64      `json:"seconds"`
	Faults  []fault      `json:"faults"`
	Skipped []string     `json:"skipped,omitempty"`
	Verdict *eos.Verdict `json:"verdict"`
	// Broken says that the system did not come back.
	Broken string `json:"broken,omitempty"`
}

// passed reports whether nothing is wrong.
func (r *report) passed() bool { return r.Broken == "" && r.Verdict.Bad() == 0 }

func (r *report) print(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "job\tin\tout\tlost\tdoubled\tdisordered\twrong\tphantom\tdirty\taborted\t")
	for _, c := range r.Verdict.Counts {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t\n", c.Topic, r.Verdict.In, c.Out, c.Lost, c.Doubled, c.Disordered, c.Wrong, c.Phantom, c.Dirty, c.Aborted)
	}
	fmt.Fprintln(w, "\t\t\t\t\t\t\t\t\t\t")
	fmt.Fprintln(w, "fault\tinjected\tconfirmed\thealed\tmedian s\tworst s\t")
	var names []string
	by := map[string][]fault{}
	for _, f := range r.Faults {
		if by[f.Kind] == nil {
			names = append(names, f.Kind)
		}
		by[f.Kind] = append(by[f.Kind], f)
	}
	slices.Sort(names)
	for _, n := range names {
		confirmed, healed := 0, 0
		var took []float64
		for _, f := range by[n] {
			if f.Confirmed {
				confirmed++
			}
			if f.Healed {
				healed++
				took = append(took, f.Recovery)
			}
		}
		slices.Sort(took)
		median, worst := "-", "-"
		if len(took) > 0 {
			median, worst = fmt.Sprintf("%.2f", took[len(took)/2]), fmt.Sprintf("%.2f", took[len(took)-1])
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%s\t%s\t\n", n, len(by[n]), confirmed, healed, median, worst)
	}
	_ = w.Flush() // to a terminal
	for _, c := range r.Verdict.Counts {
		if c.First != "" {
			fmt.Fprintf(out, "%s: %s\n", c.Topic, c.First)
		}
	}
	for _, x := range r.Verdict.Lingering {
		fmt.Fprintf(out, "transaction %s is still open\n", x)
	}
	if r.Broken != "" {
		fmt.Fprintln(out, "broken:", r.Broken)
	}
}
