package state

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

// rows is what all handles share: it turns values into rows of a table and back, with their time if the state has one.
type rows[V any] struct {
	runtime Runtime
	backend Backend
	table   Table // nil once the state has failed
	name    string
	codec   codec.Codec[V]
	schema  *codec.Schema

	ttl        int64 // milliseconds, 0 without
	onRead     bool
	expiredToo bool
	opened     int64 // milliseconds; the time of rows that have none
	old        []older[V]

	buf   []byte
	value V // decoded into, so that it is not allocated each time
}

// older reads rows that were written under another schema.
type older[V any] struct {
	decode func(src []byte, v *V) (int, error)
	timed  bool
}

const timeBytes = 8

func (r *rows[V]) open(rt Runtime, name string, kind Kind, key *codec.Schema, opts []Option) {
	var o options
	for _, opt := range opts {
		opt.apply(&o)
	}
	r.runtime, r.name = rt, name
	if err := r.prepare(kind, key, o); err != nil {
		r.fail(err)
	}
}

func (r *rows[V]) prepare(kind Kind, key *codec.Schema, o options) (err error) {
	switch c := o.value.(type) {
	case nil:
		if r.codec, err = codec.For[V](); err != nil {
			return err
		}
	case codec.Codec[V]:
		r.codec = c
	default:
		return fmt.Errorf("the codec given is not one of %T", r.value)
	}
	if o.ttl.Duration < 0 {
		return fmt.Errorf("time to live %v is negative", o.ttl.Duration)
	}
	r.ttl = int64((o.ttl.Duration + time.Millisecond - 1) / time.Millisecond)
	if o.ttl.Duration > math.MaxInt64-time.Millisecond {
		r.ttl = math.MaxInt64 / int64(time.Millisecond)
	}
	r.onRead, r.expiredToo = o.ttl.Update == OnReadAndWrite, o.ttl.Visibility == ReturnExpiredIfNotCleanedUp
	r.schema = r.codec.Schema()
	size, _ := codec.FixedSize(r.codec)
	if r.ttl > 0 {
		r.schema = r.schema.Timed()
		if size > 0 {
			size += timeBytes
		}
	}
	r.backend = r.runtime.StateBackend()
	r.opened = r.backend.Now()
	table, err := r.backend.Open(Descriptor{
		Name: r.name, Kind: kind, Value: r.schema, MapKey: key, RowBytes: size, TTL: time.Duration(r.ttl) * time.Millisecond,
	})
	if err != nil {
		return err
	}
	// What restored rows were written under is checked now, not when one of them is met.
	for n := 1; table.Schema(n) != nil; n++ {
		if err := r.learn(table, n); err != nil {
			return err
		}
		if was := table.SchemaKey(n); key != nil && was != nil {
			if err := codec.CompareKey(was, key); err != nil {
				return fmt.Errorf("keys of the restored map: %w", err)
			}
		}
	}
	r.table = table
	return nil
}

// learn makes the reader of rows under schema n of the table.
func (r *rows[V]) learn(table Table, n int) error {
	for len(r.old) <= n {
		r.old = append(r.old, older[V]{})
	}
	s := table.Schema(n)
	if s == nil {
		return fmt.Errorf("a row has the unknown schema %d: %w", n, codec.ErrCorrupt)
	}
	s, timed := s.Untimed()
	decode, _, err := codec.Migrate(r.codec, s)
	if err != nil {
		return fmt.Errorf("restored rows cannot be read: %w", err)
	}
	r.old[n] = older[V]{decode, timed}
	return nil
}

// fail ends the task, and with it the state: from now on it is empty, and ignores what is written.
func (r *rows[V]) fail(err error) {
	r.table = nil
	r.runtime.FailState(fmt.Errorf("state %q: %w", r.name, err))
}

// encode returns v's row, valid until the next call.
func (r *rows[V]) encode(v V) (row []byte, ok bool) {
	b := r.buf[:0]
	if r.ttl > 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(r.backend.Now()))
	}
	b, err := r.codec.Append(b, v)
	r.buf = b
	if err != nil {
		r.fail(err)
		return nil, false
	}
	return b, true
}

// decode leaves the row's value in r.value. The time is when the row was last renewed, 0 without TTL.
func (r *rows[V]) decode(row []byte, schema int) (at int64, ok bool) {
	timed, at := r.ttl > 0, r.opened
	var n int
	var err error
	if schema > 0 {
		if schema >= len(r.old) || r.old[schema].decode == nil {
			if err := r.learn(r.table, schema); err != nil {
				r.fail(err)
				return 0, false
			}
		}
		timed = r.old[schema].timed
	}
	if timed {
		if len(row) < timeBytes {
			r.fail(codec.ErrCorrupt)
			return 0, false
		}
		at, row = int64(binary.LittleEndian.Uint64(row)), row[timeBytes:]
	}
	if schema > 0 {
		n, err = r.old[schema].decode(row, &r.value)
	} else {
		n, err = r.codec.Decode(row, &r.value)
	}
	if err == nil && n != len(row) {
		err = fmt.Errorf("row of %d bytes has %d: %w", n, len(row), codec.ErrCorrupt)
	}
	if err != nil {
		r.fail(err)
		return 0, false
	}
	return at, true
}

// take returns what decode left, and forgets it, so that the handle pins nothing.
func (r *rows[V]) take() V {
	v := r.value
	var zero V
	r.value = zero
	return v
}

// expired reports whether a row that was renewed at that time has outlived its time.
func (r *rows[V]) expired(at int64) bool {
	return r.ttl > 0 && r.backend.Now()-r.ttl >= at
}

// lookup reads the row at sub, with all that a time to live asks of a read.
func (r *rows[V]) lookup(sub []byte) (v V, ok bool) {
	if r.table == nil {
		return v, false
	}
	row, schema := r.table.Get(sub)
	if row == nil {
		return v, false
	}
	at, ok := r.decode(row, schema)
	if !ok {
		return v, false
	}
	v = r.take()
	if r.ttl == 0 {
		return v, true
	}
	if r.expired(at) {
		r.table.Delete(sub)
		if !r.expiredToo {
			var zero V
			return zero, false
		}
		return v, true
	}
	if r.onRead {
		r.put(sub, v)
	} else if schema > 0 && !r.old[schema].timed {
		// The row gets its time, so that the next restore does not begin its life again.
		if row, ok := r.encode(v); ok {
			binary.LittleEndian.PutUint64(row, uint64(at))
			r.table.Put(sub, row)
		}
	}
	return v, true
}

func (r *rows[V]) put(sub []byte, v V) {
	if r.table == nil {
		return
	}
	if row, ok := r.encode(v); ok {
		r.table.Put(sub, row)
	}
}

func (r *rows[V]) delete(sub []byte) {
	if r.table != nil {
		r.table.Delete(sub)
	}
}

func (r *rows[V]) clear() {
	if r.table != nil {
		r.table.Clear()
	}
}
