package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"
)

// program is a process of this program that runs a job of Rivulet and serves REST.
type program struct {
	cmd     *exec.Cmd
	url     string
	started time.Time
}

// runProgram starts a role that calls app.Main, with a data directory and more arguments, and waits until it answers.
func runProgram(ctx context.Context, role, dir string, args ...string) (*program, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, err
	}
	p := &program{cmd: exec.CommandContext(ctx, self, append([]string{"--data-dir", dir, "--rest-address", address, "--log-level", "warn"}, args...)...), url: "http://" + address}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = os.Stderr
	p.started = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, await(ctx, p.url+"/overview")
}

// stop ends the process as a service manager does.
func (p *program) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	return p.cmd.Wait()
}

func (p *program) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, body)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, b)
	}
	return json.Unmarshal(b, out)
}

// jobDetails is what the suites read of /jobs/{id}.
type jobDetails struct {
	JID      string `json:"jid"`
	Vertices []struct {
		ID, Name, Status string
		Metrics          struct {
			Read    int64 `json:"read-records"`
			Written int64 `json:"write-records"`
		}
	}
}

// job returns the only job; the zero details before it is known.
func (p *program) job(ctx context.Context) (d jobDetails, err error) {
	var list struct{ Jobs []struct{ ID string } }
	if err := p.call(ctx, http.MethodGet, "/jobs", nil, &list); err != nil {
		return d, err
	}
	if len(list.Jobs) == 0 {
		return d, nil
	}
	return d, p.call(ctx, http.MethodGet, "/jobs/"+list.Jobs[0].ID, nil, &d)
}

// until asks again and again until done is true.
func until(ctx context.Context, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
}
