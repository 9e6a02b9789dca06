package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
)

// inspect shows what a savepoint or checkpoint holds. It asks no server.
func inspect(ctx context.Context, c *call, path string) error {
	if c.verify {
		w := c.waiting("verifying")
		defer w.end()
		w.tick("")
	}
	i, err := cluster.Inspect(ctx, path, c.verify)
	if err != nil {
		return err
	}
	return c.print(i, inspection(i))
}

// inspection tells it to people.
func inspection(i *cluster.Inspection) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %d of job %q (%s)\n", strings.ToUpper(i.Kind[:1])+i.Kind[1:], i.Checkpoint, i.JobName, i.JobID)
	fmt.Fprintf(&b, "  path       %s\n", i.Path)
	fmt.Fprintf(&b, "  taken      %s, in %s, by Rivulet %s\n", i.Triggered.Format(time.RFC3339), short(i.Completed.Sub(i.Triggered).Milliseconds()), i.Writer)
	verified := "not verified (--verify reads them all)"
	if i.Verified {
		verified = "all checksums are right"
	}
	fmt.Fprintf(&b, "  size       %s in %d files, %s\n", bytesOf(i.Bytes), i.Files, verified)
	for _, o := range i.Operators {
		uid := "uid " + o.UID
		if o.UID == "" {
			uid = "no uid, id " + o.ID
		}
		fmt.Fprintf(&b, "\n%s (%s), parallelism %d of %d\n", o.Name, uid, o.Parallelism, o.MaxParallelism)
		if o.Finished > 0 {
			fmt.Fprintf(&b, "  %d of its subtasks had finished\n", o.Finished)
		}
		if o.Key != "" {
			fmt.Fprintf(&b, "  key      %s\n", o.Key)
		}
		for _, s := range o.States {
			fmt.Fprintf(&b, "  state    %s (%s): %d rows, %s\n", s.Name, s.Kind, s.Rows, bytesOf(s.Bytes))
			if s.Schema != "" {
				fmt.Fprintf(&b, "             %s\n", strings.ReplaceAll(s.Schema, "\n", "\n             "))
			}
		}
		if o.Enumerator > 0 {
			fmt.Fprintf(&b, "  source   %d bytes of its enumerator\n", o.Enumerator)
		}
		for _, s := range o.Splits {
			fmt.Fprintf(&b, "  split    %s: %s\n", s.ID, orBytes(s))
		}
		if o.Sink != "" {
			fmt.Fprintf(&b, "  sink     %s\n", o.Sink)
		}
		for _, p := range o.Prepared {
			fmt.Fprintf(&b, "  prepared %s\n", orBytes(p))
		}
	}
	return b.String()
}

func orBytes(d cluster.Described) string {
	if d.Text != "" {
		return d.Text
	}
	return fmt.Sprintf("%d bytes of its connector", d.Bytes)
}
