// Command taskmanager is a Rivulet TaskManager as a process of its own, without a job of its own.
//
// A program with a job has this as its command taskmanager: see package app.
package main

import (
	"github.com/rivulet-io/rivulet/pkg/cli"
	_ "github.com/rivulet-io/rivulet/pkg/fs/s3" // s3://
)

func main() { cli.Main(cli.Program{Name: "taskmanager", Role: "taskmanager"}) }
