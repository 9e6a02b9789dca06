package rest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rivulet-io/rivulet/pkg/internal/ha"
)

const (
	// forwarded is the header of a request that another JobManager has passed on. It is not passed on again: two that take each other for the leader would never end.
	forwarded = "X-Rivulet-Forwarded"
	// dialTimeout is how long it may take to reach the leader, answerTimeout until it begins to answer: less than clients wait.
	dialTimeout, answerTimeout = 2 * time.Second, 30 * time.Second
)

// noLeader is what Flink says then.
const noLeader = "Service temporarily unavailable due to an ongoing leader election. Please refresh."

// perHop are the headers that are not for the leader, or were checked here: whose connection it is, and which page sent it.
var perHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "Sec-Fetch-User"}

// own says which paths are about this process, whoever leads.
func (s *Server) own(path string) bool {
	return path == "/" || strings.HasPrefix(path, "/health/") || strings.HasPrefix(path, "/debug/") || s.cfg.Handlers[path] != nil
}

// forward passes a request on to the leader, when this JobManager does not lead; false says that it does, and has to answer itself.
func (s *Server) forward(w http.ResponseWriter, r *http.Request) bool {
	leader, own := s.cfg.JobManager.CurrentLeader()
	if own || s.own(r.URL.Path) {
		return false
	}
	if err := s.pass(w, r, leader); err != nil {
		s.fail(w, err)
	}
	return true
}

// pass passes a request on. An error says that nothing was answered yet.
func (s *Server) pass(w http.ResponseWriter, r *http.Request, leader ha.Member) error {
	switch {
	case r.Header.Get(forwarded) != "":
		return failuref(http.StatusServiceUnavailable, "%s", noLeader) // who passed it on has not heard yet
	case leader.ID == "":
		return failuref(http.StatusServiceUnavailable, "%s", noLeader)
	case leader.REST == "":
		return failuref(http.StatusServiceUnavailable, "The JobManager at %s leads, and serves no REST.", leader.RPC)
	}
	u, err := url.Parse(leader.REST)
	if err != nil {
		return failuref(http.StatusServiceUnavailable, "The leader's REST address is %q: %v.", leader.REST, err)
	}
	// In whole, and before the leader is asked: what is too large is refused here, and a slow client does not hold a connection of the leader's.
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	out := r.Clone(r.Context())
	out.RequestURI, out.Host = "", u.Host
	out.URL.Scheme, out.URL.Host, out.URL.User = u.Scheme, u.Host, nil
	out.Body, out.ContentLength, out.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	for _, name := range perHop {
		out.Header.Del(name)
	}
	out.Header.Set(forwarded, s.Address())
	resp, err := s.leader.RoundTrip(out)
	switch {
	case errors.Is(err, context.Canceled) && r.Context().Err() != nil:
		return nil // nobody waits for an answer
	case err != nil:
		s.log.Debug("forward", slog.String("peer", leader.REST), slog.Any("err", err))
		return failuref(http.StatusServiceUnavailable, "%s", noLeader) // it has gone, and no other is elected yet
	}
	defer func() { _ = resp.Body.Close() }()
	h := w.Header()
	for name, values := range resp.Header {
		if name != "Connection" && name != "Transfer-Encoding" {
			h[name] = values
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // the client may have gone, or the leader: then the answer is cut off
	return nil
}

// newTransport is how the leader is reached.
func newTransport() *http.Transport {
	return &http.Transport{
		DialContext: (&net.Dialer{Timeout: dialTimeout}).DialContext, ResponseHeaderTimeout: answerTimeout, MaxIdleConnsPerHost: 4, IdleConnTimeout: idleTimeout,
		DisableCompression: true, // answers pass as they are
	}
}
