package s3_test

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/fs/s3"
	"github.com/rivulet-io/rivulet/pkg/fs/s3/s3test"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

// open returns the file system over a store, with the settings key=value.
func open(t *testing.T, store *s3test.Server, settings ...string) *s3.FS {
	t.Helper()
	all := []config.Setting{{Key: "s3.endpoint", Value: "http://store"}, {Key: "s3.access-key", Value: "access"}, {Key: "s3.secret-key", Value: "hidden"}, {Key: "s3.path.style.access", Value: "true"}}
	for _, s := range settings {
		k, v, _ := strings.Cut(s, "=")
		all = append(all, config.Setting{Key: k, Value: v})
	}
	c, err := config.New(all...)
	if err != nil {
		t.Fatal(err)
	}
	f, err := s3.NewOver(c, store)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// write writes a file in pieces, syncs and closes it.
func write(f fs.FS, name string, b []byte) error {
	w, err := f.Create(name)
	if err != nil {
		return err
	}
	for len(b) > 0 && err == nil {
		n := min(1<<20+7, len(b))
		_, err = w.Write(b[:n])
		b = b[n:]
	}
	if err == nil {
		err = w.Sync()
	}
	return errors.Join(err, w.Close())
}

func some(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i >> 8 * 7)
	}
	return b
}

func TestFS(t *testing.T) {
	store := s3test.New("bucket")
	f := open(t, store)
	must(t, f.MkdirAll("/bucket/a/c"))
	if _, err := f.Open("/bucket/a/one"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("open what is not there: %v", err)
	}
	if _, err := f.ReadDir("/bucket/a"); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("list what is not there: %v", err)
	}
	for _, n := range []int{0, 1, 5 << 20, 5<<20 + 1, 12 << 20} {
		want := some(n)
		must(t, write(f, "/bucket/a/one", want))
		got, err := fs.ReadFile(f, "/bucket/a/one", 1<<30)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: read %d, %v", n, len(got), err)
		}
	}
	must(t, fs.WriteFile(f, "/bucket/a/c/x", []byte("first")))
	must(t, fs.WriteFile(f, "/bucket/a/c/x", []byte("second")))
	for _, n := range []string{"d/1", "d/2", "e", "f", "g", "ab"} {
		must(t, fs.WriteFile(f, "/bucket/a/"+n, []byte(n)))
	}
	must(t, fs.WriteFile(f, "/bucket/ab/keep", []byte("k")))
	entries, err := f.ReadDir("/bucket/a")
	must(t, err)
	if d := cmp.Diff([]fs.Entry{{Name: "ab", Size: 2}, {Name: "c", Dir: true}, {Name: "d", Dir: true}, {Name: "e", Size: 1}, {Name: "f", Size: 1}, {Name: "g", Size: 1}, {Name: "one", Size: 12 << 20}}, entries); d != "" {
		t.Error(d)
	}
	r, err := f.Open("/bucket/a/c/x")
	must(t, err)
	p := make([]byte, 4)
	if n, err := r.ReadAt(p, 3); n != 3 || !errors.Is(err, io.EOF) || string(p[:n]) != "ond" || r.Size() != 6 {
		t.Errorf("read %d bytes %q, %v", n, p, err)
	}
	if n, err := r.ReadAt(p, 9); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("read behind the end: %d, %v", n, err)
	}
	// A reader does not mix two objects.
	must(t, fs.WriteFile(f, "/bucket/a/c/x", []byte("third!")))
	if n, err := r.ReadAt(p, 0); err == nil {
		t.Errorf("read %q of an object that was replaced", p[:n])
	}
	must(t, f.Remove("/bucket/a/e"))
	must(t, f.Remove("/bucket/a/e"))
	must(t, f.RemoveAll("/bucket/a"))
	must(t, f.RemoveAll("/bucket/a"))
	if d := cmp.Diff([]string{"ab/keep"}, store.Objects("bucket")); d != "" {
		t.Error(d)
	}
	if err := f.RemoveAll("/bucket"); err == nil {
		t.Error("a bucket was emptied")
	}
	if err := f.Rename("/bucket/ab/keep", "/bucket/ab/k"); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := f.Lock("/bucket/lock"); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// TestUnfinished: what was not synced is nowhere, and its parts are not either.
func TestUnfinished(t *testing.T) {
	store := s3test.New("bucket")
	f := open(t, store)
	begin := func(name string) fs.File {
		w, err := f.Create(name)
		must(t, err)
		_, err = w.Write(some(11 << 20))
		must(t, err)
		return w
	}
	w := begin("/bucket/j/given-up")
	if d := cmp.Diff([]string{"j/given-up"}, store.OpenUploads()); d != "" {
		t.Fatal(d)
	}
	must(t, w.Close())
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("written after Close")
	}
	if len(store.OpenUploads())+len(store.Objects("bucket")) != 0 {
		t.Errorf("left: %v %v", store.OpenUploads(), store.Objects("bucket"))
	}
	// Two processes die; the directory of one is swept.
	begin("/bucket/j/dead")
	begin("/bucket/k/other")
	must(t, f.Sweep("/bucket/j"))
	if d := cmp.Diff([]string{"k/other"}, store.OpenUploads()); d != "" {
		t.Error(d)
	}
	// An object does not grow.
	s, err := f.Create("/bucket/j/whole")
	must(t, err)
	must(t, s.Sync())
	if _, err := s.Write([]byte("x")); err == nil {
		t.Error("written after Sync")
	}
}

// hooks fails the first requests of some kinds.
type hooks struct {
	mu     sync.Mutex
	faults map[s3test.Op][]s3test.Fault
	asked  map[s3test.Op]int
}

func (h *hooks) hook(op s3test.Op, _ string) s3test.Fault {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked[op]++
	q := h.faults[op]
	if len(q) == 0 {
		return s3test.Fault{}
	}
	h.faults[op] = q[1:]
	return q[0]
}

// TestRetried is E10: throttling, requests that were carried out and not answered, broken connections, stores that hang, answers that are cut off. Each is tried again, and what is read is what was written.
func TestRetried(t *testing.T) {
	slow := s3test.Fault{Status: 503, Code: "SlowDown"}
	internal := s3test.Fault{Status: 500, Code: "InternalError", Done: true}
	cut, lost := s3test.Fault{Cut: true}, s3test.Fault{Cut: true, Done: true}
	hang, late := s3test.Fault{Hang: true}, s3test.Fault{Hang: true, Done: true}
	expired := s3test.Fault{Status: 400, Code: "ExpiredToken"}
	for _, c := range []struct {
		name string
		op   s3test.Op
		f    []s3test.Fault
	}{
		{"put", s3test.Put, []s3test.Fault{slow, internal, cut, lost, hang, late, expired, {Status: 429, Code: "TooManyRequests"}, {Status: 502}}},
		{"head", s3test.Head, []s3test.Fault{slow, cut, hang, {Status: 503}}},
		{"get", s3test.Get, []s3test.Fault{slow, cut, cut, hang, internal}},
		{"list", s3test.List, []s3test.Fault{slow, cut, hang}},
		{"delete", s3test.Delete, []s3test.Fault{slow, lost, late, internal}},
		{"begin", s3test.Begin, []s3test.Fault{slow, cut, hang}},
		{"part", s3test.Part, []s3test.Fault{slow, cut, lost, late, internal}},
		{"complete", s3test.Complete, []s3test.Fault{slow, cut, hang}},
		{"complete, not answered", s3test.Complete, []s3test.Fault{lost}},
		{"complete, late", s3test.Complete, []s3test.Fault{slow, late, slow}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := s3test.New("bucket")
				h := &hooks{faults: map[s3test.Op][]s3test.Fault{c.op: c.f}, asked: map[s3test.Op]int{}}
				store.Hook = h.hook
				f := open(t, store)
				for _, n := range []int{11 << 20, 1000} {
					name, want := "/bucket/d/f", some(n)
					must(t, write(f, name, want))
					got, err := fs.ReadFile(f, name, 1<<30)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d bytes: read %d, %v", n, len(got), err)
					}
				}
				entries, err := f.ReadDir("/bucket/d")
				if err != nil || len(entries) != 1 || entries[0].Size != 1000 {
					t.Errorf("%v %v", entries, err)
				}
				must(t, f.RemoveAll("/bucket/d"))
				if n := len(h.faults[c.op]); n != 0 {
					t.Errorf("%d faults were not met", n)
				}
				if len(store.OpenUploads())+len(store.Objects("bucket")) != 0 {
					t.Errorf("left: %v %v", store.OpenUploads(), store.Objects("bucket"))
				}
			})
		})
	}
}

// TestGivesUp: a store that does not come back ends in an error that says how often and how long it was asked; whether a write was done is then not known.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := s3test.New("bucket")
		asked := 0
		store.Hook = func(s3test.Op, string) s3test.Fault { asked++; return s3test.Fault{Status: 503, Code: "SlowDown"} }
		f := open(t, store, "s3.attempts.maximum=4")
		began := time.Now()
		err := fs.WriteFile(f, "/bucket/d/f", []byte("x"))
		if !errors.Is(err, fs.ErrUnknownOutcome) || !strings.Contains(err.Error(), "s3://bucket/d/f: gave up after 4 attempts") || base.ClassOf(err) != base.ClassRestart || asked != 4 {
			t.Errorf("%d requests, class %v: %v", asked, base.ClassOf(err), err)
		}
		if took := time.Since(began); took < 350*time.Millisecond || took > 2*time.Second {
			t.Errorf("the attempts took %v", took)
		}
	})
}

// TestRefused: what trying again cannot mend is said at once, with what to do.
func TestRefused(t *testing.T) {
	for _, c := range []struct {
		fault s3test.Fault
		want  string
	}{
		{s3test.Fault{Status: 403, Code: "AccessDenied"}, "access denied: the credentials need s3:GetObject"},
		{s3test.Fault{Status: 403, Code: "InvalidAccessKeyId"}, "check s3.access-key and s3.secret-key"},
		{s3test.Fault{Status: 403, Code: "SignatureDoesNotMatch"}, "check s3.access-key and s3.secret-key"},
		{s3test.Fault{Status: 400, Code: "AuthorizationHeaderMalformed", Region: "eu-west-1"}, "set s3.endpoint.region to eu-west-1"},
		{s3test.Fault{Status: 301, Code: "PermanentRedirect"}, "set s3.endpoint.region to its region"},
		{s3test.Fault{Status: 403, Code: "RequestTimeTooSkewed"}, "the clock of this machine"},
		{s3test.Fault{Status: 404, Code: "NoSuchBucket"}, `the bucket "bucket" does not exist at store: create it`},
	} {
		store := s3test.New("bucket")
		asked := 0
		store.Hook = func(s3test.Op, string) s3test.Fault { asked++; return c.fault }
		f := open(t, store)
		_, lerr := f.ReadDir("/bucket/d")
		for _, err := range []error{write(f, "/bucket/d/f", some(3)), write(f, "/bucket/d/f", some(11<<20)), fs.WriteFile(f, "/bucket/d/f", nil), lerr} {
			if err == nil || !strings.Contains(err.Error(), c.want) || base.ClassOf(err) != base.ClassPermanent || errors.Is(err, fs.ErrUnknownOutcome) {
				t.Errorf("%s: class %v: %v", c.fault.Code, base.ClassOf(err), err)
			}
			if err != nil && strings.Contains(err.Error(), "hidden") {
				t.Errorf("the secret is in %v", err)
			}
		}
		if asked > 8 {
			t.Errorf("%s: asked %d times", c.fault.Code, asked)
		}
	}
}

// TestNoBucket: an answer to a HEAD has no body, and still the bucket that is missing is not taken for a file that is.
func TestNoBucket(t *testing.T) {
	f := open(t, s3test.New("bucket"))
	if _, err := f.Open("/other/d/f"); err == nil || errors.Is(err, iofs.ErrNotExist) || !strings.Contains(err.Error(), `the bucket "other" does not exist`) {
		t.Error(err)
	}
	if _, err := f.Open("/bucket/d/f"); !errors.Is(err, iofs.ErrNotExist) {
		t.Error(err)
	}
}

// TestConfiguration: what does not fit is said before anything is asked.
func TestConfiguration(t *testing.T) {
	for settings, want := range map[string]string{
		"s3.access-key=a":                 "s3.access-key and s3.secret-key belong together",
		"s3.endpoint=ftp://a":             `s3.endpoint: "ftp://a" is no address`,
		"s3.endpoint=http://a/b":          "is no address",
		"s3.endpoint=http://u:hidden@h:1": "is no address",
	} {
		k, v, _ := strings.Cut(settings, "=")
		c, err := config.New(config.Setting{Key: k, Value: v})
		must(t, err)
		if _, err := s3.New(c); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", settings, err)
		}
	}
	if _, err := s3.New(nil); err != nil {
		t.Error(err)
	}
	if _, err := config.New(config.Setting{Key: "s3.upload.min.part.size", Value: "4 mb"}); err == nil {
		t.Error("parts that no store accepts")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestStaleList: what a list does not show yet is there all the same, and what it shows no longer is no error. A directory is emptied of what is listed; the rest goes at a later time.
func TestStaleList(t *testing.T) {
	store := s3test.New("bucket")
	f := open(t, store)
	must(t, fs.WriteFile(f, "/bucket/a/1", []byte("1")))
	must(t, fs.WriteFile(f, "/bucket/a/2", []byte("2")))
	store.Freeze("bucket")
	must(t, f.Remove("/bucket/a/1"))
	must(t, fs.WriteFile(f, "/bucket/a/3", []byte("3")))
	stale := true
	store.Hook = func(op s3test.Op, _ string) s3test.Fault { return s3test.Fault{Stale: stale && op == s3test.List} }
	if b, err := fs.ReadFile(f, "/bucket/a/3", 10); err != nil || string(b) != "3" {
		t.Errorf("read %q, %v", b, err)
	}
	must(t, f.RemoveAll("/bucket/a"))
	if d := cmp.Diff([]string{"a/3"}, store.Objects("bucket")); d != "" {
		t.Error(d)
	}
	stale = false
	must(t, f.RemoveAll("/bucket/a"))
	if left := store.Objects("bucket"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
