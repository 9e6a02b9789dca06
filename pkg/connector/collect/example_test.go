package collect_test

import (
	"context"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/collect"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

func Example() {
	words := collect.New[string]()
	err := cluster.RunMini(context.Background(), cluster.MiniConfig{
		Memory: cluster.NewMemory(),
		Jobs: []cluster.Job{{Name: "words", Build: func(env *stream.Env) error {
			in := stream.From(env, datagen.Of("small", "is", "beautiful"), event.NoWatermarks[string](), stream.UID("in"))
			stream.To(in, words.Sink(), stream.UID("out"))
			return nil
		}}},
	})
	fmt.Println(words.All(), err)
	// Output: [small is beautiful] <nil>
}
