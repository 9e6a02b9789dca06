package print_test

import (
	"context"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/connector/blackhole"
	"github.com/rivulet-io/rivulet/pkg/connector/datagen"
	"github.com/rivulet-io/rivulet/pkg/connector/print"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/stream"
)

func Example() {
	err := cluster.RunMini(context.Background(), cluster.MiniConfig{
		Memory: cluster.NewMemory(),
		Jobs: []cluster.Job{{Name: "squares", Build: func(env *stream.Env) error {
			numbers := stream.From(env, datagen.Sequence(1, 4), event.NoWatermarks[int64]())
			squares := stream.Map(numbers, func(n int64) int64 { return n * n })
			stream.To(squares, print.Sink[int64](print.Identifier("square")))
			stream.To(squares, blackhole.Sink[int64]())
			return nil
		}}},
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// square> 1
	// square> 4
	// square> 9
	// square> 16
}
