package codec

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// Report says what lies between the schema that values were written under and the one they are read under. Fields are named by path, as in "Click.Home.Zip".
type Report struct {
	Added   []string // not stored: zero
	Dropped []string // stored, and skipped
	Renamed []string // "Click.User (was Name)"
	Widened []string // "Click.Pages (was int32, is int64)"
	Moved   []string // structs whose fields are stored in another order
}

// AsIs reports whether the bytes are the same under both schemas.
func (r Report) AsIs() bool {
	return len(r.Added)+len(r.Dropped)+len(r.Widened)+len(r.Moved) == 0
}

// MismatchError says that values cannot be read, because a field's type has changed in a way that keeps no meaning.
type MismatchError struct{ Path, Was, Is string }

// Error names the field.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s was %s, is %s", e.Path, e.Was, e.Is)
}

// Compare tells how values written under one schema are read under another, and a *MismatchError if they cannot be. Fields are matched by name, or by a name
// they had (`rivulet:"new,was=old"`). Integers and floats may become wider. Whether the schemas are Timed does not matter.
func Compare(was, is *Schema) (Report, error) {
	c := comparison{was: was.preorder(nil), is: is.preorder(nil), seen: make(map[[2]*Schema]bool)}
	err := c.compare(was, is, rootName(is))
	return c.report, err
}

// rootName is where paths begin: the type's name without its package.
func rootName(s *Schema) string {
	if s.kind != kindStruct || s.name == "" {
		return "value"
	}
	plain, _, _ := strings.Cut(s.name, "[")
	return s.name[strings.LastIndexByte(plain, '.')+1:]
}

// CompareKey is Compare for keys, whose encoding never changes: only names may. Anything else is a *MismatchError.
func CompareKey(was, is *Schema) error {
	r, err := Compare(was, is)
	if err == nil && !r.AsIs() {
		err = &MismatchError{Path: "key", Was: was.String(), Is: is.String()}
	}
	return err
}

type comparison struct {
	was, is []*Schema // in pre-order, for references
	seen    map[[2]*Schema]bool
	report  Report
}

func resolve(s *Schema, all []*Schema) *Schema {
	if s.kind == kindRef {
		return all[s.ref]
	}
	return s
}

// widens reports whether every value of a number type was has an equal one in is.
func widens(was, is kind) bool {
	return was < is && (was >= kindInt8 && is <= kindInt64 || was >= kindUint8 && is <= kindUint64 || was == kindFloat32 && is == kindFloat64)
}

func (c *comparison) compare(was, is *Schema, path string) error {
	was, is = resolve(was, c.was), resolve(is, c.is)
	pair := [2]*Schema{was, is}
	if c.seen[pair] {
		return nil
	}
	c.seen[pair] = true
	mismatch := func() error { return &MismatchError{path, was.brief(c.was), is.brief(c.is)} }
	if was.kind != is.kind {
		if widens(was.kind, is.kind) {
			c.report.Widened = append(c.report.Widened, fmt.Sprintf("%s (was %s, is %s)", path, kindNames[was.kind], kindNames[is.kind]))
			return nil
		}
		return mismatch()
	}
	switch is.kind {
	case kindStruct:
		return c.structs(was, is, path)
	case kindArray:
		if was.length != is.length {
			return mismatch()
		}
		return c.compare(was.elem, is.elem, path+"[]")
	case kindSlice:
		return c.compare(was.elem, is.elem, path+"[]")
	case kindPointer:
		return c.compare(was.elem, is.elem, path)
	case kindMap:
		k := comparison{was: c.was, is: c.is, seen: make(map[[2]*Schema]bool)}
		if err := k.compare(was.key, is.key, path+"[key]"); err != nil {
			return err
		}
		if !k.report.AsIs() {
			return &MismatchError{path + "[key]", was.key.brief(c.was), is.key.brief(c.is)}
		}
		return c.compare(was.elem, is.elem, path+"[value]")
	case kindProto:
		if was.name != is.name {
			return mismatch()
		}
	case kindCustom:
		if was.name != is.name || !bytes.Equal(was.version, is.version) {
			return mismatch()
		}
	}
	return nil
}

func (c *comparison) structs(was, is *Schema, path string) error {
	to := match(was, is)
	for i, f := range was.fields {
		if to[i] < 0 {
			c.report.Dropped = append(c.report.Dropped, path+"."+f.name)
		}
	}
	moved, last := false, -1
	for i, f := range is.fields {
		fpath := path + "." + f.name
		from := slices.Index(to, i)
		if from < 0 {
			c.report.Added = append(c.report.Added, fpath)
			continue
		}
		moved = moved || from < last
		last = from
		old := was.fields[from]
		if old.name != f.name {
			c.report.Renamed = append(c.report.Renamed, fmt.Sprintf("%s (was %s)", fpath, old.name))
		}
		if err := c.compare(old.schema, f.schema, fpath); err != nil {
			return err
		}
	}
	if moved {
		c.report.Moved = append(c.report.Moved, path)
	}
	return nil
}

// match returns, for each field of a stored struct, the index of the field it is read into, or -1.
func match(was, is *Schema) []int {
	to := make([]int, len(was.fields))
	taken := make([]bool, len(is.fields))
	for i, f := range was.fields {
		to[i] = slices.IndexFunc(is.fields, func(g schemaField) bool { return g.name == f.name })
		if to[i] >= 0 {
			taken[to[i]] = true
		}
	}
	for i, f := range was.fields {
		if to[i] >= 0 {
			continue
		}
		if k := slices.IndexFunc(is.fields, func(g schemaField) bool { return slices.Contains(g.was, f.name) }); k >= 0 && !taken[k] {
			to[i], taken[k] = k, true
		}
	}
	return to
}
