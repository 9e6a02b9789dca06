package backend

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// FORMAT.md beside this file draws what is written and read here.
const (
	fileMagic = "RIVSTATE"
	endMagic  = "RIVSTEND"
	// formatVersion is the newest format that is read, and the one that is written.
	formatVersion = 1
	fileHead      = 8 + 4 + 4
	blockHead     = 4 + 4
	fileEnd       = 8 + 4 + 8

	blockStates    = 1
	blockRows      = 2
	blockDirectory = 3

	// blockBytes is how many bytes of rows a block has, about.
	blockBytes = 64 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// storedState is what a file says of a state.
type storedState struct {
	name, kind string
	ttl        int64     // milliseconds
	schemas    []schemas // from number 1
	numbers    []uint8   // the table's, when it is read: by number here
}

// groupEntry says where the blocks of a key group are.
type groupEntry struct {
	group          int
	full           bool // they are all of the group's rows, not changes
	offset, length int64
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendStates(b []byte, states []storedState) []byte {
	b = append(b, blockStates)
	b = binary.AppendUvarint(b, uint64(len(states)))
	for _, s := range states {
		b = appendString(appendString(b, s.name), s.kind)
		b = binary.AppendUvarint(b, uint64(s.ttl))
		b = binary.AppendUvarint(b, uint64(len(s.schemas)))
		for _, x := range s.schemas {
			for _, schema := range [...]*codec.Schema{x.value, x.key} {
				var enc []byte
				if schema != nil {
					enc = schema.Encode()
				}
				b = append(binary.AppendUvarint(b, uint64(len(enc))), enc...)
			}
		}
	}
	return b
}

func appendDirectory(b []byte, groups []groupEntry) []byte {
	b = append(b, blockDirectory)
	b = binary.AppendUvarint(b, uint64(len(groups)))
	for _, g := range groups {
		b = binary.AppendUvarint(b, uint64(g.group))
		full := byte(0)
		if g.full {
			full = 1
		}
		b = append(b, full)
		b = binary.AppendUvarint(b, uint64(g.offset))
		b = binary.AppendUvarint(b, uint64(g.length))
	}
	return b
}

func appendRow(b []byte, w row, val []byte, deleted bool) []byte {
	k := uint64(w.k) << 1
	if deleted {
		k |= 1
	}
	b = binary.AppendUvarint(b, k)
	b = binary.AppendUvarint(b, uint64(w.n))
	b = binary.AppendUvarint(b, uint64(len(w.id)-w.k-w.n))
	if !deleted {
		b = binary.AppendUvarint(b, uint64(len(val)))
	}
	b = append(b, w.id...)
	if !deleted {
		b = append(b, val...)
	}
	return b
}

// errShort says that what is read ends too early, or that a number in it cannot be.
var errShort = errors.New("its fields do not fit")

// fields reads the fields of a block. After the first one that does not fit all are zero.
type fields struct {
	b   []byte
	bad bool
}

func (f *fields) fail() {
	f.b, f.bad = nil, true
}

func (f *fields) number(most uint64) int {
	v, n := binary.Uvarint(f.b)
	if n <= 0 || v > most {
		f.fail()
		return 0
	}
	f.b = f.b[n:]
	return int(v)
}

// length reads the length of something that follows.
func (f *fields) length() int { return f.number(uint64(len(f.b))) }

func (f *fields) bytes(n int) []byte {
	if n > len(f.b) {
		f.fail()
		return nil
	}
	b := f.b[:n:n]
	f.b = f.b[n:]
	return b
}

func (f *fields) byte() byte {
	if b := f.bytes(1); b != nil {
		return b[0]
	}
	return 0
}

func (f *fields) end() error {
	if f.bad || len(f.b) > 0 {
		return errShort
	}
	return nil
}

func readStates(body []byte) ([]storedState, error) {
	f := fields{b: body}
	if f.byte() != blockStates {
		return nil, errShort
	}
	var out []storedState
	for range f.number(uint64(len(f.b))) {
		var s storedState
		s.name, s.kind = string(f.bytes(f.length())), string(f.bytes(f.length()))
		s.ttl = int64(f.number(1<<63 - 1))
		n := f.number(255)
		if f.bad {
			return nil, errShort
		}
		for range n {
			var x schemas
			for _, to := range [...]**codec.Schema{&x.value, &x.key} {
				enc := f.bytes(f.length())
				if len(enc) == 0 {
					continue
				}
				schema, err := codec.DecodeSchema(enc)
				if err != nil {
					return nil, fmt.Errorf("state %q: %w", s.name, err)
				}
				*to = schema
			}
			if x.value == nil {
				return nil, errShort
			}
			s.schemas = append(s.schemas, x)
		}
		out = append(out, s)
	}
	return out, f.end()
}

// readDirectory reads a directory whose blocks lie before the byte end of the file.
func readDirectory(body []byte, end int64) ([]groupEntry, error) {
	f := fields{b: body}
	if f.byte() != blockDirectory {
		return nil, errShort
	}
	n := f.number(base.MaxParallelismLimit)
	var out []groupEntry
	for range n {
		g := groupEntry{group: f.number(base.MaxParallelismLimit - 1)}
		full := f.byte()
		g.full = full == 1
		g.offset = int64(f.number(uint64(end)))
		g.length = int64(f.number(uint64(end - g.offset)))
		if f.bad || full > 1 || g.offset < fileHead || len(out) > 0 && out[len(out)-1].group >= g.group {
			return nil, errShort
		}
		out = append(out, g)
	}
	return out, f.end()
}

// rowsBlock is the head of a block of rows.
type rowsBlock struct {
	state, group, schema, count int
	fields
}

func readRows(body []byte) (rowsBlock, error) {
	f := fields{b: body}
	if f.byte() != blockRows {
		return rowsBlock{}, errShort
	}
	x := rowsBlock{state: f.number(1 << 20), group: f.number(base.MaxParallelismLimit - 1), schema: f.number(255)}
	x.count = f.number(uint64(len(f.b)))
	x.fields = f
	if f.bad {
		return x, errShort
	}
	return x, nil
}

// next reads a row; a deleted one has no value.
func (x *rowsBlock) next() (w row, deleted bool) {
	k := x.number(1 << 40)
	w.k, deleted = k>>1, k&1 == 1
	w.n = x.length()
	s, v := x.length(), 0
	if !deleted {
		v = x.length()
	}
	if w.k > len(x.b) {
		x.fail()
		return w, deleted
	}
	w.id = x.bytes(w.k + w.n + s)
	w.val = x.bytes(v)
	return w, deleted
}

// stateFile is a state file that is open for reading.
type stateFile struct {
	Reader
	path   string
	states []storedState
	groups []groupEntry
	sum    uint32 // of the directory: what KeyedState.index knows the file by
	buf    []byte
	from   int64 // buf's place in the file
}

func (s *stateFile) corrupt(at int64, format string, args ...any) error {
	return fmt.Errorf("state file %s, byte %d: %w: %w", s.path, at, fmt.Errorf(format, args...), base.ErrCorrupt)
}

// openFile reads and checks what lies around the rows.
func openFile(r Reader, path string) (*stateFile, error) {
	s := &stateFile{Reader: r, path: path}
	size := r.Size()
	if size < fileHead+fileEnd {
		return nil, s.corrupt(size, "it has %d bytes only", size)
	}
	head, err := s.read(0, fileHead)
	if err != nil {
		return nil, err
	}
	if string(head[:8]) != fileMagic {
		return nil, s.corrupt(0, "it is no state file")
	}
	if v := binary.LittleEndian.Uint32(head[8:]); v != formatVersion {
		if v == 0 {
			return nil, s.corrupt(8, "it has version 0")
		}
		return nil, base.Permanent(fmt.Errorf("state file %s has format version %d, this release reads up to version %d: use a newer one", path, v, formatVersion))
	}
	end, err := s.read(size-fileEnd, fileEnd)
	if err != nil {
		return nil, err
	}
	if string(end[12:]) != endMagic || crc32.Checksum(end[:8], castagnoli) != binary.LittleEndian.Uint32(end[8:]) {
		return nil, s.corrupt(size-fileEnd, "its end is not one")
	}
	at := int64(binary.LittleEndian.Uint64(end))
	if at < fileHead || at > size-fileEnd-blockHead {
		return nil, s.corrupt(size-fileEnd, "its directory cannot be at byte %d", at)
	}
	body, next, err := s.block(at, size-fileEnd)
	if err != nil {
		return nil, err
	}
	if next != size-fileEnd {
		return nil, s.corrupt(next, "there is something behind the directory")
	}
	s.sum = crc32.Checksum(body, castagnoli)
	if s.groups, err = readDirectory(body, at); err != nil {
		return nil, s.corrupt(at, "directory: %w", err)
	}
	body, _, err = s.block(fileHead, at)
	if err != nil {
		return nil, err
	}
	if s.states, err = readStates(body); err != nil {
		return nil, s.corrupt(fileHead, "states: %w", err)
	}
	return s, nil
}

// readAhead is how many bytes are read at once, if there are as many.
const readAhead = 1 << 20

// read returns n bytes of the file, valid until the next call. They are known to be there.
func (s *stateFile) read(at int64, n int) ([]byte, error) {
	if at >= s.from && at+int64(n) <= s.from+int64(len(s.buf)) {
		return s.buf[at-s.from:][:n], nil
	}
	want := max(n, int(min(readAhead, s.Size()-at)))
	if cap(s.buf) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.from = s.buf[:want], at
	got, err := s.ReadAt(s.buf, at)
	s.buf = s.buf[:got]
	switch {
	case got >= n:
		return s.buf[:n], nil
	case err == nil || errors.Is(err, io.EOF):
		return nil, s.corrupt(at+int64(got), "it ends here, and should have %d bytes", s.Size())
	}
	return nil, fmt.Errorf("read state file %s at byte %d: %w", s.path, at, err)
}

// block reads the block at a byte, which must end at or before end, and returns where the next one begins. The body is valid until the next read. A block that is
// wrong in a copy is read from the original.
func (s *stateFile) block(at, end int64) (body []byte, next int64, err error) {
	for {
		if body, next, err = s.readBlock(at, end); err == nil {
			return body, next, nil
		}
		if err = again(s.Reader, err); err != nil {
			return nil, 0, err
		}
		s.buf = s.buf[:0]
	}
}

func (s *stateFile) readBlock(at, end int64) (body []byte, next int64, err error) {
	if end-at < blockHead {
		return nil, 0, s.corrupt(at, "no block fits there")
	}
	head, err := s.read(at, blockHead)
	if err != nil {
		return nil, 0, err
	}
	n, sum := int64(binary.LittleEndian.Uint32(head)), binary.LittleEndian.Uint32(head[4:])
	if n == 0 || n > end-at-blockHead {
		return nil, 0, s.corrupt(at, "a block of %d bytes does not fit there", n)
	}
	if body, err = s.read(at+blockHead, int(n)); err != nil {
		return nil, 0, err
	}
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, 0, s.corrupt(at, "the block's checksum is wrong")
	}
	return body, at + blockHead + n, nil
}

// Verify reads a whole state file and checks it. name is for messages; damage is an error that wraps base.ErrCorrupt.
func Verify(r Reader, name string) error {
	s, err := openFile(r, name)
	if err != nil {
		return err
	}
	for _, g := range s.groups {
		for at := g.offset; at < g.offset+g.length; {
			if _, at, err = s.block(at, g.offset+g.length); err != nil {
				return err
			}
		}
	}
	return nil
}

// The index of a KeyedState: its version, and per file the checksum of its directory, so that a file that got the name of another is not taken for it.
const indexVersion = 1

func appendIndex(files []link) []byte {
	b := []byte{indexVersion}
	for _, f := range files {
		b = binary.LittleEndian.AppendUint32(b, f.sum)
	}
	return b
}
