package state_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/rivulet-io/rivulet/pkg/state"
)

// runtime is a function's runtime; in a job, stream.Runtime is.
var runtime = newFake(nil)

func ExampleNewValue() {
	type Visit struct{ Pages int }
	visit := state.NewValue[Visit](runtime, "visit", state.WithTTL(state.TTL{Duration: time.Hour}))

	v := visit.Get() // the zero value at first
	v.Pages++
	visit.Set(v)
	fmt.Println(visit.Get())
	// Output: {1}
}

func ExampleNewMap() {
	perPage := state.NewMap[string, int](runtime, "per page")
	for _, page := range []string{"/", "/about", "/"} {
		perPage.Put(page, perPage.Get(page)+1)
	}
	pages := slices.Sorted(perPage.Keys())
	fmt.Println(pages, perPage.Get("/"))
	// Output: [/ /about] 2
}
