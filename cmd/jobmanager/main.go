// Command jobmanager is a Rivulet JobManager as a process of its own, without a job of its own.
//
// A program with a job has this as its command jobmanager: see package app.
package main

import (
	"github.com/rivulet-io/rivulet/pkg/cli"
	_ "github.com/rivulet-io/rivulet/pkg/fs/s3"   // s3://
	_ "github.com/rivulet-io/rivulet/pkg/ha/etcd" // high-availability.type=etcd
)

func main() { cli.Main(cli.Program{Name: "jobmanager", Role: "jobmanager"}) }
