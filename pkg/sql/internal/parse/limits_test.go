package parse

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/sql/internal/ast"
)

// TestNesting nests everything that can be nested 10,000 times: each must be refused
// with a message, whether or not the nesting ends.
func TestNesting(t *testing.T) {
	const n = 10_000
	for name, s := range map[string][3]string{
		"parentheses": {"SELECT ", "(", "1"},
		"calls":       {"SELECT ", "f(", "1"},
		"signs":       {"SELECT ", "- ", "1"},
		"not":         {"SELECT ", "NOT ", "TRUE"},
		"case":        {"SELECT ", "CASE ", "1"},
		"cast":        {"SELECT ", "CAST(", "1"},
		"subqueries":  {"", "SELECT (", "SELECT 1"},
		"in":          {"SELECT 1 ", "IN (1 ", ""},
		"array":       {"SELECT ", "ARRAY[", "1"},
		"index":       {"SELECT a", "[a", ""},
		"between":     {"SELECT a ", "BETWEEN a ", ""},
		"like":        {"SELECT a ", "LIKE (a ", ""},
		"from":        {"", "SELECT * FROM (", "SELECT 1"},
		"joins":       {"SELECT * FROM ", "(a JOIN ", "b"},
		"tables":      {"SELECT * FROM ", "(", "t"},
		"with":        {"", "WITH a AS (", "SELECT 1"},
		"queries":     {"", "(", "SELECT 1"},
		"arrays":      {"CREATE TABLE t (a ", "ARRAY<", "INT"},
		"rows":        {"CREATE TABLE t (a ", "ROW<a ", "INT"},
		"maps":        {"CREATE TABLE t (a ", "MAP<INT, ", "INT"},
		"suffixes":    {"CREATE TABLE t (a INT", " ARRAY NOT NULL", ")"},
		"patterns":    {"SELECT * FROM t MATCH_RECOGNIZE (PATTERN (", "(", "A"},
		"exclusions":  {"SELECT * FROM t MATCH_RECOGNIZE (PATTERN (", "{-", "A"},
		"grouping":    {"SELECT 1 FROM t GROUP BY ", "GROUPING SETS (", "a"},
		"windows":     {"SELECT ", "SUM(1) OVER (ORDER BY ", "1"},
		"explain":     {"", "EXPLAIN ", "SELECT 1"},
		"json":        {"SELECT ", "JSON_OBJECT(KEY ", "1"},
	} {
		for _, text := range []string{
			s[0] + strings.Repeat(s[1], n) + s[2],
			s[0] + strings.Repeat(s[1], n) + s[2] + strings.Repeat(")", n),
		} {
			_, err := Statement(text)
			if e := (*Error)(nil); !errors.As(err, &e) {
				t.Errorf("%s: %v", name, err)
			} else if name != "explain" && name != "case" && name != "between" && !strings.Contains(e.Reason, "levels deep") {
				t.Errorf("%s: %.200v", name, err)
			}
		}
	}
}

// TestLong parses what is long but not deep, prints it, and parses that.
func TestLong(t *testing.T) {
	for name, s := range map[string][3]string{
		"sum":        {"SELECT 1", " + 1", ""},
		"and":        {"SELECT a", " AND a", ""},
		"mixed":      {"SELECT a", " AND a = 1 OR b * c", ""},
		"minus":      {"SELECT (a - b)", " - (b - c)", ""},
		"index":      {"SELECT a", "[1]", ""},
		"fields":     {"SELECT (a)", ".b", ""},
		"methods":    {"SELECT (a)", ".b(1)", ""},
		"both":       {"SELECT (a)", ".b.c(1)", ""},
		"is":         {"SELECT a", " IS NULL", ""},
		"in":         {"SELECT a", " IN (1)", ""},
		"between":    {"SELECT a", " BETWEEN 1 AND 2", ""},
		"like":       {"SELECT a", " LIKE 'x'", ""},
		"names":      {"SELECT a", ".b", ""},
		"list":       {"SELECT 1", ", a", ""},
		"in list":    {"SELECT a IN (1", ", 1", ")"},
		"whens":      {"SELECT CASE", " WHEN a THEN b", " END"},
		"rows":       {"VALUES (1)", ", (1)", ""},
		"union":      {"SELECT 1", " UNION ALL SELECT 1", ""},
		"joins":      {"SELECT * FROM t", " JOIN t ON a", ""},
		"commas":     {"SELECT * FROM t", ", t", ""},
		"columns":    {"CREATE TABLE t (a INT", ", a INT", ")"},
		"fields of":  {"CREATE TABLE t (a ROW<a INT", ", a INT", ">)"},
		"options":    {"CREATE TABLE t WITH ('a' = 'b'", ", 'a' = 'b'", ")"},
		"strings":    {"SELECT 'a'", "\n'b'", ""},
		"pattern":    {"SELECT * FROM t MATCH_RECOGNIZE (PATTERN (A", " A", ") DEFINE A AS TRUE)"},
		"inserts":    {"EXECUTE STATEMENT SET BEGIN", " INSERT INTO a SELECT 1;", " END"},
		"semicolons": {"SELECT 1", ";", ""},
	} {
		n := 5_000
		if name == "sum" {
			n = 100_000
		}
		text := s[0] + strings.Repeat(s[1], n) + s[2]
		stmt, err := Statement(text)
		if err != nil {
			t.Errorf("%s: %.200v", name, err)
			continue
		}
		printed := ast.SQL(stmt)
		again, err := Statement(printed)
		if err != nil {
			t.Errorf("%s: printed: %.200v", name, err)
		} else if ast.SQL(again) != printed {
			t.Errorf("%s: is printed in two ways", name)
		}
	}
}

// TestMegabytes parses texts of up to 10 MB, most of them wrong.
func TestMegabytes(t *testing.T) {
	for _, s := range []string{"'", "`", "(", "-", "/*", "\x00", "a, ", "a = "} {
		size := 10 << 20
		if len(s) > 2 { // one token after the other, which takes longer
			size /= 4
		}
		text := "SELECT " + strings.Repeat(s, size/len(s))
		// That there is an answer is all that is asked.
		if _, err := Statement(text); err != nil && err.Error() == "" {
			t.Errorf("%q: no message", s)
		}
		Split(text)
	}
	if _, err := Statement(strings.Repeat(" ", MaxBytes+1)); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("too long: %v", err)
	}
}

// FuzzStatement looks for panics, and for statements that are not what their
// canonical text is.
func FuzzStatement(f *testing.F) {
	for i, s := range samples(f) {
		if i%16 == 0 {
			f.Add(s.statement())
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, part := range Split(text) {
			if !strings.Contains(text, part.Text) || part.At.Line < 1 || part.At.Col < 1 {
				t.Errorf("part %q at %d:%d", part.Text, part.At.Line, part.At.Col)
			}
		}
		s, err := Statement(text)
		if e := (*Error)(nil); errors.As(err, &e) {
			if e.Line < 1 || e.Col < 1 || e.Offset < 0 || e.Offset > len(text) || e.Error() == "" {
				t.Errorf("%+v", e)
			}
		}
		if err != nil {
			return
		}
		printed := ast.SQL(s)
		again, err := Statement(printed)
		if e := (*Error)(nil); errors.As(err, &e) && strings.Contains(e.Reason, "levels deep") {
			return // parentheses that were not needed before are
		}
		if err != nil {
			t.Fatalf("%q printed as %q: %v", text, printed, err)
		}
		if d := cmp.Diff(s, again, same); d != "" {
			t.Fatalf("%q printed as %q:\n%s", text, printed, d)
		}
	})
}
