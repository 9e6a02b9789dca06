package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Report is all that was measured.
type Report struct {
	Machine string  `json:"machine"`
	Tables  []Table `json:"tables"`
}

// Table is what a suite measured.
type Table struct {
	Name    string     `json:"name"`
	Summary string     `json:"summary"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
	// Notes are lines below the table.
	Notes []string `json:"notes,omitempty"`
}

func (t *Table) add(cells ...string) { t.Rows = append(t.Rows, cells) }

// print writes the table in Markdown.
func (t *Table) print(w io.Writer) {
	width := make([]int, len(t.Columns))
	for _, row := range append([][]string{t.Columns}, t.Rows...) {
		for i, c := range row {
			width[i] = max(width[i], len([]rune(c)))
		}
	}
	line := func(row []string) {
		for i, c := range row {
			fmt.Fprintf(w, "| %s%s ", c, strings.Repeat(" ", width[i]-len([]rune(c))))
		}
		fmt.Fprintln(w, "|")
	}
	fmt.Fprintf(w, "### %s: %s\n", t.Name, t.Summary)
	line(t.Columns)
	rule := make([]string, len(width))
	for i, n := range width {
		rule[i] = strings.Repeat("-", n)
	}
	line(rule)
	for _, row := range t.Rows {
		line(row)
	}
	for _, n := range t.Notes {
		fmt.Fprintln(w, n)
	}
	fmt.Fprintln(w)
}

// median returns the middle value; of an even number, the mean of the two.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	if n%2 == 1 {
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// medianOf is median over a field.
func medianOf[T any](runs []T, field func(T) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = field(r)
	}
	return median(values)
}
