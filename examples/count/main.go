// Count keeps a running count per record key; package job says what it reads and writes.
package main

import (
	"github.com/rivulet-io/rivulet/examples/count/job"
	"github.com/rivulet-io/rivulet/pkg/app"
)

func main() { app.Main("count", job.Build) }
