// Package etcd lets JobManagers elect their leader in etcd, and keep there what must outlive it. A main that wants high-availability.type etcd imports it for that effect:
//
//	import _ "github.com/rivulet-io/rivulet/pkg/ha/etcd"
//
// Its law: every write is a transaction that the store refuses unless the leader's key is the one that this process created, and the record is as it was last read or
// written here; so neither a leader that was replaced nor a request that was on its way for too long changes anything.
package etcd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	iofs "io/fs"
	"log/slog"
	"net/url"
	"path"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/rivulet-io/rivulet/pkg/fs"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
	"github.com/rivulet-io/rivulet/pkg/internal/ha"
	"github.com/rivulet-io/rivulet/pkg/internal/ha/reign"
)

// The keys, below /rivulet/CLUSTER-ID/:
//
//	format            {"version":1,"instance":"..."}: what wrote it, and by which its data is known again
//	election/leader   the leader's Member; it goes with the leader's lease, and its create revision guards all writes
//	election/crown    the same of the last leader; it stays
//	jobs/NAME         the record of the job whose path-escaped name is NAME
//
// Beside them, in high-availability.storageDir:
//
//	ha/CLUSTER-ID/ETCD   {"version":1,"instance":"..."}: the data that belongs to this cluster. An etcd without it, or with another instance, is not this cluster's.
const (
	keyRoot  = "/rivulet/"
	markFile = "ETCD"
	// maxRecord is how many bytes a record may have: etcd takes requests of 1.5 MB.
	maxRecord = 1 << 20
	// maxMark bounds what is read of the mark, in bytes.
	maxMark = 4 << 10
	// retryInterval is the pause before something is asked again.
	retryInterval = 200 * time.Millisecond
	// writeTimeout is how long one attempt of a read or write of records may take.
	writeTimeout = 2 * time.Second
)

func init() { ha.Register("etcd", open) }

func open(s ha.Settings) (ha.Election, error) {
	o, err := optionsOf(s)
	if err != nil {
		return nil, err
	}
	return &store{o: o, log: o.Logger, root: keyRoot + o.cluster + "/"}, nil
}

// store is one cluster's part of an etcd.
type store struct {
	o    *options
	log  *slog.Logger
	root string
}

// conn is a connection to it, whose data was found to be this cluster's.
type conn struct {
	*store
	client *clientv3.Client
	etcd   uint64 // the id of the etcd cluster that answers
}

// format is what the format key and the mark hold.
type format struct {
	Version  int    `json:"version"`
	Instance string `json:"instance"`
}

func (s *store) String() string { return "etcd " + strings.Join(s.o.endpoints, ",") }

// connect connects and checks whose data it is; while nobody answers it tries on. create says that a cluster may be begun.
func (s *store) connect(ctx context.Context, create bool) (*conn, error) {
	for said := ""; ; {
		c, err := s.dial(ctx)
		if err == nil {
			call, cancel := context.WithTimeout(ctx, writeTimeout)
			err = c.check(call, create)
			cancel()
			if err == nil {
				return c, nil
			}
			c.close()
		}
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !unclear(err):
			return nil, fmt.Errorf("%s: %w", s, err)
		case err.Error() != said:
			said = err.Error()
			s.log.Warn("etcd is out of reach, trying on", slog.String("peer", strings.Join(s.o.endpoints, ",")), slog.Any("err", err))
		}
		if wait(ctx, retryInterval) != nil {
			return nil, context.Cause(ctx)
		}
	}
}

func (s *store) dial(ctx context.Context) (*conn, error) {
	cfg := clientv3.Config{
		Endpoints: s.o.endpoints, Username: s.o.user, Password: s.o.password, DialTimeout: writeTimeout, Logger: zap.NewNop(),
		MaxUnaryRetries: 3, // who calls tries again, and wants to know why
		// A member that has gone without a word is found out; in the meantime calls go to the others in turn.
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second, PermitWithoutStream: true,
		Context: context.WithoutCancel(ctx),
	}
	if s.o.credentials != nil {
		cfg.DialOptions = append(cfg.DialOptions, grpc.WithTransportCredentials(s.o.credentials))
	}
	client, err := clientv3.New(cfg)
	if err != nil {
		return nil, err
	}
	return &conn{store: s, client: client}, nil
}

// close ends the connection. What was under way fails by that.
func (c *conn) close() {
	if err := c.client.Close(); err != nil {
		c.log.Debug("etcd", slog.String("call", "close"), slog.Any("err", err))
	}
}

// unclear says of a request's error that nobody knows whether it was carried out, or that it was not and may be made again: no answer came. Any other is a refusal.
func unclear(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return true
	}
	var code codes.Code
	if e, ok := errors.AsType[rpctypes.EtcdError](err); ok {
		code = e.Code()
	} else if st, ok := status.FromError(err); ok {
		code = st.Code()
	} else {
		return false // not etcd's
	}
	switch code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.Internal, codes.Unknown, codes.Unauthenticated:
		return true // the last: a token that has aged; the client logs in anew
	default:
		return false
	}
}

// wait returns after d, or with ctx's error when that ends before.
func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *store) markPath() string { return path.Join(s.o.Dir, "ha", s.o.cluster, markFile) }

// check finds out whether the data is this cluster's, and begins a new cluster where there is none.
func (c *conn) check(ctx context.Context, create bool) error {
	key := c.root + "format"
	resp, err := c.client.Get(ctx, key)
	if err != nil {
		return err
	}
	c.etcd = resp.Header.GetClusterId()
	mark, err := readFormat(fs.ReadFile(c.o.FS, c.markPath(), maxMark))
	if err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return fmt.Errorf("%s: %w", c.markPath(), err)
	}
	if len(resp.Kvs) == 0 {
		switch {
		case mark.Instance != "":
			return fmt.Errorf("%w: it holds nothing of cluster %q, and %s says that it did: its data was wiped, or it is another etcd. Bring the right one back; or delete that file to begin anew without the cluster's jobs",
				ha.ErrOtherCluster, c.o.cluster, c.markPath())
		case !create:
			return nil
		}
		b := make([]byte, 16)
		_, _ = rand.Read(b) // crypto/rand.Read never fails
		text, err := json.Marshal(format{Version: ha.FormatVersion, Instance: hex.EncodeToString(b)})
		if err != nil {
			return err
		}
		_, err = c.client.Txn(ctx).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).Then(clientv3.OpPut(key, string(text))).Commit()
		if err != nil {
			return err
		}
		if resp, err = c.client.Get(ctx, key); err != nil { // perhaps another one's
			return err
		}
		if len(resp.Kvs) == 0 {
			return fmt.Errorf("%s: %w", key, base.ErrCorrupt)
		}
	}
	kept, err := readFormat(resp.Kvs[0].Value, nil)
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", key, err)
	case mark.Instance != "" && mark.Instance != kept.Instance:
		return fmt.Errorf("%w: the data of cluster %q there is instance %s, and %s names %s: another cluster has the same high-availability.cluster-id, or the same high-availability.storageDir",
			ha.ErrOtherCluster, c.o.cluster, kept.Instance, c.markPath(), mark.Instance)
	case mark.Instance == "" && create:
		if err := c.o.FS.MkdirAll(path.Dir(c.markPath())); err != nil {
			return fmt.Errorf("high-availability.storageDir: %w", err)
		}
		if err := fs.WriteFile(c.o.FS, c.markPath(), resp.Kvs[0].Value); err != nil {
			return fmt.Errorf("high-availability.storageDir: %w", err)
		}
	}
	return nil
}

// readFormat reads what the format key and the mark hold; it takes the results of reading them.
func readFormat(b []byte, err error) (format, error) {
	var f format
	if err != nil {
		return f, err
	}
	if err := json.Unmarshal(b, &f); err != nil || f.Version < 1 || f.Instance == "" {
		return format{}, base.ErrCorrupt
	}
	if f.Version > ha.FormatVersion {
		return format{}, fmt.Errorf("format version %d, this release knows %d: %w", f.Version, ha.FormatVersion, ha.ErrNewerFormat)
	}
	return f, nil
}

// read reads who leads, and led.
func (c *conn) read(ctx context.Context) (reign.Seen, ha.Member, error) {
	call, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	resp, err := c.client.Txn(call).Then(c.look()...).Commit()
	if err != nil {
		return reign.Seen{}, ha.Member{}, err
	}
	return c.seen(resp)
}

// look reads the two keys of the election.
func (c *conn) look() []clientv3.Op {
	return []clientv3.Op{clientv3.OpGet(c.root + "election/leader"), clientv3.OpGet(c.root + "election/crown")}
}

// seen reads the answer to look.
func (c *conn) seen(resp *clientv3.TxnResponse) (reign.Seen, ha.Member, error) {
	var who ha.Member
	if id := resp.Header.GetClusterId(); id != c.etcd {
		return reign.Seen{}, who, fmt.Errorf("%w: etcd cluster %x answers where %x did", ha.ErrOtherCluster, id, c.etcd)
	}
	s := reign.Seen{At: resp.Header.GetRevision()}
	if kvs := resp.Responses[0].GetResponseRange().GetKvs(); len(kvs) > 0 {
		s.Leader, s.Lease = kvs[0].GetCreateRevision(), kvs[0].GetLease()
		if err := json.Unmarshal(kvs[0].GetValue(), &who); err != nil {
			return s, who, fmt.Errorf("%s: %w", kvs[0].GetKey(), base.ErrCorrupt)
		}
	}
	if kvs := resp.Responses[1].GetResponseRange().GetKvs(); len(kvs) > 0 {
		s.Crown = kvs[0].GetModRevision()
	}
	return s, who, nil
}

// follow tells who leads, each time that may have changed and once in a while, until ctx ends or the store refuses.
func (c *conn) follow(ctx context.Context, tell func(reign.Seen, ha.Member)) error {
	for ctx.Err() == nil {
		s, who, err := c.read(ctx)
		if err != nil {
			if !unclear(err) && ctx.Err() == nil {
				return fmt.Errorf("%s: %w", c, err)
			}
			_ = wait(ctx, retryInterval) // the loop looks at ctx
			continue
		}
		tell(s, who)
		// A watch may die without a word, or ask for what has been compacted: then it is read anew all the same.
		watch, stop := context.WithTimeout(clientv3.WithRequireLeader(ctx), c.o.lease)
		for r := range c.client.Watch(watch, c.root+"election/", clientv3.WithPrefix(), clientv3.WithRev(s.At+1)) {
			if r.Err() != nil {
				_ = wait(ctx, retryInterval)
				break
			}
			if len(r.Events) > 0 {
				break
			}
		}
		stop()
	}
	return nil
}

// Watch implements ha.Election.
func (s *store) Watch(ctx context.Context, tell func(ha.Member)) error {
	c, err := s.connect(ctx, false)
	if err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return err
	}
	defer c.close()
	first, last := true, ha.Member{}
	return c.follow(ctx, func(_ reign.Seen, who ha.Member) {
		if first || who != last {
			first, last = false, who
			tell(who)
		}
	})
}

// Peek implements ha.Election.
func (s *store) Peek(ctx context.Context) ([]*ha.Job, error) {
	c, err := s.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	defer c.close()
	return c.jobs(ctx)
}

func (c *conn) jobKey(name string) string { return c.root + "jobs/" + url.PathEscape(name) }

func (c *conn) jobs(ctx context.Context) ([]*ha.Job, error) {
	resp, err := c.client.Get(ctx, c.root+"jobs/", clientv3.WithPrefix())
	if err != nil {
		return nil, fmt.Errorf("%s: read the jobs: %w", c, err)
	}
	var out []*ha.Job
	for _, kv := range resp.Kvs {
		j, err := ha.Decode(kv.Value, string(kv.Key))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		out = append(out, j)
	}
	return sorted(out), nil
}
