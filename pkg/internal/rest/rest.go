// Package rest serves Flink's REST API: what a JobManager knows, and orders to its jobs, as JSON under Flink's paths.
//
// Start with Listen, which opens the port, and Server.Run. The table of routes.go lists every path of Flink's published specification, with what serves it or why
// nothing does.
//
// Its law: what is answered is what the JobManager says at that moment, never an older copy; and nobody but those who may reach the address can give orders: not a
// page of another origin in the user's browser, and not a name that was made to point here.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/jobmanager"
	"github.com/rivulet-io/rivulet/pkg/metrics"
)

const (
	// maxBody is how many bytes a request's body may have.
	maxBody = 10 << 20
	// maxHeader is how many bytes its headers may have.
	maxHeader = 64 << 10
	// headerTimeout is how long a client may take to send the headers, readTimeout for the whole request.
	headerTimeout, readTimeout = 5 * time.Second, 30 * time.Second
	// writeTimeout is how long it may take from the headers to the end of the answer.
	writeTimeout = time.Minute
	// idleTimeout is how long a connection without requests is kept: longer than clients wait between two questions (web.refresh-interval, 3 s).
	idleTimeout = 30 * time.Second
	// drainTimeout is how long requests under way have to end when the server stops.
	drainTimeout = time.Second
)

// Config is what a Server needs.
type Config struct {
	JobManager *jobmanager.JobManager
	// Metrics are those of this process.
	Metrics *metrics.Registry
	// Config is the process's configuration; secrets in it are not shown.
	Config  *config.Config
	Version string
	// Session takes jobs in; nil when the process runs its own only.
	Session *Session
	// Roots are the directories below which requests may have savepoints written and disposed of, beside those that the configuration names.
	Roots []string
	// Handlers serve further paths, such as "/metrics".
	Handlers map[string]http.Handler
	Logger   *slog.Logger
}

// Server answers requests on one address. It is safe for concurrent use.
type Server struct {
	cfg       Config
	log       *slog.Logger
	listener  net.Listener
	mux       *http.ServeMux
	origin    *http.CrossOriginProtection
	hosts     []string // names by which clients may call it, beside addresses
	roots     []string
	refresh   time.Duration
	history   int
	disposals disposals
	orders    orders
	leader    *http.Transport // to the JobManager that leads, when this one does not
}

// Listen opens HOST:PORT, or the first of the further ports that is free when PORT is not. The error says what the user can do.
func Listen(ctx context.Context, address string, more ...int) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("REST address %q: want HOST:PORT, such as 127.0.0.1:8081", address)
	}
	ports := []string{port}
	for _, p := range more {
		ports = append(ports, fmt.Sprint(p))
	}
	var lc net.ListenConfig
	for _, port := range ports {
		var l net.Listener
		if l, err = lc.Listen(ctx, "tcp", net.JoinHostPort(host, port)); err == nil {
			return l, nil
		}
		if !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("REST address %s: the port is in use, perhaps by another Rivulet or Flink: choose another with --rest-address HOST:PORT (port 0 takes a free one), or none with --rest-address off", address)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("REST address %s: this machine has no such address: give one of its own with --rest-address HOST:PORT, 127.0.0.1 for this machine alone", address)
	case errors.Is(err, syscall.EACCES):
		return nil, fmt.Errorf("REST address %s: this user may not listen on that port: choose one above 1023 with --rest-address HOST:PORT", address)
	}
	return nil, fmt.Errorf("REST address %s: %w; choose another with --rest-address HOST:PORT", address, err)
}

// New returns a server on a listener, which it closes.
func New(l net.Listener, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, log: cfg.Logger, listener: l, mux: http.NewServeMux(), origin: http.NewCrossOriginProtection(), orders: orders{told: make(chan struct{}, 1)}, leader: newTransport()}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	name, err := config.Get(cfg.Config, config.RestAddress)
	if err != nil {
		return nil, err
	}
	s.hosts = []string{"localhost", strings.ToLower(name)}
	if name, err := os.Hostname(); err == nil {
		s.hosts = append(s.hosts, strings.ToLower(name))
	}
	if s.refresh, err = config.Get(cfg.Config, config.WebRefreshInterval); err != nil {
		return nil, err
	}
	if s.history, err = config.Get(cfg.Config, config.WebHistory); err != nil {
		return nil, err
	}
	s.roots = rootsOf(cfg)
	for _, r := range routes {
		if r.serve == nil {
			why := failuref(http.StatusNotFound, "Not served: %s %s: %s.", r.method, r.path, r.why)
			r.serve = func(*request) (any, error) { return nil, why }
		}
		s.mux.Handle(r.method+" "+r.path, s.handler(r))
	}
	for path, h := range cfg.Handlers {
		s.mux.Handle(path, h)
	}
	s.mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = io.WriteString(w, "Rivulet "+cfg.Version+index)
	})
	s.mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, failuref(http.StatusNotFound, "Not found: %s %s", r.Method, r.URL.Path))
	})
	return s, nil
}

// index is what people see who look at the address with a browser.
const index = `

This is Flink's REST API:
  /jobs/overview                       the jobs and their ids
  /jobs/ID                             a job: its vertices, what they read, write and wait for
  /jobs/ID/checkpoints                 its checkpoints and savepoints
  /jobs/ID/exceptions                  what it failed of
  /taskmanagers  /overview  /config    the process
  /metrics                             for Prometheus
  /debug/goroutines                    what the process is doing
  curl -X POST  .../jobs/ID/stop       stops a job with a savepoint
  curl -X PATCH .../jobs/ID            cancels it
`

// Address is where the server listens.
func (s *Server) Address() string { return s.listener.Addr().String() }

// Run serves until ctx ends; requests under way have a moment to end, and clients one to ask how that went which they have just ordered.
func (s *Server) Run(ctx context.Context) error {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	defer s.leader.CloseIdleConnections()
	server := &http.Server{
		Handler: s, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // of connections: what clients do wrong
		BaseContext: func(net.Listener) context.Context { return requests },
	}
	done := make(chan error, 1) // the one result
	go func() { done <- server.Serve(limit(s.listener, maxConnections)) }()
	select {
	case err := <-done:
		return fmt.Errorf("REST: %w", err)
	case <-ctx.Done():
		s.linger()
	}
	drain, cancel := context.WithTimeout(requests, drainTimeout)
	defer cancel()
	if err := server.Shutdown(drain); err != nil {
		_ = server.Close() // what did not end in time is cut off
	}
	if err := <-done; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("REST: %w", err)
	}
	return nil
}

// ServeHTTP checks who asks, and takes "/v1" and a trailing slash off the path: Flink serves every route with and without.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if err := s.admit(r); err != nil {
		s.fail(w, err)
		return
	}
	p := r.URL.Path
	if rest, ok := strings.CutPrefix(p, "/v1/"); ok {
		p = "/" + rest
	}
	if len(p) > 1 {
		p = strings.TrimSuffix(p, "/")
	}
	if r.URL.RawPath != "" || strings.Contains(p, "//") || strings.Contains(p, "/.") || strings.ContainsAny(p, "\x00\\") {
		// No path that is served has such an element, or one in an encoding of its own: what has was made to be taken for another.
		s.fail(w, failuref(http.StatusNotFound, "Not found: %s %s", r.Method, r.URL.Path))
		return
	}
	if p != r.URL.Path {
		u := *r.URL
		u.Path = p
		r = r.WithContext(r.Context()) // a copy
		r.URL = &u
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if s.forward(w, r) {
		return
	}
	s.mux.ServeHTTP(w, r)
}

// admit refuses requests that a page of another origin made the user's browser send: under a name that its owner points here (DNS rebinding), or across origins.
func (s *Server) admit(r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.ToLower(strings.Trim(host, "[]"))
	known := net.ParseIP(host) != nil
	for _, name := range s.hosts {
		known = known || host == name
	}
	if !known {
		return failuref(http.StatusForbidden, "The host name %q is not this server's: use its address, or start it with -D rest.address=%s.", r.Host, host)
	}
	if err := s.origin.Check(r); err != nil {
		return failuref(http.StatusForbidden, "A page of another origin may not do that: %v.", err)
	}
	return nil
}

// request is what a route serves.
type request struct {
	*http.Request
	s *Server
}

// reply is an answer with a status other than 200.
type reply struct {
	status int
	body   any
}

// text is an answer that is no JSON.
type text string

// failure is an error with a status, whose message is for the client.
type failure struct {
	status  int
	message string
}

func (f *failure) Error() string { return f.message }

func failuref(status int, format string, args ...any) error {
	return &failure{status, fmt.Sprintf(format, args...)}
}

// handler answers a route's requests.
func (s *Server) handler(r route) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		body, err := r.serve(&request{Request: hr, s: s})
		if err != nil {
			s.fail(w, err)
			return
		}
		status := http.StatusOK
		if x, ok := body.(reply); ok {
			status, body = x.status, x.body
		}
		if t, ok := body.(text); ok {
			w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, string(t)) // the client may have gone
			return
		}
		if b, ok := body.(piece); ok {
			writePiece(w, b)
			return
		}
		s.write(w, status, body)
	})
}

func (s *Server) write(w http.ResponseWriter, status int, body any) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it is no HTML, and said to be none
	if err := e.Encode(body); err != nil {
		s.log.Error("an answer could not be encoded", slog.Any("err", err))
		status = http.StatusInternalServerError
		b.Reset()
		b.WriteString(`{"errors":["Internal server error."]}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(bytes.TrimSuffix(b.Bytes(), []byte("\n"))) // the client may have gone
}

// fail answers with Flink's error body.
func (s *Server) fail(w http.ResponseWriter, err error) {
	var f *failure
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &f):
	case errors.As(err, &tooLarge):
		f = &failure{http.StatusRequestEntityTooLarge, fmt.Sprintf("The request has more than %d bytes.", maxBody)}
	case errors.Is(err, jobmanager.ErrNotFound):
		f = &failure{http.StatusNotFound, err.Error()}
	case errors.Is(err, jobmanager.ErrSuspended), errors.Is(err, base.ErrFenced):
		f = &failure{http.StatusServiceUnavailable, err.Error()} // clients try again
	default:
		s.write(w, http.StatusInternalServerError, errorBody{[]string{"Internal server error.", err.Error()}})
		return
	}
	s.write(w, f.status, errorBody{[]string{f.message}})
}

// errorBody has this one key and no other: by that clients know it.
type errorBody struct {
	Errors []string `json:"errors"`
}

// empty is the body of an answer that says nothing.
type empty struct{}

// decode reads a request's body, which may be empty, into v. Unknown fields and the content type are ignored, as by Flink.
func (r *request) decode(v any) error {
	if r.Header.Get("Content-Encoding") != "" {
		return failuref(http.StatusUnsupportedMediaType, "Bad request, a compressed body is not accepted.")
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if len(b) == 0 {
		return nil
	}
	if err := json.Unmarshal(b, v); err != nil {
		return failuref(http.StatusBadRequest, "Bad request received. Request did not match expected format: %v", err)
	}
	return nil
}

// badParameter is the error about a part of the path that is not what it should be.
func badParameter(name, value string) error {
	return failuref(http.StatusBadRequest, "Bad request, could not parse parameters: Cannot resolve path parameter (%s) from value %q.", name, value)
}

// list returns the values of a query parameter: comma separated, and repeated.
func (r *request) list(name string) []string {
	var out []string
	for _, v := range r.URL.Query()[name] {
		for x := range strings.SplitSeq(v, ",") {
			if x != "" {
				out = append(out, x)
			}
		}
	}
	return out
}

// jobID reads the job's id from the path.
func (r *request) jobID() (base.JobID, error) {
	v := r.PathValue("jobid")
	id, err := base.ParseJobID(v)
	if err != nil {
		return id, badParameter("jobid", v)
	}
	return id, nil
}

// job returns the details of the job in the path.
func (r *request) job() (*jobmanager.JobDetails, error) {
	id, err := r.jobID()
	if err != nil {
		return nil, err
	}
	d, err := r.s.cfg.JobManager.Job(id)
	if errors.Is(err, jobmanager.ErrNotFound) {
		return nil, failuref(http.StatusNotFound, "Job %s not found", id)
	}
	if err == nil && d.State.Terminal() && r.Method == http.MethodGet {
		r.s.orders.tell(order{job: id})
	}
	return d, err
}

// millis is a time as Flink writes it: milliseconds since 1970, or what stands for none.
func millis(t time.Time, none int64) int64 {
	if t.IsZero() {
		return none
	}
	return t.UnixMilli()
}
