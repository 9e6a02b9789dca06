package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"
)

// rest asks what Flink's REST API says. The driver knows nothing else of the system under test.
type rest struct{ address func() []string }

var httpClient = &http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// ask asks the first server that answers.
func (r rest) ask(ctx context.Context, method, path string, body, to any) error {
	var last error
	for _, a := range r.address() {
		var content io.Reader
		if body != nil {
			b, err := json.Marshal(body)
			if err != nil {
				return err
			}
			content = bytes.NewReader(b)
		}
		req, err := http.NewRequestWithContext(ctx, method, "http://"+a+path, content)
		if err != nil {
			return err
		}
		if body != nil {
			req.Header.Set("Content-Type", "application/json")
		}
		res, err := httpClient.Do(req)
		if err != nil {
			last = err
			continue
		}
		b, err := io.ReadAll(io.LimitReader(res.Body, 4<<20))
		_ = res.Body.Close()
		if err == nil && res.StatusCode/100 != 2 {
			err = fmt.Errorf("%s %s: %s: %.300s", method, path, res.Status, b)
		}
		if err == nil && to != nil {
			err = json.Unmarshal(b, to)
		}
		if err != nil {
			last = err
			continue
		}
		return nil
	}
	return last
}

// job returns the id and state of the only job.
func (r rest) job(ctx context.Context) (id, state string, err error) {
	var v struct {
		Jobs []struct {
			ID    string `json:"jid"`
			State string `json:"state"`
		} `json:"jobs"`
	}
	if err := r.ask(ctx, http.MethodGet, "/jobs/overview", nil, &v); err != nil {
		return "", "", err
	}
	if len(v.Jobs) != 1 {
		return "", "", fmt.Errorf("%d jobs, want 1", len(v.Jobs))
	}
	return v.Jobs[0].ID, v.Jobs[0].State, nil
}

// checkpoints returns how many were completed and failed in the life of the server.
func (r rest) checkpoints(ctx context.Context) (completed, failed int, err error) {
	id, _, err := r.job(ctx)
	if err != nil {
		return 0, 0, err
	}
	var v struct {
		Counts struct {
			Completed int `json:"completed"`
			Failed    int `json:"failed"`
		} `json:"counts"`
	}
	err = r.ask(ctx, http.MethodGet, "/jobs/"+id+"/checkpoints", nil, &v)
	return v.Counts.Completed, v.Counts.Failed, err
}

// taskManagers returns the addresses of those that are known, and how many of each one's slots are in use.
func (r rest) taskManagers(ctx context.Context) (map[string]int, error) {
	var v struct {
		TaskManagers []struct {
			Path  string `json:"path"`
			Slots int    `json:"slotsNumber"`
			Free  int    `json:"freeSlots"`
		} `json:"taskmanagers"`
	}
	err := r.ask(ctx, http.MethodGet, "/taskmanagers", nil, &v)
	out := map[string]int{}
	for _, t := range v.TaskManagers {
		out[t.Path] = t.Slots - t.Free
	}
	return out, err
}

// stop stops the job with a savepoint and returns its path. lost says that nobody is there to do it.
func (r rest) stop(ctx context.Context, lost func() error) (string, error) {
	id, _, err := r.job(ctx)
	if err != nil {
		return "", err
	}
	var began struct {
		Request string `json:"request-id"`
	}
	if err := r.ask(ctx, http.MethodPost, "/jobs/"+id+"/stop", map[string]any{"drain": false}, &began); err != nil {
		return "", err
	}
	for {
		var v struct {
			Status struct {
				ID string `json:"id"`
			} `json:"status"`
			Operation struct {
				Location string          `json:"location"`
				Failure  json.RawMessage `json:"failure-cause"`
			} `json:"operation"`
		}
		err := r.ask(ctx, http.MethodGet, "/jobs/"+id+"/savepoints/"+began.Request, nil, &v)
		switch {
		case err == nil && v.Status.ID == "COMPLETED" && len(v.Operation.Failure) > 0:
			return "", fmt.Errorf("stop with savepoint: %.500s", v.Operation.Failure)
		case err == nil && v.Status.ID == "COMPLETED":
			return v.Operation.Location, nil
		}
		if err != nil {
			if err := lost(); err != nil {
				return "", fmt.Errorf("stop with savepoint: %w", err)
			}
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return "", fmt.Errorf("stop with savepoint: %w: %w", context.Cause(ctx), err)
		}
	}
}
