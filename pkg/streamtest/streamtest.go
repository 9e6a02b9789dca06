// Package streamtest helps to test jobs and their functions.
//
// Start with New, a harness that pushes records, watermarks and time through operators by hand, and with Mini, a whole job in memory that can be crashed and restored.
//
// Its law: there is no second implementation of anything. What runs are the operators, state, formats and clusters that run in production.
package streamtest

import (
	"maps"
	"strconv"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
)

// Option configures a Harness or a Job.
type Option func(*options)

type options struct {
	set       map[string]string
	fabric    cluster.Fabric
	from      *Snapshot
	savepoint string
	claim     bool
}

func newOptions(opts []Option) options { return (options{}).with(opts) }

// with returns a copy, changed by opts.
func (o options) with(opts []Option) options {
	o.set = maps.Clone(o.set)
	if o.set == nil {
		o.set = map[string]string{}
	}
	for _, f := range opts {
		f(&o)
	}
	return o
}

func (o options) settings() (out []config.Setting) {
	for k, v := range o.set {
		out = append(out, config.Setting{Key: k, Value: v})
	}
	return out
}

// Parallelism sets the number of subtasks of each operator that does not say otherwise. The default is 1.
func Parallelism(n int) Option { return Set("parallelism.default", strconv.Itoa(n)) }

// Set sets an option by Flink's key, as -D does.
func Set(key, value string) Option { return func(o *options) { o.set[key] = value } }

// Serialized hands every batch over through its bytes, as between processes.
func Serialized() Option { return func(o *options) { o.fabric = cluster.Serialized } }

// Separate runs a Job on two TaskManagers that are apart as two processes are: what goes from one to the other goes over a network. To a Harness it is Serialized.
func Separate() Option { return func(o *options) { o.fabric = cluster.Separate } }

// Restore has a Harness start from a snapshot of another, of the same or of a changed function, at any parallelism.
func Restore(s *Snapshot) Option { return func(o *options) { o.from = s } }

// FromSavepoint has a Job start from what Job.Savepoint or Job.Stop returned.
func FromSavepoint(path string) Option { return func(o *options) { o.savepoint = path } }

// Claim makes the savepoint that a Job starts from its own: it may delete it.
func Claim() Option { return func(o *options) { o.claim = true } }
