package grpcrpc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"
)

// TLS has both ends of a connection show a certificate that the CA signed; who has one belongs to the cluster, whatever the host. Its files are PEM and are read
// for each connection, so that new ones count without a restart.
type TLS struct {
	// Cert and Key are the files of the own certificate, which is shown in both roles; CA has those that must have signed the others'.
	Cert, Key, CA string
	// Logger is told of connections that were refused; nil discards.
	Logger *slog.Logger
}

// handshakeTimeout bounds how long a connection may take to say who it is.
const handshakeTimeout = 10 * time.Second

// Check reads the files and says what is wrong with them.
func (t *TLS) Check() error {
	_, err := t.config(x509.ExtKeyUsageServerAuth)
	return err
}

// config reads the files. usage is what the peer's certificate must be good for.
func (t *TLS) config(usage x509.ExtKeyUsage) (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("TLS: certificate %s with key %s: %w", t.Cert, t.Key, err)
	}
	if now := time.Now(); now.After(cert.Leaf.NotAfter) {
		return nil, fmt.Errorf("TLS: this process's own certificate %s (%s) expired on %s", t.Cert, cert.Leaf.Subject, cert.Leaf.NotAfter.Format(time.RFC3339))
	}
	pem, err := os.ReadFile(t.CA)
	if err != nil {
		return nil, fmt.Errorf("TLS: CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("TLS: CA %s: there is no certificate in PEM in it", t.CA)
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequireAnyClientCert,
		// Also when it is not of a CA that the other end knows: that says so then, and not that there is none.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil },
		// Each handshake is a new one: what was good an hour ago may have been revoked by another CA since.
		SessionTicketsDisabled: true,
		InsecureSkipVerify:     true, // VerifyConnection does it, without the host's name
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return errors.New("it shows no certificate")
			}
			o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{usage}}
			for _, c := range s.PeerCertificates[1:] {
				o.Intermediates.AddCert(c)
			}
			leaf := s.PeerCertificates[0]
			if _, err := leaf.Verify(o); err != nil {
				return &certificateError{leaf, err, t.CA}
			}
			return nil
		},
	}, nil
}

// certificateError says what is wrong with a peer's certificate.
type certificateError struct {
	cert *x509.Certificate
	err  error
	ca   string
}

func (e *certificateError) Unwrap() error { return e.err }
func (e *certificateError) Error() string {
	subject := e.cert.Subject.String()
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](e.err); unknown {
		return fmt.Sprintf("its certificate (%s) is not signed by the CA of %s", subject, e.ca)
	}
	now := time.Now()
	switch {
	case now.After(e.cert.NotAfter):
		return fmt.Sprintf("its certificate (%s) expired on %s", subject, e.cert.NotAfter.Format(time.RFC3339))
	case now.Before(e.cert.NotBefore):
		return fmt.Sprintf("its certificate (%s) is valid from %s only", subject, e.cert.NotBefore.Format(time.RFC3339))
	}
	return fmt.Sprintf("its certificate (%s): %v", subject, e.err)
}

// client does the handshake of who dials.
func (t *TLS) client(ctx context.Context, c net.Conn, address string) (net.Conn, error) {
	cfg, err := t.config(x509.ExtKeyUsageServerAuth)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	tc := tls.Client(c, cfg)
	if err := tc.HandshakeContext(ctx); err != nil {
		return nil, refused(address, err)
	}
	// What the server thinks of this process's certificate comes instead of its first byte. A server of HTTP/2 speaks at once.
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	first := make([]byte, 1)
	if _, err := io.ReadFull(tc, first); err != nil {
		return nil, refused(address, err)
	}
	if !stop() {
		return nil, refused(address, context.Cause(ctx))
	}
	return &clientConn{Conn: tc, first: first}, nil
}

// clientConn gives back the byte that was read first.
type clientConn struct {
	net.Conn
	first []byte
}

func (c *clientConn) Read(b []byte) (int, error) {
	if len(c.first) > 0 && len(b) > 0 {
		b[0], c.first = c.first[0], nil
		return 1, nil
	}
	return c.Conn.Read(b)
}

// server returns a connection that does the handshake of who was dialed when it is first read from, so that one peer does not hold up others.
func (t *TLS) server(c net.Conn) net.Conn {
	s := &serverConn{log: t.Logger}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.Conn = tls.Server(c, &tls.Config{
		MinVersion:         tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.config(x509.ExtKeyUsageClientAuth) },
	})
	return s
}

// serverConn does its handshake before anything else, and tells when that does not succeed.
type serverConn struct {
	*tls.Conn
	log  *slog.Logger
	once sync.Once
	err  error // of the handshake
}

func (c *serverConn) shake() error {
	c.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeTimeout)
		defer cancel()
		if err := c.HandshakeContext(ctx); err != nil {
			c.err = refused(c.RemoteAddr().String(), err)
			if !errors.Is(err, io.EOF) { // it only asked whether anybody listens
				c.log.Warn("connection refused", slog.Any("err", c.err))
			}
		}
	})
	return c.err
}

func (c *serverConn) Read(b []byte) (int, error) {
	if err := c.shake(); err != nil {
		return 0, err
	}
	return c.Conn.Read(b)
}

func (c *serverConn) Write(b []byte) (int, error) {
	if err := c.shake(); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

// refused says in our words why a handshake did not succeed, and with whom.
func refused(peer string, err error) error {
	var header tls.RecordHeaderError
	switch {
	case errors.As(err, &header), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("TLS with %s: it does not speak TLS: is security.ssl.internal.enabled set there too? (%w)", peer, err)
	case strings.Contains(err.Error(), "remote error: tls:"):
		_, alert, _ := strings.Cut(err.Error(), "remote error: tls: ")
		return fmt.Errorf("TLS with %s: it refuses this process's certificate: %s; its log says why", peer, alert)
	}
	return fmt.Errorf("TLS with %s: %w", peer, err)
}

// tlsListener takes connections in with TLS.
type tlsListener struct {
	net.Listener
	tls *TLS
}

func (l *tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.tls.server(c), nil
}
