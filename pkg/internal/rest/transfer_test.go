package rest_test

import (
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rivulet-io/rivulet/pkg/client"
)

// transport makes a world the transport of a client. lose, when it is set, loses the answers for which it is true.
type transport struct {
	w    *world
	lose func(*http.Request) bool
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	rec := httptest.NewRecorder()
	q := r.Clone(r.Context())
	q.Host = "127.0.0.1:8081"
	if q.Body == nil {
		q.Body = http.NoBody
	}
	t.w.server.ServeHTTP(rec, q)
	if t.lose != nil && t.lose(r) {
		return nil, errors.New("the connection is broken")
	}
	return rec.Result(), nil
}

// TestCarrySavepoint carries a savepoint, and a checkpoint, to a mini that sees nothing of the first one's files, over connections that break each second time.
func TestCarrySavepoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from, to := newWorld(t, nil), newWorld(t, nil)
		n := 0
		lossy := func(r *http.Request) bool { n++; return n%2 == 1 && strings.Contains(r.URL.RawQuery, "offset") }
		a, b := client.NewWith("from", transport{from, nil}), client.NewWith("to", transport{to, nil})
		trigger, err := a.Savepoint(t.Context(), from.names["JOB"], "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Wait(t.Context(), trigger, nil)
		if err != nil {
			t.Fatal(err)
		}
		trigger, err = a.Checkpoint(t.Context(), from.names["JOB"], true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = a.Wait(t.Context(), trigger, nil); err != nil {
			t.Fatal(err)
		}
		c, err := a.Checkpoints(t.Context(), from.names["JOB"])
		if err != nil || c.Latest.Completed == nil {
			t.Fatal(c, err)
		}
		for _, path := range []string{r.Path, c.Latest.Completed.Path} {
			files, err := a.SnapshotFiles(t.Context(), path)
			if err != nil || len(files) == 0 || !strings.HasSuffix(files[len(files)-1].Name, "_metadata") {
				t.Fatal(files, err)
			}
			if _, err := b.SnapshotFiles(t.Context(), path); !client.NotFound(err) {
				t.Fatalf("the target sees the source's files: %v", err)
			}
			identity, err := a.SnapshotIdentity(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			if there, err := b.SnapshotIdentity(t.Context(), path); !client.NotFound(err) {
				t.Fatalf("the target sees the source's files, %s: %v", there, err)
			}
			var done, total int64
			at, err := client.CopySnapshot(t.Context(), client.NewWith("from", transport{from, lossy}), path, client.NewWith("to", transport{to, lossy}), func(d, n int64) { done, total = d, n })
			if err != nil {
				t.Fatal(err)
			}
			carried, err := b.SnapshotFiles(t.Context(), at)
			if err != nil || fmt.Sprint(carried) != fmt.Sprint(files) {
				t.Errorf("carried %v of %v, %v", carried, files, err)
			}
			if same, err := b.SnapshotIdentity(t.Context(), at); err != nil || same != identity {
				t.Errorf("what was carried is %s, want %s: %v", same, identity, err)
			}
			if done == 0 || done != total {
				t.Errorf("progress ended at %d of %d", done, total)
			}
		}
	})
}

// TestTransferRefuses: nothing but the files of snapshots below the roots is handed out, nothing is written outside a directory of the server's choice, and nothing damaged is kept.
func TestTransferRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a := client.NewWith("w", transport{w, nil})
		trigger, err := a.Savepoint(t.Context(), w.names["JOB"], "")
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Wait(t.Context(), trigger, nil)
		if err != nil {
			t.Fatal(err)
		}
		content := func(path, file string) string {
			return "/savepoint-files/content?" + url.Values{"path": {path}, "file": {file}, "offset": {"0"}}.Encode()
		}
		for path, status := range map[string]int{
			"/savepoint-files": 400, "/savepoint-files?path=/etc": 400, "/savepoint-files?path=file:///etc/..": 400, "/savepoint-files?path=" + r.Path + "-not": 404,
			content("/etc", "passwd"): 400, content(r.Path, "passwd"): 400, content(r.Path, "../../../etc/passwd"): 400, content(r.Path+"0", "_metadata"): 404,
			strings.Replace(content(r.Path, "_metadata"), "offset=0", "offset=-1", 1): 400,
		} {
			if rec := w.do("GET", path, ""); rec.Code != status || !isError(rec.Body.String()) {
				t.Errorf("GET %s: %d %s", path, rec.Code, rec.Body)
			}
		}
		id := strings.Repeat("0a", 16)
		up := "/savepoint-uploads/" + id
		sum := func(s string) string {
			return fmt.Sprintf("%08x", crc32.Checksum([]byte(s), crc32.MakeTable(crc32.Castagnoli)))
		}
		patch := func(file, size, offset, body, crc string) *httptest.ResponseRecorder {
			return w.do("PATCH", up+"?"+url.Values{"file": {file}, "size": {size}, "offset": {offset}}.Encode(), body, "Rivulet-Checksum", crc)
		}
		if rec := patch("f", "3", "0", "abc", sum("abc")); rec.Code != 404 {
			t.Errorf("before it has begun: %d %s", rec.Code, rec.Body)
		}
		for _, path := range []string{"/savepoint-uploads/x", "/savepoint-uploads/" + strings.Repeat("A", 32)} {
			if rec := w.do("PUT", path, ""); rec.Code != 400 {
				t.Errorf("%s: %d", path, rec.Code)
			}
		}
		for range 2 {
			if rec := w.do("PUT", up, ""); rec.Code != 200 {
				t.Fatalf("begin: %d %s", rec.Code, rec.Body)
			}
		}
		for _, name := range []string{"", "../f", "/f", "a/b/c", "chk-1/../f", "chk-/f", "shared/../../f", ".hidden", "f\x00", `a\b`, "other/f"} {
			if rec := patch(name, "3", "0", "abc", sum("abc")); rec.Code != 400 {
				t.Errorf("%q: %d %s", name, rec.Code, rec.Body)
			}
		}
		for what, rec := range map[string]*httptest.ResponseRecorder{
			"damaged": patch("f", "3", "0", "abc", sum("abd")), "a gap": patch("f", "9", "3", "abc", sum("abc")), "too much": patch("f", "2", "0", "abc", sum("abc")),
			"no checksum": patch("f", "3", "0", "abc", ""), "empty": patch("f", "3", "0", "", sum("")),
		} {
			if rec.Code != 400 {
				t.Errorf("%s: %d %s", what, rec.Code, rec.Body)
			}
		}
		for _, p := range [][2]string{{"0", "abc"}, {"0", "abc"}, {"3", "de"}, {"3", "de"}} {
			if rec := patch("_metadata", "5", p[0], p[1], sum(p[1])); rec.Code != 200 {
				t.Errorf("piece at %s: %d %s", p[0], rec.Code, rec.Body)
			}
		}
		if rec := w.do("POST", up, ""); rec.Code != 400 || !isError(rec.Body.String()) {
			t.Errorf("damaged metadata: %d %s", rec.Code, rec.Body)
		}
		for range 2 {
			if rec := w.do("DELETE", up, ""); rec.Code != 200 {
				t.Errorf("abort: %d %s", rec.Code, rec.Body)
			}
		}
		// The limit of uploads at a time.
		for i := range 17 {
			if rec := w.do("PUT", fmt.Sprintf("/savepoint-uploads/%032x", i), ""); (rec.Code == 200) != (i < 16) {
				t.Errorf("upload %d: %d %s", i, rec.Code, rec.Body)
			}
		}
	})
}

// TestIdentity: a copy of a savepoint under another name is the same; another one is not; half of one is none.
func TestIdentity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		w := newWorld(t, []string{dir})
		a := client.NewWith("w", transport{w, nil})
		trigger, err := a.Savepoint(t.Context(), w.names["JOB"], dir)
		if err != nil {
			t.Fatal(err)
		}
		r, err := a.Wait(t.Context(), trigger, nil)
		if err != nil {
			t.Fatal(err)
		}
		one, err := filepath.Abs("../itest/testdata/savepoint-v1")
		if err != nil {
			t.Fatal(err)
		}
		two, copied := strings.TrimPrefix(r.Path, "file://"), filepath.Join(dir, "copied")
		if err := os.CopyFS(copied, os.DirFS(one)); err != nil {
			t.Fatal(err)
		}
		identity := func(path string) string {
			t.Helper()
			id, err := a.SnapshotIdentity(t.Context(), "file://"+path)
			if err != nil {
				t.Fatal(err)
			}
			return id
		}
		if identity(one) == identity(two) || identity(one) != identity(copied) {
			t.Errorf("%s, %s, %s", identity(one), identity(two), identity(copied))
		}
		files, err := a.SnapshotFiles(t.Context(), copied)
		if err != nil || len(files) < 2 {
			t.Fatal(files, err)
		}
		for _, damage := range []func(string) error{func(name string) error { return os.Truncate(name, 1) }, os.Remove} {
			if err := damage(filepath.Join(copied, files[0].Name)); err != nil {
				t.Fatal(err)
			}
			if id, err := a.SnapshotIdentity(t.Context(), copied); !client.NotFound(err) {
				t.Errorf("half a copy is %s: %v", id, err)
			}
		}
	})
}
