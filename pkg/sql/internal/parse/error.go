package parse

import (
	"fmt"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// An Error says where and why a text is not SQL. Its position is the one that
// Flink reports: that of the token which fits no rule, or, at the end of the
// text, that of the last character.
type Error struct {
	// Line and Col, from 1, count from the beginning of the statement.
	Line, Col int
	// Offset is the byte offset of the same place in the statement.
	Offset int
	// Found is the text of the token, or "end of statement".
	Found string
	// Expected lists what could have stood there instead: words and signs as they
	// are, and descriptions ("an expression") without quotes. It may be empty.
	Expected []string
	// Reason says what is wrong where Expected does not.
	Reason string
	// Hint is the nearest right word, or empty.
	Hint string
	// Unfinished says that the text ended too early: more of it could make it right.
	Unfinished bool
	// Script is where the statement begins in its script.
	Script ast.Span
}

// Error returns the message, in one line.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "line %d, column %d: ", e.Line, e.Col)
	switch {
	case e.Reason != "":
		b.WriteString(e.Reason)
	case len(e.Expected) == 0:
		fmt.Fprintf(&b, "found %s, which fits nothing here", e.found())
	default:
		fmt.Fprintf(&b, "found %s, expected %s", e.found(), oneOf(e.Expected))
	}
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

func (e *Error) found() string {
	if e.Unfinished {
		return e.Found
	}
	return quote(e.Found)
}

// oneOf joins alternatives; a long list is cut.
func oneOf(list []string) string {
	const most = 12
	more := ""
	if len(list) > most {
		list, more = list[:most], ", ..."
	}
	if n := len(list); n > 1 && more == "" {
		return strings.Join(list[:n-1], ", ") + " or " + list[n-1]
	}
	return strings.Join(list, ", ") + more
}

// quote puts s into double quotes, shortened, on one line.
func quote(s string) string {
	const most = 40
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "..."
	}
	return `"` + s + `"`
}

// nearest returns the word of list that word was probably meant to be, or "".
func nearest(word string, list []string) string {
	best, least := "", len(word)/3+1
	for _, w := range list {
		if !wordy(w) {
			continue
		}
		if d := distance(word, w, least); d <= least && d > 0 && (best == "" || d < least) {
			best, least = w, d
		}
	}
	return best
}

// wordy reports whether s is a keyword as lists of expected things have it.
func wordy(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && c != '_' {
			return false
		}
	}
	return len(s) > 1
}

// distance is the number of letters to insert, remove, change or swap with their
// neighbor to make b of a; a number above most if it is more than that.
func distance(a, b string, most int) int {
	if len(a) > 40 || len(b) > 40 || len(a)-len(b) > most || len(b)-len(a) > most {
		return most + 1
	}
	var before, last, row [41]int
	for j := range len(b) + 1 {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
