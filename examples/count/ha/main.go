// Ha is count for clusters with several JobManagers, which elect their leader in etcd: the job is the same, and the program is larger by etcd's client.
package main

import (
	"github.com/rivulet-io/rivulet/examples/count/job"
	"github.com/rivulet-io/rivulet/pkg/app"
	_ "github.com/rivulet-io/rivulet/pkg/ha/etcd" // high-availability.type=etcd
)

func main() { app.Main("count", job.Build) }
