package client

import (
	"context"
	"net/http"
	"net/url"
)

// Program is a program that is linked into a server, which runs it as a job when it is told to.
type Program struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Programs lists what the server can run besides what it was started with.
func (c *Client) Programs(ctx context.Context) ([]Program, error) {
	var out struct{ Files []Program }
	err := c.Get(ctx, "/jars", &out)
	return out.Files, err
}

// Start is how a program is to be run.
type Start struct {
	// Name is the job's name, by which the server knows it; empty for the program's.
	Name string
	// Savepoint is the directory to start from, as the server sees it; empty starts without state.
	Savepoint             string
	AllowNonRestoredState bool
	// Parallelism is that of operators that set none themselves; 0 for the server's default.
	Parallelism int
	// Args are the job's own arguments.
	Args []string
}

// Run starts a program as a job and returns the job's id. An error that wraps ErrUnreachable leaves open whether it was started: it is not asked for twice.
func (c *Client) Run(ctx context.Context, program string, s Start) (job string, err error) {
	body := map[string]any{"allowNonRestoredState": s.AllowNonRestoredState}
	if s.Savepoint != "" {
		body["savepointPath"] = s.Savepoint
	}
	if s.Parallelism > 0 {
		body["parallelism"] = s.Parallelism
	}
	if len(s.Args) > 0 {
		body["programArgsList"] = s.Args
	}
	if s.Name != "" {
		body["flinkConfiguration"] = map[string]string{"pipeline.name": s.Name}
	}
	var out struct{ JobID string }
	err = c.do(ctx, http.MethodPost, "/jars/"+url.PathEscape(program)+"/run", body, &out)
	return out.JobID, err
}

// Slots asks how many slots the server has, and how many of them are free.
func (c *Client) Slots(ctx context.Context) (total, free int, err error) {
	var out struct {
		Total int `json:"slots-total"`
		Free  int `json:"slots-available"`
	}
	err = c.Get(ctx, "/overview", &out)
	return out.Total, out.Free, err
}
