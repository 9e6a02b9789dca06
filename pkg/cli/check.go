package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/rivulet-io/rivulet/pkg/cluster"
)

// check prints what a program would start from, and returns 0 when it can.
func check(ctx context.Context, cfg cluster.MiniConfig, stdout, stderr io.Writer, name string) int {
	if len(cfg.Jobs) == 0 {
		fmt.Fprintf(stderr, "%s: --check: there is no job here to compare with stored state\n", name)
		return exitUsage
	}
	ok := true
	for _, job := range cfg.Jobs {
		r, err := cluster.Check(ctx, cfg, job)
		if err != nil {
			return fail(stderr, name, err)
		}
		if _, err := io.WriteString(stdout, r.Text); err != nil {
			return fail(stderr, name, err)
		}
		ok = ok && r.OK
	}
	if !ok {
		return exitFailed
	}
	return exitOK
}
