package codec_test

import (
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/codec"
)

func Example() {
	type Visit struct {
		User  string
		Pages int
	}
	visits, err := codec.For[Visit]()
	if err != nil {
		fmt.Println(err)
		return
	}
	b, err := visits.Append(nil, Visit{"ann", 3})
	fmt.Printf("%x %v\n", b, err)
	fmt.Println(visits.Schema())

	var v Visit
	n, err := visits.Decode(b, &v)
	fmt.Println(n, v, err)

	type Click struct{ Ctx any }
	_, err = codec.For[Click]()
	fmt.Println(err)
	// Output:
	// 03616e6e0300000000000000 <nil>
	// codec_test.Visit{User string, Pages int64}
	// 12 {ann 3} <nil>
	// Click.Ctx: interfaces cannot be serialized
}

func ExampleMigrate() {
	type Visit struct {
		User  string
		Pages int32
		Agent string
	}
	type VisitNow struct {
		Name  string `rivulet:"name,was=User"`
		Pages int64
		Paid  bool
	}
	was, _ := codec.For[Visit]()
	is, _ := codec.For[VisitNow]()
	stored, _ := was.Append(nil, Visit{"ann", 3, "curl"})

	decode, report, err := codec.Migrate(is, was.Schema())
	if err != nil {
		fmt.Println(err)
		return
	}
	var v VisitNow
	_, err = decode(stored, &v)
	fmt.Printf("%+v %v\n", v, err)
	fmt.Println("dropped", report.Dropped, "added", report.Added)
	// Output:
	// {Name:ann Pages:3 Paid:false} <nil>
	// dropped [VisitNow.Agent] added [VisitNow.Paid]
}
