package rest_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/rivulet-io/rivulet/pkg/internal/rest"
)

// TestCoverage compares the table of routes with the operations of Flink's published specification (testdata/spec.txt, of 2.4): each is there, in its order, with
// what serves it or with why nothing does; and each that is served has a golden body.
func TestCoverage(t *testing.T) {
	text, err := os.ReadFile("testdata/spec.txt")
	if err != nil {
		t.Fatal(err)
	}
	spec := strings.Fields(strings.ReplaceAll(string(text), " ", "_"))
	all, why := rest.Routes()
	var listed []string
	for _, r := range all {
		if strings.HasPrefix(why[r], "BUG") {
			t.Errorf("%s: %s", r, why[r])
		}
		if op := strings.ReplaceAll(r, " ", "_"); slices.Contains(spec, op) {
			listed = append(listed, op)
		}
	}
	if d := cmp.Diff(spec, listed); d != "" {
		t.Errorf("the routes of the specification (-spec +routes):\n%s", d)
	}

	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var golden []string
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?m)^request\n([A-Z]+ [^?\n]*)`).FindAllStringSubmatch(string(text), -1) {
			golden = append(golden, m[1])
		}
	}
	for _, r := range all {
		if why[r] != "" || r == "GET /jobmanager/thread-dump" || r == "GET /debug/goroutines" || r == "GET /taskmanagers/{taskmanagerid}/thread-dump" || r == "GET /jobmanager/environment" {
			continue // those that are served differ from machine to machine: TestDump
		}
		if strings.Contains(r, "/savepoint-files") || strings.Contains(r, "/savepoint-uploads") || strings.Contains(r, "/savepoint-holds") || strings.Contains(r, "/savepoint-checks") {
			continue // not Flink's, and half of it bytes: TestCarrySavepoint, TestTransferRefuses
		}
		pattern := regexp.MustCompile("^" + regexp.MustCompile(`\\\{[a-z]+\\\}`).ReplaceAllString(regexp.QuoteMeta(r), "[^/]+") + "$")
		if !slices.ContainsFunc(golden, pattern.MatchString) {
			t.Errorf("%s has no golden body in testdata", r)
		}
	}
}

// TestDump looks at what differs from machine to machine.
func TestDump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for path, want := range map[string]string{
			"/jobmanager/thread-dump":          `{"threadInfos":[{"threadName":"goroutine `,
			"/taskmanagers/mini-1/thread-dump": `"stringifiedThreadInfo":"goroutine `,
			"/debug/goroutines":                "rest.dump(",
			"/jobmanager/environment":          `{"jvm":{"version":"go`,
		} {
			if rec := w.do("GET", path, ""); rec.Code != 200 || !strings.Contains(rec.Body.String(), want) {
				t.Errorf("%s: %d %.200s", path, rec.Code, rec.Body)
			}
		}
	})
}

var update = flag.Bool("update", false, "write docs/rest.md anew")

// TestReference keeps docs/rest.md as the table says.
func TestReference(t *testing.T) {
	const file = "../../../docs/rest.md"
	var b strings.Builder
	b.WriteString(reference)
	all, why := rest.Routes()
	b.WriteString("\n| path | |\n|---|---|\n")
	for _, r := range all {
		what := "served"
		if w := why[r]; w != "" {
			what = "404: " + w
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", r, what)
	}
	if *update {
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(b.String(), string(got)); d != "" {
		t.Errorf("docs/rest.md is stale: go test ./pkg/internal/rest -run TestReference -update\n%s", d)
	}
}

const reference = `# REST

Every process with a JobManager serves Flink's REST API, under its paths (with and without ` + "`/v1`" + `), with its bodies. ` + "`--rest-address HOST:PORT`" + ` says where
(127.0.0.1:8081), ` + "`off`" + ` nowhere. This page is written by a test (pkg/internal/rest).

## Where it differs from Flink

* It listens on loopback alone unless it is told otherwise: nothing protects it but who can reach the address.
* No page of another origin may read answers or give orders: there is no ` + "`Access-Control-Allow-Origin`" + `, and orders that a browser sends for such a page are refused (403).
  Requests must name the server by an address, as localhost, or by the name in ` + "`-D rest.address=NAME`" + `; others are refused (403), so that no foreign name can be made to point here.
* Answers are as fresh as the JobManager's own knowledge; nothing is cached.
* Savepoints may be written to, and disposed of, below these directories only: the data directory, those of ` + "`execution.checkpointing.dir`" + ` and
  ` + "`execution.checkpointing.savepoint-dir`" + `, and, as long as the server listens on loopback, the user's working directory, home directory and temporary directory.
* A savepoint with ` + "`cancel-job`" + ` is a stop with a savepoint: the job ends FINISHED.
* ` + "`/taskmanagers/{id}`" + `, the JobManager's environment and metrics have the numbers of a Go process under the names of a JVM's.
* When the process ends with its job, what was ordered in the last 3 s can still be asked for, once.
* A request's body may have 10 MB, its headers 64 KB, and 5 s to arrive.
* ` + "`GET /health/live`, `GET /health/ready`, `GET /metrics`" + ` (for Prometheus) and ` + "`GET /debug/goroutines`" + ` (the stacks of all goroutines, as text) are ours.
* So is what carries a savepoint or retained checkpoint from one cluster to another, in pieces of at most 1 MB with their CRC-32C in the header ` + "`Rivulet-Checksum`" + `: ` + "`GET /savepoint-files?path=`" + ` lists
  its files, ` + "`GET /savepoint-files/content?path=&file=&offset=`" + ` answers a piece; ` + "`PUT /savepoint-uploads/ID`" + ` begins to take one in (ID: 32 hexadecimal digits of the client's choice), ` + "`PATCH …?file=&size=&offset=`" + ` takes a piece,
  ` + "`POST`" + ` verifies it all and answers the directory, ` + "`DELETE`" + ` gives it up.
  ` + "`GET /savepoint-files/identity?path=`" + ` tells whether two clusters have the same one at a path (the SHA-256 of its metadata; 404 where no job could start from it). ` + "`PUT /savepoint-holds/ID`" + `, repeated within
  15 s, keeps a process from ending with its job until ` + "`DELETE`" + `, so that its savepoint can be fetched; it does not keep it from being told to end.
  ` + "`POST /savepoint-checks`" + ` (program, programArgsList, flinkConfiguration, allowNonRestoredState, and metadata: the metadata file in base64) tells whether a program could start from the state of another cluster.
`
