package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// network gives each process a network namespace of its own, all on one bridge, so that links can be cut. Without root there is none: all are on loopback.
type network struct {
	name   string // of the bridge; what the names of all else begin with
	subnet string // "10.x.y"
	next   int
	spaces map[string]place
}

var errNoRoot = errors.New("network namespaces need root and the command ip")

// newNetwork makes the bridge.
func newNetwork(ctx context.Context) (*network, error) {
	if os.Geteuid() != 0 {
		return nil, errNoRoot
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return nil, errNoRoot
	}
	pid := os.Getpid()
	n := &network{name: "eos" + strconv.Itoa(pid), subnet: fmt.Sprintf("10.%d.%d", 100+pid/250%100, pid%250), next: 2, spaces: map[string]place{}}
	n.sweep(ctx)
	for _, c := range []string{"link add %s type bridge", "addr add " + n.subnet + ".1/24 dev %s", "link set %s up"} {
		if err := ip(ctx, fmt.Sprintf(c, n.name)); err != nil {
			n.close()
			return nil, fmt.Errorf("%w: %w", errNoRoot, err)
		}
	}
	if _, err := n.space(ctx, "probe"); err != nil {
		n.close()
		return nil, fmt.Errorf("%w: %w", errNoRoot, err)
	}
	return n, nil
}

// sweep removes what drivers left that were killed.
func (n *network) sweep(ctx context.Context) {
	dead := func(name string) bool {
		rest, ok := strings.CutPrefix(name, "eos")
		digits, _, _ := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(digits)
		return ok && err == nil && syscall.Kill(pid, 0) == syscall.ESRCH
	}
	spaces, _ := os.ReadDir("/run/netns")
	for _, s := range spaces {
		if dead(s.Name()) {
			_ = ip(ctx, "netns del "+s.Name())
		}
	}
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); len(f) > 1 && dead(f[0]) {
			_ = unmount(f[1])
		}
	}
	links, _ := os.ReadDir("/sys/class/net")
	for _, l := range links {
		if dead(l.Name()) {
			_ = ip(ctx, "link del "+l.Name())
		}
	}
}

func ip(ctx context.Context, line string) error {
	out, err := exec.CommandContext(ctx, "ip", strings.Fields(line)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", line, err, strings.TrimSpace(string(out)))
	}
	return nil
}

// place is a namespace: its name, its address, and the bridge's end of its cable.
type place struct{ ns, host, link string }

// space makes a namespace, or returns the one of that name; on loopback when there is no network.
func (n *network) space(ctx context.Context, name string) (place, error) {
	if n == nil {
		return place{host: "127.0.0.1"}, nil
	}
	if p, ok := n.spaces[name]; ok {
		return p, nil
	}
	p := place{ns: n.name + "-" + name, host: fmt.Sprintf("%s.%d", n.subnet, n.next), link: fmt.Sprintf("%s-%d", n.name, n.next)}
	n.next++
	if err := ip(ctx, "netns add "+p.ns); err != nil {
		return p, err
	}
	n.spaces[name] = p
	for _, c := range []string{
		"link add " + p.link + " type veth peer name eth0 netns " + p.ns, "link set " + p.link + " master " + n.name, "link set " + p.link + " up",
		"-n " + p.ns + " addr add " + p.host + "/24 dev eth0", "-n " + p.ns + " link set eth0 up", "-n " + p.ns + " link set lo up",
	} {
		if err := ip(ctx, c); err != nil {
			return p, err
		}
	}
	return p, nil
}

// address is the driver's own on the bridge.
func (n *network) address() string {
	if n == nil {
		return "127.0.0.1"
	}
	return n.subnet + ".1"
}

func (n *network) close() {
	if n == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, s := range n.spaces {
		_ = ip(ctx, "netns del "+s.ns) // what is left is swept by the next run
	}
	_ = ip(ctx, "link del "+n.name)
}

// packets is how many a link has brought from its process.
func packets(link string) (int64, error) {
	b, err := os.ReadFile("/sys/class/net/" + link + "/statistics/rx_packets")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// freePort returns a port that is free now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
