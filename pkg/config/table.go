package config

import (
	_ "embed"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// table is keys.txt: what becomes of the keys that no Key variable acts on. It is kept as text and searched line by
// line, once for each such setting at the start, so that an idle process holds nothing of it.
//
//go:embed keys.txt
var table string

// rule is a line of the table with the header of its section.
type rule struct {
	name    string // the current name; a pattern's name ends in .*
	old     string // older names, with spaces between
	fine    string // values that ask for what is done anyway, with | between
	refused bool   // or accepted with a warning
	reason  string // a sentence or two
}

// does reports whether the value asks for what is done anyway.
func (r rule) does(value string) bool {
	for v := range strings.SplitSeq(r.fine, "|") {
		if v != "" && strings.EqualFold(v, value) {
			return true
		}
	}
	return false
}

// rules yields the lines of the table in order.
func rules(yield func(rule) bool) {
	var r rule
	for line := range strings.Lines(table) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
			continue
		case line[0] == '[':
			class, reason, _ := strings.Cut(line[1:], "] ")
			r.refused, r.reason = class == "refused", reason
			continue
		}
		names, fine, _ := strings.Cut(line, " = ")
		r.name, r.old, _ = strings.Cut(names, " < ")
		r.fine = fine
		if !yield(r) {
			return
		}
	}
}

// lookup finds the rule for a key: the line with its name, or else the one with the longest pattern that fits.
func lookup(name string) (found rule, ok bool) {
	best := -1
	for r := range rules {
		if r.name == name || slices.Contains(strings.Fields(r.old), name) {
			return r, true
		}
		if prefix, isPattern := strings.CutSuffix(r.name, "*"); isPattern &&
			len(prefix) > best && strings.HasPrefix(name, prefix) && len(name) > len(prefix) {
			found, ok, best = r, true, len(prefix)
			found.name = name
		}
	}
	return found, ok
}

// keyByName finds the key that is acted on under a current or an older name; nil if there is none.
func keyByName(name string) key {
	for _, k := range acted {
		if current, old := k.names(); current == name || slices.Contains(old, name) {
			return k
		}
	}
	return nil
}

// nearest returns the current name of the known key that resembles the given one most: by its ending, or by the fewest letters to add,
// drop, change or swap. Of equally near ones the first wins, and those that are acted on come first. It is empty when
// more than half of the letters differ.
func nearest(name string) string {
	want := strings.ToLower(name)
	best, bestCost := "", len(want)/2+1
	consider := func(candidate, current string) {
		c := strings.ToLower(strings.TrimSuffix(candidate, ".*"))
		cost := bestCost
		switch {
		case strings.HasSuffix(c, "."+want) || strings.HasSuffix(want, "."+c) || c == want:
			cost = 1
		case len(c)-len(want) < bestCost && len(want)-len(c) < bestCost:
			cost = distance(want, c)
		}
		if cost < bestCost {
			best, bestCost = current, cost
		}
	}
	for _, k := range acted {
		current, old := k.names()
		consider(current, current)
		for _, o := range old {
			consider(o, current)
		}
	}
	for r := range rules {
		consider(r.name, r.name)
		for o := range strings.FieldsSeq(r.old) {
			consider(o, r.name)
		}
	}
	return best
}

// distance is the number of letters to add, drop, change or swap with a neighbour to turn a into b.
func distance(a, b string) int {
	before, above, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range above {
		above[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(above[j]+cost, above[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, above, row = above, row, before
	}
	return above[len(b)]
}

// Defaults yields the keys that are acted on, in the order of the reference page, each with its default in the form in which it would be set; that is empty where
// nothing is set.
func Defaults(yield func(name, value string) bool) {
	for _, k := range acted {
		name, _ := k.names()
		if own, _, _ := k.defaults(); !yield(name, shownDefault(own)) {
			return
		}
	}
}

// shownDefault writes a default in the form in which it would be set; empty for one that stands for "not set".
func shownDefault(v any) string {
	switch v := v.(type) {
	case time.Duration:
		return FormatDuration(v)
	case Bytes:
		return v.String()
	case []int:
		return ""
	}
	if s := reflect.ValueOf(v); s.Kind() == reflect.String {
		return s.String()
	}
	return fmt.Sprint(v)
}
