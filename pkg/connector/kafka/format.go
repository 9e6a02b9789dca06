package kafka

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unsafe"

	"google.golang.org/protobuf/proto"
)

// Decoder makes values of records. It is used on the task's goroutine only; one Decoder serves all subtasks, so it keeps nothing.
type Decoder[T any] interface {
	// Decode returns the value of a record, which may keep nothing of r. An error is a poison record: see OnPoison.
	Decode(r *Record) (T, error)
}

// Encoder makes records of values. It is used on the task's goroutine only; one Encoder serves all subtasks, so it keeps nothing.
type Encoder[T any] interface {
	// Encode fills r, whose Topic, Partition (-1) and Timestamp are set to what they will be if it leaves them. Slices that it puts there are the sink's from then on.
	Encode(v T, r *Record) error
}

// Format is a Decoder and an Encoder of record values.
type Format[T any] struct {
	decode func(r *Record) (T, error)
	encode func(v T, r *Record) error
	// stable: values refer to r.Value, which must be left alone as long as they live.
	stable bool
	// copied: the encoded value refers to v, whose bytes are not the sink's.
	copied bool
	// bytes is encode of a format that makes a value alone and cannot fail; nil for others.
	bytes func(v T) []byte
}

func (f Format[T]) value() func(v T) []byte { return f.bytes }

// valueFormat is implemented by formats that may make a value alone: it spares a Record for each record.
type valueFormat[T any] interface{ value() func(v T) []byte }

// Decode implements Decoder.
func (f Format[T]) Decode(r *Record) (T, error) { return f.decode(r) }

// Encode implements Encoder.
func (f Format[T]) Encode(v T, r *Record) error { return f.encode(v, r) }

func (f Format[T]) keepsValue() bool  { return f.stable }
func (f Format[T]) lendsRecord() bool { return f.copied }

// keeper is implemented by decoders whose values refer to Record.Value; lender by encoders whose records refer to what is not the sink's.
type (
	keeper interface{ keepsValue() bool }
	lender interface{ lendsRecord() bool }
)

var errNull = errors.New("the record has no value (a tombstone)")

// valuesOnly is a format by two functions of the value.
func valuesOnly[T any](of func(value []byte) T, bytes func(v T) []byte) Format[T] {
	return Format[T]{
		decode: func(r *Record) (T, error) { return of(r.Value), nil },
		encode: func(v T, r *Record) error {
			r.Value = bytes(v)
			return nil
		},
		stable: true, bytes: bytes,
	}
}

// String has values that are strings, as they are. A record without value is "".
func String() Format[string] {
	return valuesOnly(
		func(value []byte) string { return unsafe.String(unsafe.SliceData(value), len(value)) },
		func(v string) []byte {
			if v == "" {
				return []byte{} // and not a tombstone
			}
			return unsafe.Slice(unsafe.StringData(v), len(v)) // the client only reads it
		})
}

// Bytes has values that are bytes, as they are. A record without value is nil, and nil is written as one.
func Bytes() Format[[]byte] {
	same := func(v []byte) []byte { return v }
	f := valuesOnly(same, same)
	f.copied = true
	return f
}

// JSON has values of JSON, by package encoding/json. A record without value is poison, unless T is a pointer, a slice, a map or an interface: then it is nil, and nil
// is written as one.
func JSON[T any]() Format[T] {
	var nils bool
	switch reflect.TypeFor[T]().Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map, reflect.Interface:
		nils = true
	}
	return Format[T]{
		decode: func(r *Record) (v T, err error) {
			if r.Value == nil {
				if !nils {
					err = errNull
				}
				return v, err
			}
			if err = json.Unmarshal(r.Value, &v); err != nil {
				err = fmt.Errorf("JSON: %w", err)
			}
			return v, err
		},
		encode: func(v T, r *Record) (err error) {
			if nils && reflect.ValueOf(&v).Elem().IsNil() {
				r.Value = nil
				return nil
			}
			if r.Value, err = json.Marshal(v); err != nil {
				err = fmt.Errorf("JSON: %w", err)
			}
			return err
		},
	}
}

// Proto has values that are messages in protobuf's binary format. A record without value is poison, and nil is written as one.
func Proto[T proto.Message]() Format[T] {
	var zero T
	typ := zero.ProtoReflect().Type()
	return Format[T]{
		decode: func(r *Record) (T, error) {
			if r.Value == nil {
				return zero, errNull
			}
			m, ok := typ.New().Interface().(T)
			if !ok {
				return zero, fmt.Errorf("protobuf: %T is not made by its own type", zero)
			}
			if err := proto.Unmarshal(r.Value, m); err != nil {
				return zero, fmt.Errorf("protobuf: %w", err)
			}
			return m, nil
		},
		encode: func(v T, r *Record) (err error) {
			if !v.ProtoReflect().IsValid() {
				r.Value = nil
				return nil
			}
			r.Value = make([]byte, 0, proto.Size(v))
			if r.Value, err = (proto.MarshalOptions{}).MarshalAppend(r.Value, v); err != nil {
				err = fmt.Errorf("protobuf: %w", err)
			}
			return err
		},
	}
}

// DecodeFunc is a Decoder: a function that makes a value of a record.
type DecodeFunc[T any] func(r *Record) (T, error)

// Decode implements Decoder.
func (f DecodeFunc[T]) Decode(r *Record) (T, error) { return f(r) }

// Decode has values made by a function, which sees the whole record: key, value, headers, timestamp, topic, partition and offset. It may keep nothing of r.
func Decode[T any](f func(r *Record) (T, error)) DecodeFunc[T] { return f }

// EncodeFunc is an Encoder: a function that makes a record of a value.
type EncodeFunc[T any] func(v T, r *Record) error

// Encode implements Encoder.
func (f EncodeFunc[T]) Encode(v T, r *Record) error { return f(v, r) }

// Encode has records made by a function, which may set key, value, headers, timestamp, topic and partition. Slices that it puts into r are the sink's from then on.
func Encode[T any](f func(v T, r *Record) error) EncodeFunc[T] { return f }

// Keyed has a format's records written with a key, which decides the partition. The key must not be changed afterwards.
func Keyed[T any](f Encoder[T], key func(v T) []byte) Encoder[T] {
	k := keyed[T]{Encoder: f, key: key}
	if l, ok := f.(lender); ok {
		k.lends = l.lendsRecord()
	}
	return k
}

type keyed[T any] struct {
	Encoder[T]
	key   func(v T) []byte
	lends bool
}

// Encode implements Encoder.
func (k keyed[T]) Encode(v T, r *Record) error {
	r.Key = k.key(v)
	return k.Encoder.Encode(v, r)
}

func (k keyed[T]) lendsRecord() bool { return k.lends }
