//go:build unix

package e2e_test

import (
	"net"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/rivulet-io/rivulet/test/program"
)

// limitFiles bounds how many files this process may have open.
func limitFiles(n uint64) error {
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n})
}

var served = regexp.MustCompile(`address=http://(\S+)`)

// TestFilesExhausted takes all of a process's files with connections to its REST server: checkpoints fail, and are counted, but the job goes on; once the connections
// are gone, checkpoints are complete again.
func TestFilesExhausted(t *testing.T) {
	p := program.Start(t, t.TempDir(), "--rest-address", "127.0.0.1:0", "--files", "64", "--rate", "1000", "-D", "execution.checkpointing.interval=50ms")
	p.Await("a checkpoint", func(out string) bool { return strings.Contains(out, "checkpoint completed") })
	m := served.FindStringSubmatch(p.Output())
	if m == nil {
		t.Fatal("it does not say where REST is served")
	}
	var held []net.Conn
	for range 80 {
		c, err := net.Dial("tcp", m[1])
		if err != nil {
			break // its queue is full too
		}
		held = append(held, c)
	}
	p.Await("a checkpoint that fails for want of files", func(out string) bool { return strings.Contains(out, "too many open files") })
	before := strings.Count(p.Output(), "checkpoint completed")
	for _, c := range held {
		_ = c.Close()
	}
	p.Await("checkpoints again", func(out string) bool { return strings.Count(out, "checkpoint completed") > before+1 })
	if strings.Contains(p.Output(), "RESTARTING") || strings.Contains(p.Output(), "FAIL") {
		t.Error("the job did not go on")
	}
	if code := p.Terminate(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
