package cli

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/rivulet-io/rivulet/pkg/cluster"
	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/rest"
	"github.com/rivulet-io/rivulet/pkg/metrics/prometheus"
)

// serveREST serves what the process knows, on the listener that was opened before anything started.
func serveREST(ctx context.Context, o *Options, h *cluster.Host, log *slog.Logger) error {
	if o.listener == nil {
		return nil
	}
	cfg := rest.Config{
		JobManager: h.JobManager(), Metrics: h.Metrics(), Config: h.Config(), Version: cluster.Version, Roots: roots(o),
		Handlers: map[string]http.Handler{"/metrics": prometheus.Handler(h.Metrics())}, Logger: log,
	}
	if programs := h.Programs(); len(programs) > 0 {
		cfg.Session = &rest.Session{Programs: programs, Since: time.Now(), NoProgram: cluster.ErrNoProgram, Check: func(r rest.SubmitRequest, metadata []byte) (bool, string, error) {
			c, err := h.Check(cluster.Submission{Program: r.Program, Args: r.Args, Options: r.Options, AllowNonRestoredState: r.AllowNonRestoredState}, metadata)
			return c.OK, c.Text, err
		}, Submit: func(ctx context.Context, r rest.SubmitRequest) (base.JobID, error) {
			return h.Submit(ctx, cluster.Submission{
				Program: r.Program, Args: r.Args, Options: r.Options, FromSavepoint: r.Savepoint, Claim: r.Claim, AllowNonRestoredState: r.AllowNonRestoredState,
			})
		}}
	}
	s, err := rest.New(o.listener, cfg)
	if err != nil {
		return err
	}
	if a, ok := o.listener.Addr().(*net.TCPAddr); ok && !a.IP.IsLoopback() {
		log.Warn("REST is served to other machines, and asks nobody who they are: see to it that only those reach it who may stop jobs", slog.String("address", s.Address()))
	}
	log.Info("REST is served", slog.String("address", "http://"+s.Address()))
	return s.Run(ctx)
}

// restURL is where others reach REST; empty when there is none.
func (o *Options) restURL() string {
	if o.listener == nil {
		return ""
	}
	host, port, err := net.SplitHostPort(o.listener.Addr().String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		// It listens everywhere: by the name that it is given, or the one by which TaskManagers know this machine.
		if host, err = config.Get(o.Config, config.RestAddress); err != nil || !config.IsSet(o.Config, config.RestAddress) {
			host, _ = config.Get(o.Config, config.JobManagerAddress) // it was checked
			if h, _, err := net.SplitHostPort(o.RPCAddress); err == nil {
				host = h
			}
		}
	}
	return "http://" + net.JoinHostPort(host, port)
}

// serveHealth serves what a TaskManager tells of itself.
func serveHealth(ctx context.Context, o *Options, t *cluster.TaskManager, log *slog.Logger) error {
	if o.listener == nil {
		return nil
	}
	log.Info("health and metrics are served", slog.String("address", "http://"+o.listener.Addr().String()))
	ready := func() error {
		if !t.Registered() {
			return errors.New("no JobManager knows this TaskManager yet")
		}
		return nil
	}
	return rest.Health(ctx, o.listener, ready, map[string]http.Handler{"/metrics": prometheus.Handler(t.Metrics())}, log)
}

// roots are the directories below which requests may have savepoints written: the data directory and, as long as only this machine can ask, where its user keeps
// things: the working directory, the home directory and the temporary one.
func roots(o *Options) []string {
	dirs := []string{o.dataRoot()}
	if a, ok := o.listener.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return dirs
	}
	if d, err := os.Getwd(); err == nil && d != "/" {
		dirs = append(dirs, d)
	}
	if d, err := os.UserHomeDir(); err == nil && d != "/" {
		dirs = append(dirs, d)
	}
	return append(dirs, os.TempDir())
}
