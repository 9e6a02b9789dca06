package graph

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// IDOf returns the id of the operator with that uid: the 128-bit murmur3 (x64, seed 0) of its UTF-8 bytes, as in Flink.
func IDOf(uid string) base.OperatorID { return murmur3(uid) }

// ids gives every node its id. order has producers before consumers.
//
// Without a uid, the id is the murmur3 of one line of text: "rivulet 1", the kind, what the operator does, then for each input in order its number, the
// producer's id, its side output and the partitioning; and at last how many nodes before it, in the order in which the program made them, have the same line. Names,
// parallelism, chaining and types do not count; a node's consumers and unrelated parts of the program do not either.
func ids(g *Graph, order []int) []base.OperatorID {
	out := make([]base.OperatorID, len(g.Nodes))
	seen := map[string]int{}
	for _, i := range order {
		n := g.Nodes[i]
		if n.UID != "" {
			out[i] = IDOf(n.UID)
			continue
		}
		var b strings.Builder
		fmt.Fprintf(&b, "rivulet 1 %s %s", n.Kind, n.Operator)
		for _, in := range n.Inputs {
			fmt.Fprintf(&b, " %d:%s:%q:%s", in.Index, out[in.Node], in.Side, in.Partitioning)
		}
		line := b.String()
		out[i] = murmur3(fmt.Sprintf("%s #%d", line, seen[line]))
		seen[line]++
	}
	return out
}

// murmur3 is MurmurHash3_x64_128 with seed 0 (Austin Appleby, public domain), its two halves little-endian.
func murmur3(s string) (id base.OperatorID) {
	const c1, c2 = 0x87c37b91114253d5, 0x4cf5ad432745937f
	var h1, h2 uint64
	data := []byte(s)
	for ; len(data) >= 16; data = data[16:] {
		k1, k2 := binary.LittleEndian.Uint64(data), binary.LittleEndian.Uint64(data[8:])
		h1 ^= bits.RotateLeft64(k1*c1, 31) * c2
		h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52dce729
		h2 ^= bits.RotateLeft64(k2*c2, 33) * c1
		h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495ab5
	}
	var tail [16]byte
	copy(tail[:], data)
	k1, k2 := binary.LittleEndian.Uint64(tail[:8]), binary.LittleEndian.Uint64(tail[8:])
	h2 ^= bits.RotateLeft64(k2*c2, 33) * c1
	h1 ^= bits.RotateLeft64(k1*c1, 31) * c2
	h1 ^= uint64(len(s))
	h2 ^= uint64(len(s))
	h1 += h2
	h2 += h1
	h1, h2 = mix(h1), mix(h2)
	h1 += h2
	h2 += h1
	binary.LittleEndian.PutUint64(id[:8], h1)
	binary.LittleEndian.PutUint64(id[8:], h2)
	return id
}

func mix(k uint64) uint64 {
	k ^= k >> 33
	k *= 0xff51afd7ed558ccd
	k ^= k >> 33
	k *= 0xc4ceb9fe1a85ec53
	return k ^ k>>33
}
