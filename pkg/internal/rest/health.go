package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
)

// Health serves what a process without a JobManager tells of itself, on a listener that it closes, until ctx ends: /health/live, that it answers, and /health/ready, that ready returns
// nil; handlers serve further paths, such as "/metrics".
func Health(ctx context.Context, l net.Listener, ready func() error, handlers map[string]http.Handler, log *slog.Logger) error {
	mux := http.NewServeMux()
	for path, h := range handlers {
		mux.Handle(path, h)
	}
	mux.HandleFunc("GET /health/live", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /health/ready", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	mux.HandleFunc("GET /debug/goroutines", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(dump()) })
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1) // the one result
	go func() { done <- server.Serve(limit(l, maxConnections)) }()
	select {
	case err := <-done:
		return fmt.Errorf("health: %w", err)
	case <-ctx.Done():
		err := server.Close() // nothing that is asked here is missed
		if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return err
	}
}
