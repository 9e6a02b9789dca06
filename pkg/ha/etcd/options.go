package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
)

// options are those of high-availability.*, checked.
type options struct {
	ha.Settings
	cluster        string
	endpoints      []string
	lease          time.Duration // whole seconds
	suspended      time.Duration
	user, password string
	// credentials are nil without encryption.
	credentials credentials.TransportCredentials
}

// read reads an option into a variable, and keeps the error.
func read[T any](errs *[]error, c *config.Config, k config.Key[T]) T {
	v, err := config.Get(c, k)
	if err != nil {
		*errs = append(*errs, err)
	}
	return v
}

func optionsOf(s ha.Settings) (*options, error) {
	var errs []error
	o := &options{
		Settings: s, cluster: read(&errs, s.Config, config.HAClusterID), lease: read(&errs, s.Config, config.EtcdLease).Round(time.Second),
		suspended: read(&errs, s.Config, config.HASuspendedTimeout), user: read(&errs, s.Config, config.EtcdUser), password: read(&errs, s.Config, config.EtcdPassword),
	}
	if read(&errs, s.Config, config.HAStorageDir) == "" || s.FS == nil {
		errs = append(errs, errors.New("high-availability.storageDir is not set: it is where JobManagers keep what they share"))
	}
	if (o.user == "") != (o.password == "") {
		errs = append(errs, errors.New("high-availability.etcd.username and .password: one is set without the other"))
	}
	secure := 0
	for e := range strings.SplitSeq(read(&errs, s.Config, config.EtcdEndpoints), ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		if !strings.Contains(e, "://") {
			e = "http://" + e
		}
		u, err := url.Parse(e)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || u.User != nil {
			errs = append(errs, fmt.Errorf("high-availability.etcd.endpoints: %q: want http://HOST:PORT or https://HOST:PORT", config.Redact(e)))
			continue
		}
		if u.Scheme == "https" {
			secure++
		}
		o.endpoints = append(o.endpoints, u.Scheme+"://"+u.Host)
	}
	ca, cert, key := read(&errs, s.Config, config.EtcdCA), read(&errs, s.Config, config.EtcdCert), read(&errs, s.Config, config.EtcdKey)
	switch {
	case len(o.endpoints) == 0:
		errs = append(errs, errors.New("high-availability.etcd.endpoints is not set"))
	case secure != 0 && secure != len(o.endpoints):
		errs = append(errs, errors.New("high-availability.etcd.endpoints: some are https and some http"))
	case secure == 0 && (ca != "" || cert != "" || key != ""):
		errs = append(errs, errors.New("high-availability.etcd.ssl.*: the endpoints are http, so nothing would be encrypted: write them as https://HOST:PORT"))
	case (cert == "") != (key == ""):
		errs = append(errs, errors.New("high-availability.etcd.ssl.cert and .key: one is set without the other"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if secure > 0 {
		var err error
		f := &files{ca: ca, cert: cert, key: key}
		if _, err = f.config(); err != nil {
			return nil, err
		}
		o.credentials = f
	}
	return o, nil
}

// files are credentials that read certificates anew for each connection, so that they can be replaced while the process runs.
type files struct{ ca, cert, key string }

func (f *files) config() (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.cert != "" {
		pair, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("high-availability.etcd.ssl.cert %s and .key %s: %w", f.cert, f.key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	if f.ca != "" {
		b, err := os.ReadFile(f.ca)
		if err != nil {
			return nil, fmt.Errorf("high-availability.etcd.ssl.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(b) {
			return nil, fmt.Errorf("high-availability.etcd.ssl.ca %s: no certificate in it", f.ca)
		}
	}
	return c, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (f *files) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, err := f.config()
	if err != nil {
		return nil, nil, err
	}
	return credentials.NewTLS(c).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake is never called.
func (f *files) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("etcd: these are a client's credentials")
}

// Info implements credentials.TransportCredentials.
func (f *files) Info() credentials.ProtocolInfo { return credentials.NewTLS(nil).Info() }

// Clone implements credentials.TransportCredentials.
func (f *files) Clone() credentials.TransportCredentials { return f }

// OverrideServerName implements credentials.TransportCredentials; the name is always that of the endpoint.
func (f *files) OverrideServerName(string) error { return nil }
