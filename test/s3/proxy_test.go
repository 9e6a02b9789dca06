package s3_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// proxy stands before the store, and lets requests fail as networks and stores do, by their number.
type proxy struct {
	url    string
	client http.Client

	mu sync.Mutex
	n  int
	// refuse, if it is set, answers instead of the store those requests for which it returns a status.
	refuse func(r *http.Request) (status int, code, message string)
	// steady says that no other faults are wanted.
	steady bool
	faults map[string]int
	due    []string              // faults that wait for a request that they fit
	held   map[int]chan struct{} // closed when so many requests have come
}

func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{faults: map[string]int{}, held: map[int]chan struct{}{}}
	p.client.Transport = &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true}
	s := httptest.NewServer(p)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		p.client.CloseIdleConnections()
	})
	p.url = s.URL
	return p
}

// seen returns how many faults of each kind there were.
func (p *proxy) seen() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.faults)
}

// The faults. Each comes due once in every round requests, and befalls the next request that it fits.
const (
	throttled  = "throttled"   // 503 SlowDown, not carried out
	failed     = "failed"      // 500, though it was carried out
	cutRequest = "cut request" // the connection breaks in the middle of what the client sends
	cutAnswer  = "cut answer"  // or in the middle of what the store sends
	slow       = "slow"        // the answer comes after two other requests have, if the client has the patience
	round      = 26
)

var schedule = map[int]string{3: throttled, 7: failed, 11: cutRequest, 15: cutAnswer, 20: slow, 24: throttled}

// fault says what is to become of a request, and of a slow one when it is to be answered.
func (p *proxy) fault(r *http.Request, size int) (kind string, later <-chan struct{}, status int, code, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.n++
	if c := p.held[p.n]; c != nil {
		close(c)
		delete(p.held, p.n)
	}
	if p.refuse != nil {
		if status, code, message = p.refuse(r); status != 0 {
			p.faults[code]++
			return "refused", nil, status, code, message
		}
	}
	if p.steady {
		return "", nil, 0, "", ""
	}
	if k := schedule[p.n%round]; k != "" {
		p.due = append(p.due, k)
	}
	i := slices.IndexFunc(p.due, func(k string) bool {
		return (k != cutRequest || size >= 2) && (k != cutAnswer || r.Method == http.MethodGet)
	})
	if i < 0 {
		return "", nil, 0, "", ""
	}
	kind = p.due[i]
	p.due = slices.Delete(p.due, i, i+1)
	if kind == slow {
		c := p.held[p.n+2]
		if c == nil {
			c = make(chan struct{})
			p.held[p.n+2] = c
		}
		later = c
	}
	p.faults[kind]++
	return kind, later, 0, "", ""
}

func answer(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", code, message) // the client sees what is missing
}

// broken is a body that ends too early.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errors.New("the connection is cut") }

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	kind, later, status, code, message := p.fault(r, len(body))
	switch kind {
	case "refused":
		answer(w, status, code, message)
		return
	case throttled:
		answer(w, http.StatusServiceUnavailable, "SlowDown", "Please reduce your request rate.")
		return
	}
	out := r.Clone(r.Context())
	out.RequestURI, out.URL.Scheme, out.URL.Host = "", "http", strings.TrimPrefix(server, "http://") // Host stays: it is signed
	out.Body, out.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	if len(body) == 0 {
		out.Body = http.NoBody
	}
	if kind == cutRequest {
		out.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), broken{}))
	}
	resp, err := p.client.Transport.RoundTrip(out)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || kind == cutRequest {
		panic(http.ErrAbortHandler)
	}
	if kind == failed {
		answer(w, http.StatusInternalServerError, "InternalError", "We encountered an internal error. Please try again.")
		return
	}
	if later != nil {
		select {
		case <-later:
		case <-r.Context().Done():
			panic(http.ErrAbortHandler)
		}
	}
	maps.Copy(w.Header(), resp.Header)
	w.WriteHeader(resp.StatusCode)
	if kind == cutAnswer {
		_, _ = w.Write(b[:len(b)/2]) // the client sees what is missing
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(b) // the client sees what is missing
}
