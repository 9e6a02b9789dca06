// Command mini is a Rivulet cluster in one process, without a job of its own.
//
// A program with a job is as short: see package app.
package main

import "github.com/rivulet-io/rivulet/pkg/cli"

func main() { cli.Main(cli.Program{Name: "mini"}) }
