package file_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/file"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

func Example() {
	dir, err := os.MkdirTemp("", "lines")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "in.txt"), []byte("small\nis\nbeautiful\n"), 0o600); err != nil {
		fmt.Println(err)
		return
	}
	err = cluster.RunMini(context.Background(), cluster.MiniConfig{
		Memory: cluster.NewMemory(),
		Jobs: []cluster.Job{{Name: "shout", Build: func(env *stream.Env) error {
			in := stream.From(env, file.Source(filepath.Join(dir, "*.txt"), file.Text()), event.NoWatermarks[string](), stream.UID("in"))
			stream.To(stream.Map(in, strings.ToUpper), file.Sink(filepath.Join(dir, "out"), file.Text()), stream.UID("out"))
			return nil
		}}},
	})
	if err != nil {
		fmt.Println(err)
	}
	parts, _ := filepath.Glob(filepath.Join(dir, "out", "part-*"))
	for _, p := range parts {
		b, err := os.ReadFile(p)
		fmt.Print(string(b), err)
	}
	// Output:
	// SMALL
	// IS
	// BEAUTIFUL
	// <nil>
}
