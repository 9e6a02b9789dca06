package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/twmb/franz-go/pkg/kfake"

	"github.com/rivulet-io/rivulet/pkg/fs"
)

// embedded is a Kafka in this process, on a network in memory: franz-go's fake, which is made for tests. It starts when it is first needed, and keeps its data in a directory.
type embedded struct {
	dir    string
	topics []string

	once    sync.Once
	err     error
	lock    io.Closer // is never closed: it ends with the process
	network kfake.VirtualNetwork
}

const port = 9092

func (b *embedded) address() string { return fmt.Sprintf("localhost:%d", port) }

// dial connects to the broker.
func (b *embedded) dial(ctx context.Context, network, host string) (net.Conn, error) {
	b.once.Do(func() { b.err = b.start() })
	if b.err != nil {
		return nil, fmt.Errorf("the Kafka in this program: %w", b.err)
	}
	return b.network.DialContext(ctx, network, host)
}

// start starts the broker. It runs as long as the process, and may end with it at any moment.
func (b *embedded) start() error {
	dir, err := filepath.Abs(b.dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if b.lock, err = (fs.Local{}).Lock(filepath.ToSlash(filepath.Join(dir, "lock"))); err != nil {
		return fmt.Errorf("%s: %w", dir, err)
	}
	keep := fmt.Sprint(16 << 20) // bytes per partition
	_, err = kfake.NewCluster(kfake.NumBrokers(1), kfake.Ports(port), kfake.ListenFn(b.network.Listen), kfake.DataDir(filepath.Join(dir, "data")),
		kfake.SeedTopics(2, b.topics...), kfake.BrokerConfigs(map[string]string{"log.retention.bytes": keep, "log.segment.bytes": keep}))
	return err
}
