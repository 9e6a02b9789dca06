package base

import "math/bits"

// KeyGroup is the unit in which keyed state moves between subtasks: a key's group never changes.
type KeyGroup uint16

// MaxParallelismLimit is the largest maximum parallelism, that is the largest number of key groups.
const MaxParallelismLimit = 32768

// KeyGroupRange is the inclusive range of key groups that one subtask owns. An empty range has End < Start.
type KeyGroupRange struct{ Start, End int }

// Contains reports whether g lies in the range.
func (r KeyGroupRange) Contains(g KeyGroup) bool { return int(g) >= r.Start && int(g) <= r.End }

// Len returns the number of key groups in the range.
func (r KeyGroupRange) Len() int { return max(r.End-r.Start+1, 0) }

// RangeOf returns the key groups of subtask index of parallelism, with Flink's formulas.
func RangeOf(index, parallelism, maxParallelism int) KeyGroupRange {
	return KeyGroupRange{
		Start: (index*maxParallelism + parallelism - 1) / parallelism,
		End:   ((index+1)*maxParallelism - 1) / parallelism,
	}
}

// SubtaskOf returns the subtask that owns key group g.
func SubtaskOf(g KeyGroup, parallelism, maxParallelism int) int {
	return int(g) * parallelism / maxParallelism
}

// DefaultMaxParallelism returns Flink's default number of key groups for a parallelism:
// the next power of two of 1.5 x parallelism, at least 128 and at most 32768.
func DefaultMaxParallelism(parallelism int) int {
	n := parallelism + parallelism/2
	if n > 1 {
		n = 1 << bits.Len(uint(n-1))
	}
	return min(max(n, 128), MaxParallelismLimit)
}

// Hash is a key's hash: 64-bit MurmurHash64A with seed 0 over the key's encoded bytes, stable for ever (golden-tested).
// Its upper half picks the key group, all of it picks the slot in a state table.
type Hash uint64

// HashKey hashes a key's encoded bytes (MurmurHash64A, Austin Appleby, public domain).
func HashKey(key []byte) Hash {
	const m, r = 0xc6a4a7935bd1e995, 47
	h := uint64(len(key)) * m
	for len(key) >= 8 {
		k := uint64(key[0]) | uint64(key[1])<<8 | uint64(key[2])<<16 | uint64(key[3])<<24 |
			uint64(key[4])<<32 | uint64(key[5])<<40 | uint64(key[6])<<48 | uint64(key[7])<<56
		k *= m
		k ^= k >> r
		k *= m
		h ^= k
		h *= m
		key = key[8:]
	}
	if len(key) > 0 {
		var k uint64
		for i := len(key) - 1; i >= 0; i-- {
			k = k<<8 | uint64(key[i])
		}
		h ^= k
		h *= m
	}
	h ^= h >> r
	h *= m
	h ^= h >> r
	return Hash(h)
}

// Group returns the key group of the hash among maxParallelism groups.
func (h Hash) Group(maxParallelism int) KeyGroup {
	return KeyGroup(uint64(h>>32) * uint64(maxParallelism) >> 32)
}
