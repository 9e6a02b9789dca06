package cluster

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/rivulet-io/rivulet/pkg/config"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc/grpcrpc"
)

// networkOf is how a process of a cluster reaches others, and where it listens if that is not where others find it. It reads no file.
func networkOf(c *config.Config, bindHost config.Key[string], bindPort config.Key[int], log *slog.Logger) (*grpcrpc.TCP, error) {
	n := &grpcrpc.TCP{}
	var err error
	if n.BindHost, err = config.Get(c, bindHost); err != nil {
		return nil, err
	}
	if n.BindPort, err = config.Get(c, bindPort); err != nil {
		return nil, err
	}
	on, err := config.Get(c, config.InternalTLS)
	if err != nil || !on {
		return n, err
	}
	n.TLS = &grpcrpc.TLS{Logger: log}
	for key, to := range map[*config.Key[string]]*string{&config.InternalCert: &n.TLS.Cert, &config.InternalKey: &n.TLS.Key, &config.InternalCA: &n.TLS.CA} {
		if *to, err = config.Get(c, *key); err != nil {
			return nil, err
		}
	}
	return n, n.TLS.Check()
}

// warnOpen says that anybody who reaches an address can have the process run code, when that may be others than this machine's users.
func warnOpen(log *slog.Logger, n *grpcrpc.TCP, address string) {
	host, _, err := net.SplitHostPort(address)
	if n.BindHost != "" {
		host = n.BindHost
	}
	if ip := net.ParseIP(host); err == nil && n.TLS == nil && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		log.Warn("other machines reach this process, and it asks nobody who they are: set security.ssl.internal.enabled, or see to it that only the cluster's own reach it",
			slog.String("address", address))
	}
}

// jobManagerAddress is where the settings say that the JobManager is found.
func jobManagerAddress(c *config.Config) (string, error) {
	host, err := config.Get(c, config.JobManagerAddress)
	if err != nil {
		return "", err
	}
	port, err := config.Get(c, config.JobManagerPort)
	return net.JoinHostPort(host, fmt.Sprint(port)), err
}
