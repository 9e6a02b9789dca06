package job

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/rivulet-io/rivulet/pkg/connector/kafka"
)

// decode takes a record apart, with one allocation for both strings.
func decode(r *kafka.Record) (record, error) {
	var room [512]byte
	both := string(append(append(room[:0], r.Key...), r.Value...))
	return record{Key: both[:len(r.Key)], Value: both[len(r.Key):]}, nil
}

// encode writes key and value into one piece of memory.
func encode(v record, r *kafka.Record) error {
	b := make([]byte, 0, 3*len(v.Key)+len(v.Value)*5/4+64)
	b = append(b, v.Key...)
	b = quote(append(b, `{"key":`...), v.Key)
	b = quote(append(b, `,"value":`...), v.Value)
	b = strconv.AppendInt(append(b, `,"count":`...), v.Count, 10)
	b = append(b, '}')
	r.Key, r.Value = b[:len(v.Key):len(v.Key)], b[len(v.Key):]
	return nil
}

// quote appends s as a JSON string.
func quote(b []byte, s string) []byte {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	const hex = "0123456789abcdef"
	b = append(b, '"')
	done := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(append(b, s[done:i]...), '\\')
		if c >= ' ' {
			b = append(b, c)
		} else {
			b = append(b, 'u', '0', '0', hex[c>>4], hex[c&15])
		}
		done = i + 1
	}
	return append(append(b, s[done:]...), '"')
}
