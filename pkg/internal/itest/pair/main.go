// Command pair is two processes that exchange batches as TaskManagers do, without the tasks: test/bench runs and measures it.
package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rivulet-io/rivulet/pkg/codec"
	"github.com/rivulet-io/rivulet/pkg/event"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/exchange"
	"github.com/rivulet-io/rivulet/pkg/internal/operator"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

const (
	batchBytes = 32 << 10
	// parcelBytes is what a record has, encoded.
	parcelBytes = 200
	// channelLimit is the most a channel may hold: what a TaskManager gives one when it has few.
	channelLimit = 1 << 20
	// warmUp passes before the measurement: channels begin small, and look each second how much their consumer takes.
	warmUp = 2500 * time.Millisecond
)

// args say what the two processes do.
type args struct {
	raw, tls, blocked bool
	dir               string
	seconds           float64
	channels          int
}

// result is what a process measured itself.
type result struct {
	// Speed is in MB/s of encoded records, while it was measured.
	Speed float64
	// Bytes are those of the whole run.
	Bytes int64
	// Before and After are what was resident before and after the channels were opened, in bytes, when nothing is sent.
	Before, After int64
}

func main() {
	var a args
	flag.BoolVar(&a.raw, "raw", false, "send frames of bytes over a connection of their own instead: what there is to be reached")
	flag.BoolVar(&a.tls, "tls", false, "use the certificate of --dir, cert.pem and key.pem, at both ends")
	flag.StringVar(&a.dir, "dir", ".", "where the two processes meet: a file named address must not be there")
	flag.Float64Var(&a.seconds, "seconds", 0, "how long it is measured; 0 sends nothing, and looks at the memory")
	flag.IntVar(&a.channels, "channels", 0, "how many channels are open beside the measured one")
	flag.BoolVar(&a.blocked, "blocked", false, "their producers send, and nobody takes anything")
	flag.Parse()
	run := map[string]func(context.Context, args) (result, error){"producer": producer, "consumer": consumer}[flag.Arg(0)]
	if run == nil || flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "pair: want one argument, producer or consumer, behind the flags")
		os.Exit(2)
	}
	debug.SetGCPercent(400) // as a TaskManager does
	r, err := run(context.Background(), a)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(r)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "pair: %s: %v\n", flag.Arg(0), err)
		os.Exit(1)
	}
}

// secured is TCP, with mutual TLS above it if there are certificates.
type secured struct {
	grpcrpc.TCP
	config *tls.Config
}

func networkFor(a args) (*secured, error) {
	if !a.tls {
		return &secured{}, nil
	}
	cert, err := tls.LoadX509KeyPair(filepath.Join(a.dir, "cert.pem"), filepath.Join(a.dir, "key.pem"))
	if err != nil {
		return nil, err
	}
	authority, err := x509.ParseCertificate(cert.Certificate[0])
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(authority)
	return &secured{config: &tls.Config{
		Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, ServerName: "bench", MinVersion: tls.VersionTLS13,
	}}, nil
}

func (s *secured) Listen(address string) (net.Listener, error) {
	l, err := s.TCP.Listen(address)
	if err != nil || s.config == nil {
		return l, err
	}
	return tls.NewListener(l, s.config), nil
}

func (s *secured) Dial(ctx context.Context, address string) (net.Conn, error) {
	if s.config == nil {
		return s.TCP.Dial(ctx, address)
	}
	return (&tls.Dialer{Config: s.config}).DialContext(ctx, "tcp", address)
}

// meeting is the file in which the consumer says where it listens.
func (a args) meeting() string { return filepath.Join(a.dir, "address") }

func (a args) await(ctx context.Context) (string, error) {
	for ctx.Err() == nil {
		b, err := os.ReadFile(a.meeting())
		if err == nil {
			return string(b), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		pause(ctx, 5*time.Millisecond)
	}
	return "", ctx.Err()
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func (a args) announce(address string) error {
	if err := os.WriteFile(a.meeting()+".new", []byte(address), 0o600); err != nil {
		return err
	}
	return os.Rename(a.meeting()+".new", a.meeting())
}

// parcel is a record of 200 bytes.
type parcel struct {
	ID   uint64
	Body string
}

func parcels() (*operator.Type[parcel], parcel, error) {
	c, err := codec.For[parcel]()
	if err != nil {
		return nil, parcel{}, err
	}
	p := parcel{ID: 1 << 40}
	b, err := c.Append(nil, p)
	if err != nil {
		return nil, p, err
	}
	p.Body = strings.Repeat("x", parcelBytes-len(b)-1) // its length takes a byte more
	if b, err = c.Append(nil, p); err == nil && len(b) != parcelBytes {
		err = fmt.Errorf("a record has %d bytes, want %d", len(b), parcelBytes)
	}
	return operator.NewType(c, false), p, err
}

// party is a task, as far as an exchange knows.
type party struct {
	wake chan struct{}
	ctx  context.Context
	fail context.CancelCauseFunc
}

func newParty(ctx context.Context) *party {
	p := &party{wake: make(chan struct{}, 1)}
	p.ctx, p.fail = context.WithCancelCause(ctx)
	return p
}

func (p *party) Wake() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *party) AwaitSpace() bool {
	select {
	case <-p.wake:
	case <-p.ctx.Done():
	}
	return p.ctx.Err() == nil
}

func (p *party) Fail(err error) { p.fail(err) }

func (p *party) Ends(id exchange.ChannelID) (from, to string) {
	return fmt.Sprint("producer ", id.Source), fmt.Sprint("consumer ", id.Target)
}

func channelID(n int) exchange.ChannelID {
	return exchange.ChannelID{Job: base.JobID{1}, Source: n, Target: n}
}

// rss gives back what it can and returns what is left.
func rss() (int64, error) {
	debug.FreeOSMemory()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("/proc/self/status has no VmRSS")
}

func producer(ctx context.Context, a args) (result, error) {
	address, err := a.await(ctx)
	if err != nil {
		return result{}, err
	}
	network, err := networkFor(a)
	if err != nil {
		return result{}, err
	}
	if a.raw {
		return result{}, rawProducer(ctx, network, address)
	}
	typ, record, err := parcels()
	if err != nil {
		return result{}, err
	}
	n := exchange.NewNetwork(exchange.Direct)
	n.Join("a", "nowhere", network) // it dials: nobody asks where it is
	defer n.Leave("a")
	place := exchange.Place{Here: "a", There: "b", Address: address}
	var r result
	if r.Before, err = rss(); err != nil {
		return r, err
	}
	var all sync.WaitGroup
	defer all.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for i := range a.channels {
		e := newParty(ctx)
		w, err := n.OpenWriter([]exchange.WriterChannel{{ID: channelID(1 + i), Place: place}}, typ, channelLimit, e)
		if err != nil {
			return r, err
		}
		defer w.Close()
		if a.blocked {
			all.Go(func() {
				for e.ctx.Err() == nil {
					w.Send(0, fill(typ, record))
				}
			})
		}
	}
	e := newParty(ctx)
	w, err := n.OpenWriter([]exchange.WriterChannel{{ID: channelID(0), Place: place}}, typ, channelLimit, e)
	if err != nil {
		return r, err
	}
	defer w.Close()
	if a.seconds == 0 {
		pause(ctx, time.Second)
		r.After, err = rss()
	}
	for began := time.Now(); err == nil && time.Since(began).Seconds() < a.seconds+warmUp.Seconds()+0.2; {
		w.Send(0, fill(typ, record))
		err = context.Cause(e.ctx)
	}
	w.Broadcast(exchange.Element{Kind: exchange.KindEnd})
	for err == nil && w.Load().Elements > 0 {
		pause(ctx, time.Millisecond)
	}
	pause(ctx, 100*time.Millisecond) // the end is written
	return r, err
}

func fill(typ *operator.Type[parcel], record parcel) exchange.Batch {
	b := typ.New()
	for range batchBytes / parcelBytes {
		record.ID++
		b.Values, b.Times = append(b.Values, record), append(b.Times, event.None)
	}
	return b
}

func consumer(ctx context.Context, a args) (result, error) {
	network, err := networkFor(a)
	if err != nil {
		return result{}, err
	}
	l, err := network.Listen("127.0.0.1:0")
	if err != nil {
		return result{}, err
	}
	if a.raw {
		defer l.Close()
		if err := a.announce(l.Addr().String()); err != nil {
			return result{}, err
		}
		return rawConsumer(l, a)
	}
	typ, _, err := parcels()
	if err != nil {
		return result{}, err
	}
	n, s := exchange.NewNetwork(exchange.Direct), grpcrpc.NewServer(nil, nil)
	s.Exchange(n.Accept)
	n.Join("b", l.Addr().String(), network)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }() // ended below
	defer func() { s.Close(); <-served; n.Leave("b") }()
	var r result
	if r.Before, err = rss(); err != nil {
		return r, err
	}
	// The producer's address is not needed: it dials.
	place := exchange.Place{Here: "b", There: "a", Address: "nowhere"}
	for i := range a.channels {
		g, err := n.OpenGate([]exchange.GateChannel{{ID: channelID(1 + i), Place: place, Type: typ}}, channelLimit, newParty(ctx))
		if err != nil {
			return r, err
		}
		defer g.Close(func(int, exchange.Batch) {})
	}
	e := newParty(ctx)
	g, err := n.OpenGate([]exchange.GateChannel{{ID: channelID(0), Place: place, Type: typ}}, channelLimit, e)
	if err != nil {
		return r, err
	}
	defer g.Close(func(int, exchange.Batch) {})
	if err := a.announce(l.Addr().String()); err != nil {
		return r, err
	}
	if a.seconds == 0 {
		pause(ctx, 500*time.Millisecond)
		if r.After, err = rss(); err != nil {
			return r, err
		}
	}
	m := meter{seconds: a.seconds}
	looked := time.Now()
	for {
		x, _, ok := g.Next()
		switch {
		case !ok:
			if !e.AwaitSpace() {
				return r, context.Cause(e.ctx)
			}
		case x.Kind == exchange.KindEnd:
			r.Speed, r.Bytes = m.speed(), m.all
			return r, nil
		default:
			m.count(x.Size)
			typ.Release(x.Batch)
			if now := time.Now(); now.Sub(looked) >= time.Second {
				g.Debloat(now.Sub(looked))
				looked = now
			}
		}
	}
}

// meter measures bytes from the end of the warming up for some seconds.
type meter struct {
	seconds           float64
	all, from, until  int64
	first, began, end time.Time
}

func (m *meter) count(n int) {
	now := time.Now()
	if m.first.IsZero() {
		m.first = now
	}
	m.all += int64(n)
	switch {
	case now.Sub(m.first) < warmUp:
		m.began, m.from = now, m.all
	case now.Sub(m.began).Seconds() < m.seconds:
		m.end, m.until = now, m.all
	}
}

// speed is in MB/s.
func (m *meter) speed() float64 {
	if !m.end.After(m.began) {
		return 0
	}
	return float64(m.until-m.from) / 1e6 / m.end.Sub(m.began).Seconds()
}

// rawProducer sends frames of a length and that many bytes until the other end hangs up, at most sixteen more than were acknowledged by sixteens.
func rawProducer(ctx context.Context, network grpcrpc.Network, address string) error {
	c, err := network.Dial(ctx, address)
	if err != nil {
		return err
	}
	defer c.Close()
	acks := make(chan struct{}, 1<<20)
	go func() { // ends with the connection
		defer close(acks)
		for b := make([]byte, 8); ; acks <- struct{}{} {
			if _, err := io.ReadFull(c, b); err != nil {
				return
			}
		}
	}()
	frame := make([]byte, 4+batchBytes)
	binary.LittleEndian.PutUint32(frame, batchBytes)
	for n := 1; ; n++ {
		if _, err := c.Write(frame); err != nil {
			break
		}
		if n > 32 && n%16 == 0 { // 1 MB may be under way, as with an exchange
			if _, ok := <-acks; !ok {
				break
			}
		}
	}
	return nil // the consumer says whether it was served
}

func rawConsumer(l net.Listener, a args) (result, error) {
	c, err := l.Accept()
	if err != nil {
		return result{}, err
	}
	defer c.Close()
	m := meter{seconds: a.seconds}
	in, frame, header, ack := bufio.NewReaderSize(c, 4096), make([]byte, batchBytes), make([]byte, 4), make([]byte, 8)
	for n := 1; m.first.IsZero() || time.Since(m.first).Seconds() < a.seconds+warmUp.Seconds()+0.2; n++ {
		if _, err := io.ReadFull(in, header); err != nil {
			return result{}, err
		}
		if _, err := io.ReadFull(in, frame[:binary.LittleEndian.Uint32(header)]); err != nil {
			return result{}, err
		}
		m.count(batchBytes)
		if n%16 == 0 {
			if _, err := c.Write(ack); err != nil {
				return result{}, err
			}
		}
	}
	return result{Speed: m.speed(), Bytes: m.all}, nil
}
