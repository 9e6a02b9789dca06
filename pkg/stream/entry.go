package stream

import (
	"encoding/binary"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// An entry of an operator's list is a version (1), the length of its schema (uvarint), the schema, and the value. So entries of several versions of a program
// can lie in one list.
const entryVersion = 1

func appendSchema(dst, schema []byte) []byte {
	dst = binary.AppendUvarint(append(dst, entryVersion), uint64(len(schema)))
	return append(dst, schema...)
}

func decodeEntry[V any](c codec.Codec[V], e []byte) (v V, err error) {
	if len(e) < 2 || e[0] != entryVersion {
		return v, fmt.Errorf("%w: entry of an unknown version", base.ErrCorrupt)
	}
	n, w := binary.Uvarint(e[1:])
	if w <= 0 || n > uint64(len(e)-1-w) {
		return v, fmt.Errorf("%w: length of an entry's schema", base.ErrCorrupt)
	}
	e = e[1+w:]
	was, err := codec.DecodeSchema(e[:n])
	if err != nil {
		return v, fmt.Errorf("%w: %w", base.ErrCorrupt, err)
	}
	decode, _, err := codec.Migrate(c, was)
	if err != nil {
		return v, base.Permanent(err)
	}
	used, err := decode(e[n:], &v)
	if err == nil && used != len(e)-int(n) {
		err = fmt.Errorf("%d bytes left over", len(e)-int(n)-used)
	}
	if err != nil {
		return v, fmt.Errorf("%w: %w", base.ErrCorrupt, err)
	}
	return v, nil
}
