package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// process is one of the system under test. Its methods are used by one goroutine.
type process struct {
	name, dir string
	// ns is its network namespace, "" for that of the driver; host its address there.
	ns, host string
	at       []string // its addresses, HOST:PORT
	path     string
	args     func() []string
	env      []string

	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	// starts counts them.
	starts int
}

// log is the file that has all it said, over all its lives.
func (p *process) log() string { return filepath.Join(p.dir, p.name+".log") }

// start starts it, unless it runs.
func (p *process) start() error {
	if p.running() {
		return nil
	}
	out, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }() // the process has its own
	line := append([]string{p.path}, p.args()...)
	if p.ns != "" {
		line = append([]string{"ip", "netns", "exec", p.ns}, line...)
	}
	p.starts++
	fmt.Fprintf(out, "--- start %d at %s: %s\n", p.starts, time.Now().Format(time.StampMilli), strings.Join(line, " "))
	p.cmd = exec.Command(line[0], line[1:]...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = p.dir, out, out
	p.cmd.Env = append(os.Environ(), p.env...)
	p.cmd.SysProcAttr = endWithParent()
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("%s: %w", p.name, err)
	}
	cmd, done := p.cmd, make(chan struct{})
	p.done = done
	go func() { // it ends with the process
		defer close(done)
		_ = cmd.Wait() // the state tells
	}()
	return nil
}

func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// signal sends a signal to it.
func (p *process) signal(sig syscall.Signal) error {
	if !p.running() {
		return fmt.Errorf("%s: %w", p.name, errEnded)
	}
	return p.cmd.Process.Signal(sig)
}

var errEnded = errors.New("has ended by itself")

// wait waits for its end.
func (p *process) wait(d time.Duration) error {
	select {
	case <-p.done:
		return nil
	case <-time.After(d):
		return fmt.Errorf("%s did not end within %v", p.name, d)
	}
}

// kill kills it with SIGKILL, and says what shows that this is what ended it.
func (p *process) kill() (string, error) {
	pid := p.pid()
	if err := p.signal(syscall.SIGKILL); err != nil {
		return "", err
	}
	if err := p.wait(10 * time.Second); err != nil {
		return "", err
	}
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		return "", fmt.Errorf("%s: ended with %v before it was killed", p.name, p.cmd.ProcessState)
	}
	return fmt.Sprintf("pid %d of %s ended by SIGKILL", pid, p.name), nil
}

// terminate sends SIGTERM; it should end with 0.
func (p *process) terminate(limit time.Duration) (string, error) {
	pid := p.pid()
	if err := p.signal(syscall.SIGTERM); err != nil {
		return "", err
	}
	if err := p.wait(limit); err != nil {
		return "", err
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		return "", fmt.Errorf("%s: ended by SIGTERM with %d, want 0", p.name, code)
	}
	return fmt.Sprintf("pid %d of %s ended by SIGTERM with 0", pid, p.name), nil
}

// stopped is the state, and what shows it, of a process after SIGSTOP.
func stopped(pid int) (string, bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return err.Error(), false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return fmt.Sprintf("pid %d is in state %.1s", pid, rest), strings.HasPrefix(rest, "T")
}

// paused reports when every thread has stopped.
func paused(pid int, limit time.Duration) (string, error) {
	deadline := time.Now().Add(limit)
	for {
		what, ok := stopped(pid)
		if ok {
			return what, nil
		}
		if time.Now().After(deadline) {
			return "", fmt.Errorf("%s, want T", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}
