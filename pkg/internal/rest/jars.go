package rest

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// Session takes jobs in while the process runs. Its programs are linked in, and stand where Flink has jars.
type Session struct {
	// Programs are their names; Since is when they came, that is, when the process started.
	Programs []string
	Since    time.Time
	// Submit starts a job.
	Submit func(ctx context.Context, s SubmitRequest) (base.JobID, error)
	// Check says whether a job could start from the state of which metadata is the metadata file, and why not; nil when that is not known.
	Check func(s SubmitRequest, metadata []byte) (ok bool, text string, err error)
	// NoProgram is wrapped by the error of Submit and Check when there is no such program.
	NoProgram error
}

// SubmitRequest is a job to run.
type SubmitRequest struct {
	Program               string
	Args                  []string
	Options               map[string]string
	Savepoint             string
	Claim                 bool
	AllowNonRestoredState bool
}

// jars are the programs.
func (r *request) jars() (any, error) {
	type entry struct {
		Name        string  `json:"name"`
		Description *string `json:"description"`
	}
	type file struct {
		ID       string  `json:"id"`
		Name     string  `json:"name"`
		Uploaded int64   `json:"uploaded"`
		Entries  []entry `json:"entry"`
	}
	files := []file{}
	if s := r.s.cfg.Session; s != nil {
		for _, p := range s.Programs {
			files = append(files, file{p, p, s.Since.UnixMilli(), []entry{{Name: p}}})
		}
	}
	return struct {
		Address string `json:"address"`
		Files   []file `json:"files"`
	}{"http://" + r.s.Address(), files}, nil
}

// runJar starts a job of a program. The body wins over the query, as in Flink.
func (r *request) runJar() (any, error) {
	session := r.s.cfg.Session
	if session == nil {
		return nil, failuref(http.StatusBadRequest, "This process runs the job that it was started with, and takes in no other: one that is started with --session does.")
	}
	var body struct {
		Entry         string            `json:"entryClass"`
		Args          []string          `json:"programArgsList"`
		ArgsText      string            `json:"programArgs"`
		Parallelism   json.Number       `json:"parallelism"`
		JobID         string            `json:"jobId"`
		NonRestored   *flag             `json:"allowNonRestoredState"`
		Savepoint     string            `json:"savepointPath"`
		Claim         string            `json:"claimMode"`
		Restore       string            `json:"restoreMode"`
		Configuration map[string]string `json:"flinkConfiguration"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	q := r.URL.Query()
	s := SubmitRequest{Program: strings.TrimSuffix(r.PathValue("jarid"), ".jar"), Args: body.Args, Options: map[string]string{}, Savepoint: body.Savepoint}
	maps.Copy(s.Options, body.Configuration)
	if s.Args == nil && body.ArgsText != "" {
		s.Args = strings.Fields(body.ArgsText)
	}
	if s.Args == nil {
		s.Args = r.list("programArg")
	}
	if s.Savepoint == "" && body.JobID == "" {
		s.Savepoint = q.Get("savepointPath")
	}
	if body.JobID != "" {
		return nil, failuref(http.StatusBadRequest, "A job's id cannot be chosen: a job is known by its name (flinkConfiguration: pipeline.name).")
	}
	parallelism := q.Get("parallelism")
	if body.Parallelism != "" {
		parallelism = body.Parallelism.String()
	}
	if parallelism != "" {
		s.Options[config.Parallelism.Name] = parallelism
	}
	switch {
	case body.NonRestored != nil:
		s.AllowNonRestoredState = bool(*body.NonRestored)
	case q.Get("allowNonRestoredState") != "":
		s.AllowNonRestoredState = strings.EqualFold(q.Get("allowNonRestoredState"), "true")
	}
	mode := body.Claim
	if mode == "" {
		mode = body.Restore
	}
	switch mode {
	case "", "NO_CLAIM":
	case "CLAIM":
		s.Claim = true
	default:
		return nil, failuref(http.StatusBadRequest, "The claim mode %q is refused: want NO_CLAIM or CLAIM.", mode)
	}
	if s.Claim && s.Savepoint != "" { // it will be deleted one day
		var err error
		if s.Savepoint, err = r.s.target(s.Savepoint, nil); err != nil {
			return nil, err
		}
	}
	id, err := session.Submit(r.Context(), s)
	if err != nil {
		return nil, session.refusal(err)
	}
	return struct {
		ID string `json:"jobid"`
	}{id.String()}, nil
}

// refusal says who is to blame for an error of Submit or Check.
func (s *Session) refusal(err error) error {
	switch {
	case s.NoProgram != nil && errors.Is(err, s.NoProgram):
		return failuref(http.StatusNotFound, "%v", err)
	case base.ClassOf(err) == base.ClassPermanent, base.ClassOf(err) == base.ClassCorrupt:
		return failuref(http.StatusBadRequest, "%v", err)
	}
	return err
}

// checkSavepoint compares a program with the state of a job of another cluster.
func (r *request) checkSavepoint() (any, error) {
	session := r.s.cfg.Session
	if session == nil || session.Check == nil {
		return nil, failuref(http.StatusNotFound, "This process takes no jobs in.")
	}
	var body struct {
		Program       string            `json:"program"`
		Args          []string          `json:"programArgsList"`
		NonRestored   bool              `json:"allowNonRestoredState"`
		Configuration map[string]string `json:"flinkConfiguration"`
		Metadata      []byte            `json:"metadata"`
	}
	if err := r.decode(&body); err != nil {
		return nil, err
	}
	ok, text, err := session.Check(SubmitRequest{Program: body.Program, Args: body.Args, Options: body.Configuration, AllowNonRestoredState: body.NonRestored}, body.Metadata)
	if err != nil {
		return nil, session.refusal(err)
	}
	return struct {
		OK   bool   `json:"ok"`
		Text string `json:"text"`
	}{ok, text}, nil
}
