package grpcrpc

import (
	"context"
	"fmt"
	"net"
	"strconv"
)

// TCP is the network between processes. Its addresses are HOST:PORT; port 0 takes a free one. The zero value is ready to use.
type TCP struct {
	// BindHost is the address of this machine to listen at (such as 0.0.0.0), where that is not the host by which others dial.
	BindHost string
}

// Listen opens the port of an address; others dial the address, with the port that was taken.
func (t *TCP) Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen at %q: want HOST:PORT, such as 127.0.0.1:6123", address)
	}
	bind := host
	if t.BindHost != "" {
		bind = t.BindHost
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(bind, port))
	if err != nil {
		return nil, err // it names the address
	}
	if a, ok := l.Addr().(*net.TCPAddr); ok {
		port = strconv.Itoa(a.Port)
	}
	return &tcpListener{l, tcpAddr(net.JoinHostPort(host, port))}, nil
}

// Dial connects to an address.
func (t *TCP) Dial(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}

// tcpListener tells others by which name to dial it.
type tcpListener struct {
	net.Listener
	address tcpAddr
}

func (l *tcpListener) Addr() net.Addr { return l.address }

type tcpAddr string

func (tcpAddr) Network() string  { return "tcp" }
func (a tcpAddr) String() string { return string(a) }
