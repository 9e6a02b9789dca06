package codec_test

import (
	"sync"
	"testing"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

// A goroutine's stack moves when it grows, wherever a call finds it too small: what a codec works on lies there, and has to move with it. So each
// of many goroutines calls it at another height of a fresh stack.
func TestWhileTheStackGrows(t *testing.T) {
	type part struct {
		Name string
		Tags []string
	}
	type record struct {
		ID    string
		Parts []part
		Next  map[string]int
		Bytes []byte
	}
	c, err := codec.For[record]()
	if err != nil {
		t.Fatal(err)
	}
	in := record{ID: "id", Parts: []part{{Name: "a", Tags: []string{"x", "y"}}, {Name: "b"}}, Next: map[string]int{"k": 7}, Bytes: []byte("bytes")}
	want, err := c.Append(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	uses := map[string]func() string{
		"Copy": func() string {
			b, err := c.Append(nil, c.Copy(in))
			return show(b, err)
		},
		"Append": func() string {
			b, err := c.Append(nil, in)
			return show(b, err)
		},
		"Size": func() string {
			c.Size(in)
			return string(want)
		},
	}
	for name, use := range uses {
		t.Run(name, func(t *testing.T) {
			var wg sync.WaitGroup
			defer wg.Wait()
			for depth := range 2000 {
				wg.Go(func() {
					if got := descend(depth, use); got != string(want) {
						t.Errorf("%d frames deep: %q", depth, got)
					}
				})
			}
		})
	}
}

func show(b []byte, err error) string {
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// descend calls f with so many small frames below it.
//
//go:noinline
func descend(depth int, f func() string) string {
	if depth == 0 {
		return f()
	}
	return descend(depth-1, f)
}
