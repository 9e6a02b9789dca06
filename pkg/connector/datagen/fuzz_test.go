package datagen

import (
	"bytes"
	"testing"
)

func FuzzDecode(f *testing.F) {
	f.Add(split{next: 300, stride: 16}.encode())
	f.Add(encodeEnumerator(16, []int64{1, 2, 15}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeSplit(b); err == nil {
			if again, err := decodeSplit(s.encode()); err != nil || again != s {
				t.Errorf("%v, %v", again, err)
			}
		}
		if stride, left, err := decodeEnumerator(b); err == nil {
			e := encodeEnumerator(stride, left)
			if _, again, err := decodeEnumerator(e); err != nil || !bytes.Equal(encodeEnumerator(stride, again), e) {
				t.Errorf("%v, %v", again, err)
			}
		}
	})
}
