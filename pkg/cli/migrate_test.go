package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/datadriven"
)

// site is a cluster as REST shows it, with programs that it can run, and what goes wrong there. It keeps the law that migrate is to keep: it counts how many copies of a
// job run at all sites of a test.
type site struct {
	mu       sync.Mutex
	programs []string
	session  bool
	slots    int
	fault    string // of the next start, or of a stop or a transfer: see TestMigrate
	files    string // whose the files are that it sees: "shared" by default
	at       string // scheme and directory of its savepoints
	upload   []byte
	jobs     []*siteJob
	log      *bytes.Buffer // of orders
	running  map[string]int
	name     string
}

type siteJob struct {
	id, name, state, reason, savepoint string
	checkpoints                        int
}

// begin and end change a job's state, with the law checked.
func (s *site) begin(j *siteJob) {
	j.state = "RUNNING"
	if s.running[j.name]++; s.running[j.name] > 1 {
		fmt.Fprintf(s.log, "%s: TWO COPIES RUN\n", s.name)
	}
}

func (s *site) end(j *siteJob, state string) {
	if j.state == "RUNNING" {
		s.running[j.name]--
	}
	j.state = state
}

func (s *site) job(id string) *siteJob {
	for _, j := range s.jobs {
		if j.id == id {
			return j
		}
	}
	return nil
}

// ServeHTTP is the part of the API that migrate uses.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	refuse := func(status int, text string) {
		w.WriteHeader(status)
		answer(map[string]any{"errors": []string{text}})
	}
	sent, _ := io.ReadAll(r.Body)
	var body map[string]any
	_ = json.Unmarshal(sent, &body)
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case r.URL.Path == "/overview":
		used := 0
		for _, j := range s.jobs {
			if j.state == "RUNNING" {
				used += 2
			}
		}
		answer(map[string]any{"slots-total": s.slots, "slots-available": s.slots - used})
	case r.URL.Path == "/jobs/overview":
		list := []map[string]any{}
		for _, j := range s.jobs {
			list = append(list, map[string]any{"jid": j.id, "name": j.name, "state": j.state, "tasks": map[string]int{"total": 2, "running": 2}})
		}
		answer(map[string]any{"jobs": list})
	case r.URL.Path == "/jars" && !s.session:
		answer(map[string]any{"files": []string{}})
	case r.URL.Path == "/jars":
		files := []map[string]any{}
		for _, p := range s.programs {
			files = append(files, map[string]any{"id": p, "name": p})
		}
		answer(map[string]any{"files": files})
	case strings.HasPrefix(parts[0], "savepoint-"):
		s.transfer(w, r, sent, answer, refuse)
	case parts[0] == "jars":
		s.start(w, body, answer, refuse, parts[1])
	case s.job(parts[1]) == nil:
		refuse(http.StatusNotFound, "Job could not be found.")
	default:
		s.order(r, parts, body, answer, refuse)
	}
}

// transfer is what carries files: each savepoint is one of ten bytes.
func (s *site) transfer(w http.ResponseWriter, r *http.Request, sent []byte, answer func(any), refuse func(int, string)) {
	const metadata = "0123456789"
	path := r.URL.Query().Get("path")
	switch {
	case strings.HasPrefix(r.URL.Path, "/savepoint-holds/"):
		answer(struct{}{})
	case r.URL.Path == "/savepoint-files/identity" && s.files == "none":
		refuse(http.StatusNotFound, "There is no snapshot.")
	case r.URL.Path == "/savepoint-files/identity":
		answer(map[string]any{"path": path, "identity": s.files})
	case r.URL.Path == "/savepoint-checks" && s.fault == "does not fit":
		answer(map[string]any{"ok": false, "text": "  kept     in\n  refused  operator out\n"})
	case r.URL.Path == "/savepoint-checks":
		answer(map[string]any{"ok": bytes.Contains(sent, []byte("\"MDEyMzQ1Njc4OQ==\"")), "text": "the metadata is not what was sent\n"})
	case r.URL.Path == "/savepoint-files":
		answer(map[string]any{"files": []map[string]any{{"name": "_metadata", "size": len(metadata)}}})
	case r.URL.Path == "/savepoint-files/content":
		w.Header().Set("Rivulet-Checksum", fmt.Sprintf("%08x", crc32.Checksum([]byte(metadata), crc32.MakeTable(crc32.Castagnoli))))
		fmt.Fprint(w, metadata)
	case r.Method == http.MethodPatch && s.fault == "forgets the upload":
		s.fault = ""
		refuse(http.StatusNotFound, "The upload could not be found.")
	case r.Method == http.MethodPatch && s.fault == "is full":
		refuse(http.StatusInternalServerError, "no space left on device")
	case r.Method == http.MethodPatch:
		s.upload = append(s.upload, sent...)
		answer(struct{}{})
	case r.Method == http.MethodDelete:
		fmt.Fprintf(s.log, "%s: give the upload up\n", s.name)
		s.upload = nil
		answer(struct{}{})
	case r.Method == http.MethodPost:
		fmt.Fprintf(s.log, "%s: taken in: %s\n", s.name, s.upload)
		answer(map[string]any{"path": s.at + "/upload-1"})
	default:
		answer(struct{}{})
	}
}

func (s *site) start(w http.ResponseWriter, body map[string]any, answer func(any), refuse func(int, string), program string) {
	fault := s.fault
	s.fault = ""
	if fault == "refuses" {
		refuse(http.StatusBadRequest, "The savepoint cannot be read.")
		return
	}
	j := &siteJob{id: fmt.Sprintf("%030x%02d", len(s.name), len(s.jobs)), name: body["flinkConfiguration"].(map[string]any)["pipeline.name"].(string), checkpoints: 1}
	fmt.Fprintf(s.log, "%s: start %s from %v, parallelism %v, arguments %v\n", s.name, program, body["savepointPath"], body["parallelism"], body["programArgsList"])
	s.jobs = append(s.jobs, j)
	s.begin(j)
	switch fault {
	case "fails":
		j.checkpoints, j.reason = 0, "no such topic"
		s.end(j, "FAILED")
	case "fails later":
		j.reason = "no such topic"
		s.end(j, "FAILED")
	case "hangs":
		j.checkpoints = 0
	case "loses the answer":
		panic(http.ErrAbortHandler)
	case "loses the order":
		s.jobs = s.jobs[:len(s.jobs)-1]
		s.running[j.name]--
		panic(http.ErrAbortHandler)
	}
	answer(map[string]any{"jobid": j.id})
}

func (s *site) order(r *http.Request, parts []string, body map[string]any, answer func(any), refuse func(int, string)) {
	j := s.job(parts[1])
	switch {
	case r.Method == http.MethodPatch:
		fmt.Fprintf(s.log, "%s: cancel %s\n", s.name, j.name)
		s.end(j, "CANCELED")
		answer(struct{}{})
	case len(parts) == 2:
		answer(map[string]any{"jid": j.id, "name": j.name, "state": j.state, "vertices": []map[string]any{{"parallelism": 2}}})
	case parts[2] == "stop":
		fmt.Fprintf(s.log, "%s: stop %s\n", s.name, j.name)
		if s.fault != "cannot stop" {
			j.savepoint = s.at + "/savepoint-1"
			s.end(j, "FINISHED")
		}
		answer(map[string]any{"request-id": body["triggerId"]})
	case parts[2] == "savepoints":
		operation := map[string]any{"location": j.savepoint}
		if s.fault == "cannot stop" {
			operation = map[string]any{"failure-cause": map[string]any{"stack-trace": "no space left on device"}}
		}
		answer(map[string]any{"status": map[string]any{"id": "COMPLETED"}, "operation": operation})
	case parts[2] == "checkpoints":
		latest := map[string]any{"completed": map[string]any{"external_path": "file:///c/chk-3"}}
		if j.savepoint != "" {
			latest["savepoint"] = map[string]any{"external_path": j.savepoint}
		}
		answer(map[string]any{"counts": map[string]any{"completed": j.checkpoints}, "latest": latest})
	case parts[2] == "status":
		answer(map[string]any{"status": j.state})
	case parts[2] == "exceptions":
		entries := []map[string]any{}
		if j.reason != "" {
			entries = append(entries, map[string]any{"stacktrace": j.reason})
		}
		answer(map[string]any{"exceptionHistory": map[string]any{"entries": entries}})
	default:
		refuse(http.StatusNotFound, "Not found.")
	}
}

// TestMigrate moves a job between two clusters, and has things go wrong at one of them.
//
//	site NAME [session] [programs=(A,B)] [slots=N] [running=(A,B)] [fault="..."]   makes a site; $NAME is its URL. Its fault is "cannot stop", or, of its next start:
//	                                                                               "refuses", "fails", "fails later" (after a checkpoint), "hangs", "loses the answer", "loses the order";
//	                                                                               or of what is carried to it: "forgets the upload", once, "is full"; "does not fit" is its program
//	     [files=WHOSE] [at=URI]                                                    whose files it sees ("none": it sees none), and where its savepoints are
//	down NAME                                                                      it is gone
//	migrate ARGS...                                                                runs the command; its exit code, output and the orders that sites took are written
func TestMigrate(t *testing.T) {
	log, copies := new(bytes.Buffer), map[string]int{}
	servers := map[string]*httptest.Server{}
	t.Cleanup(func() {
		for _, s := range servers {
			s.Close()
		}
	})
	id := regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	port := regexp.MustCompile(`127\.0\.0\.1:[0-9]+->127`)
	datadriven.RunTest(t, "testdata/migrate.txt", func(t *testing.T, d *datadriven.TestData) string {
		switch d.Cmd {
		case "site":
			name := d.CmdArgs[0].Key
			s := &site{name: name, log: log, running: copies, files: "shared", at: "file:///s"}
			if old := servers[name]; old != nil {
				old.Close()
			}
			for _, a := range d.CmdArgs[1:] {
				switch a.Key {
				case "session":
					s.session = true
				case "programs":
					s.programs = a.Vals
				case "files":
					s.files = a.Vals[0]
				case "at":
					s.at = a.Vals[0]
				case "slots":
					a.Scan(t, 0, &s.slots)
				case "fault":
					s.fault = strings.ReplaceAll(a.Vals[0], "-", " ")
				case "running":
					for i, n := range a.Vals {
						j := &siteJob{id: fmt.Sprintf("%031x%d", len(name), i), name: n, checkpoints: 3}
						s.jobs = append(s.jobs, j)
						copies[n] = 0
						s.begin(j)
					}
				default:
					t.Fatalf("%s: unknown argument %s", d.Pos, a.Key)
				}
			}
			servers[name] = httptest.NewServer(s)
			return ""
		case "down":
			servers[d.CmdArgs[0].Key].Close()
			return ""
		case "migrate":
			log.Reset()
			args := strings.Fields(strings.ReplaceAll(d.Input, "\n", " "))
			for i, a := range args {
				if name, ok := strings.CutPrefix(a, "$"); ok {
					args[i] = servers[name].URL
				}
			}
			var stdout, stderr bytes.Buffer
			code := Run(t.Context(), Program{Name: "count"}, append([]string{"migrate", "--timeout", "500ms"}, args...), &stdout, &stderr)
			text := fmt.Sprintf("%s%sexit %d\n%s", stdout.String(), stderr.String(), code, log.String())
			for name, s := range servers {
				text = strings.NewReplacer(s.URL, "$"+name, strings.TrimPrefix(s.URL, "http://"), "$"+name).Replace(text)
			}
			return port.ReplaceAllString(id.ReplaceAllString(text, "<id>"), "<port>->127")
		}
		t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
		return ""
	})
}
