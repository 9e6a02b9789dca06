package codec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
)

// kind is what a schema describes. Its numbers are on disk: they never change.
type kind uint8

const (
	kindBool kind = iota + 1
	kindInt8
	kindInt16
	kindInt32
	kindInt64
	kindUint8
	kindUint16
	kindUint32
	kindUint64
	kindFloat32
	kindFloat64
	kindString
	kindBytes
	kindTime
	kindDuration
	kindStruct
	kindArray
	kindSlice
	kindMap
	kindPointer
	kindProto
	kindCustom
	kindRef
)

var kindNames = [...]string{
	kindBool: "bool", kindInt8: "int8", kindInt16: "int16", kindInt32: "int32", kindInt64: "int64",
	kindUint8: "uint8", kindUint16: "uint16", kindUint32: "uint32", kindUint64: "uint64",
	kindFloat32: "float32", kindFloat64: "float64", kindString: "string", kindBytes: "bytes", kindTime: "time", kindDuration: "duration",
	kindStruct: "struct", kindArray: "array", kindSlice: "slice", kindMap: "map", kindPointer: "pointer",
	kindProto: "proto", kindCustom: "custom", kindRef: "reference",
}

// wordSize is the encoded size of kinds that are numbers or booleans, else 0.
func (k kind) wordSize() int {
	switch k {
	case kindBool, kindInt8, kindUint8:
		return 1
	case kindInt16, kindUint16:
		return 2
	case kindInt32, kindUint32, kindFloat32:
		return 4
	case kindInt64, kindUint64, kindFloat64, kindDuration:
		return 8
	}
	return 0
}

// Schema describes an encoding for ever. It is immutable.
type Schema struct {
	kind    kind
	timed   bool   // only at the root
	name    string // the Go type, for people; of proto and custom: the name that counts
	version []byte // custom
	length  int    // array
	ref     int    // reference: the number, in pre-order from 0, of the schema that it stands for
	key     *Schema
	elem    *Schema
	fields  []schemaField
}

type schemaField struct {
	name   string
	was    []string // not encoded: only a reader's schema has it
	schema *Schema
}

// CustomSchema is the schema of a codec that a user wrote: a name, and version bytes that change when its encoding does.
func CustomSchema(name string, version []byte) *Schema {
	return &Schema{kind: kindCustom, name: name, version: bytes.Clone(version)}
}

// Timed returns the schema of the same encoding with 8 bytes before it: a time in little-endian milliseconds, as in rows of state with a time to live.
func (s *Schema) Timed() *Schema {
	t := *s
	t.timed = true
	return &t
}

// Untimed returns the schema without these 8 bytes, and whether it had them.
func (s *Schema) Untimed() (*Schema, bool) {
	if !s.timed {
		return s, false
	}
	t := *s
	t.timed = false
	return &t, true
}

// Equal reports whether two schemas describe the same encoding of the same fields. The names of Go types do not matter.
func (s *Schema) Equal(o *Schema) bool {
	if s == o {
		return true
	}
	if s == nil || o == nil || s.kind != o.kind || s.timed != o.timed || s.length != o.length || s.ref != o.ref || len(s.fields) != len(o.fields) {
		return false
	}
	if (s.kind == kindProto || s.kind == kindCustom) && (s.name != o.name || !bytes.Equal(s.version, o.version)) {
		return false
	}
	for i, f := range s.fields {
		if f.name != o.fields[i].name || !f.schema.Equal(o.fields[i].schema) {
			return false
		}
	}
	return s.key.Equal(o.key) && s.elem.Equal(o.elem)
}

// String describes the schema in one line, for people.
func (s *Schema) String() string {
	var b strings.Builder
	if s.timed {
		b.WriteString("timed ")
	}
	s.print(&b, s.preorder(nil), true)
	return b.String()
}

func (s *Schema) print(b *strings.Builder, all []*Schema, whole bool) {
	switch s.kind {
	case kindStruct:
		b.WriteString(s.name)
		if !whole && s.name != "" {
			return
		}
		b.WriteByte('{')
		for i, f := range s.fields {
			if i > 0 {
				b.WriteString(", ")
			}
			b.WriteString(f.name)
			b.WriteByte(' ')
			f.schema.print(b, all, whole)
		}
		b.WriteByte('}')
	case kindArray:
		b.WriteString("[" + strconv.Itoa(s.length) + "]")
		s.elem.print(b, all, whole)
	case kindSlice:
		b.WriteString("[]")
		s.elem.print(b, all, whole)
	case kindMap:
		b.WriteString("map[")
		s.key.print(b, all, whole)
		b.WriteByte(']')
		s.elem.print(b, all, whole)
	case kindPointer:
		b.WriteByte('*')
		s.elem.print(b, all, whole)
	case kindProto:
		b.WriteString("proto " + s.name)
	case kindCustom:
		b.WriteString("custom " + s.name)
		if len(s.version) > 0 {
			fmt.Fprintf(b, " version %x", s.version)
		}
	case kindRef:
		t := all[s.ref]
		if t.name != "" {
			b.WriteString(t.name)
		} else {
			b.WriteString(kindNames[t.kind])
		}
	default:
		b.WriteString(kindNames[s.kind])
	}
}

// brief describes the schema without the fields of structs that have a name.
func (s *Schema) brief(all []*Schema) string {
	var b strings.Builder
	s.print(&b, all, false)
	return b.String()
}

// preorder appends the schema and all below it, so that the index of each is its number.
func (s *Schema) preorder(all []*Schema) []*Schema {
	if s == nil {
		return all
	}
	all = append(all, s)
	all = s.key.preorder(all)
	all = s.elem.preorder(all)
	for _, f := range s.fields {
		all = f.schema.preorder(all)
	}
	return all
}

// The bytes of a schema: version 1, flags, and the schema: its kind, and what the kind has, in the order of Encode. Numbers are uvarints, strings
// are preceded by their length.
const (
	schemaVersion  = 1
	schemaTimed    = 1 // flag
	maxSchemaNodes = 10000
	maxSchemaDepth = 200
	maxSchemaName  = 4096
	maxArrayLength = 1 << 30
)

// Encode returns the schema as bytes, which DecodeSchema of this and all later releases reads.
func (s *Schema) Encode() []byte {
	flags := byte(0)
	if s.timed {
		flags |= schemaTimed
	}
	return s.append([]byte{schemaVersion, flags})
}

func (s *Schema) append(b []byte) []byte {
	b = append(b, byte(s.kind))
	switch s.kind {
	case kindStruct, kindArray, kindSlice, kindMap, kindPointer, kindProto, kindCustom:
		b = appendName(b, s.name)
	}
	switch s.kind {
	case kindArray:
		b = binary.AppendUvarint(b, uint64(s.length))
		b = s.elem.append(b)
	case kindSlice, kindPointer:
		b = s.elem.append(b)
	case kindMap:
		b = s.key.append(b)
		b = s.elem.append(b)
	case kindStruct:
		b = binary.AppendUvarint(b, uint64(len(s.fields)))
		for _, f := range s.fields {
			b = appendName(b, f.name)
			b = f.schema.append(b)
		}
	case kindCustom:
		b = appendName(b, string(s.version))
	case kindRef:
		b = binary.AppendUvarint(b, uint64(s.ref))
	}
	return b
}

func appendName(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// DecodeSchema reads what Encode wrote, all of src. Its error is ErrCorrupt, or says that a newer release wrote the schema.
func DecodeSchema(src []byte) (*Schema, error) {
	if len(src) < 3 {
		return nil, fmt.Errorf("schema of %d bytes: %w", len(src), ErrCorrupt)
	}
	if src[0] != schemaVersion || src[1]&^schemaTimed != 0 {
		return nil, fmt.Errorf("schema has version %d with flags %#x, this release reads up to version %d", src[0], src[1], schemaVersion)
	}
	d := schemaReader{src: src[2:]}
	s := d.schema(0)
	if d.bad || len(d.src) != 0 {
		return nil, fmt.Errorf("schema, at byte %d: %w", len(src)-len(d.src), ErrCorrupt)
	}
	s.timed = src[1]&schemaTimed != 0
	return s, nil
}

type schemaReader struct {
	src []byte
	all []*Schema
	bad bool
}

func (d *schemaReader) fail() { d.bad = true }

func (d *schemaReader) number(most uint64) int {
	v, n := binary.Uvarint(d.src)
	if n <= 0 || v > most {
		d.fail()
		return 0
	}
	d.src = d.src[n:]
	return int(v)
}

func (d *schemaReader) name() string {
	n := d.number(maxSchemaName)
	if d.bad || n > len(d.src) {
		d.fail()
		return ""
	}
	s := string(d.src[:n])
	d.src = d.src[n:]
	return s
}

// schema reads one schema. Every schema takes at least a byte, so memory is bounded by the bytes there are.
func (d *schemaReader) schema(depth int) *Schema {
	s := &Schema{}
	if d.bad || depth > maxSchemaDepth || len(d.all) >= maxSchemaNodes || len(d.src) == 0 {
		d.fail()
		return s
	}
	s.kind = kind(d.src[0])
	d.src = d.src[1:]
	d.all = append(d.all, s)
	switch s.kind {
	case kindStruct, kindArray, kindSlice, kindMap, kindPointer, kindProto, kindCustom:
		s.name = d.name()
	}
	switch s.kind {
	case kindArray:
		s.length = d.number(maxArrayLength)
		s.elem = d.schema(depth + 1)
	case kindSlice, kindPointer:
		s.elem = d.schema(depth + 1)
	case kindMap:
		s.key = d.schema(depth + 1)
		s.elem = d.schema(depth + 1)
	case kindStruct:
		n := d.number(maxSchemaNodes)
		seen := make(map[string]bool)
		for range n {
			f := schemaField{name: d.name()}
			f.schema = d.schema(depth + 1)
			if seen[f.name] {
				d.fail()
			}
			if d.bad {
				return s
			}
			seen[f.name] = true
			s.fields = append(s.fields, f)
		}
	case kindCustom:
		if v := d.name(); v != "" {
			s.version = []byte(v)
		}
	case kindRef:
		// A reference is to something earlier that is not itself one. It may be to what it lies in; only a value that is finite can follow it there.
		s.ref = d.number(maxSchemaNodes)
		if s.ref >= len(d.all)-1 || d.all[s.ref].kind == kindRef {
			d.fail()
		}
	case 0:
		d.fail()
	default:
		if s.kind > kindRef {
			d.fail()
		}
	}
	return s
}
