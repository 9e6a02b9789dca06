package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/rivulet-io/rivulet/pkg/connector"
	"github.com/rivulet-io/rivulet/pkg/internal/base"
)

const (
	// retryPause is the time between two attempts to reach brokers.
	retryPause = time.Second
	// patience is how long what is likely to be wrong for good (a missing topic, a refused password) is tried again before the job ends.
	patience = 5 * time.Second
)

// connectLog says each attempt to reach a broker that failed, and calls refused when passwords have been refused for a while and none was accepted.
type connectLog struct {
	log     *slog.Logger
	refused func(error)

	since atomic.Int64 // of the first refusal, in ns since 1970; 0 after a success
}

// OnBrokerConnect implements kgo.HookBrokerConnect. It is called when a connection is initialised, and its user authenticated.
func (l *connectLog) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		l.since.Store(0)
		return
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	l.log.Warn("no connection to the Kafka broker, trying again", slog.String("peer", net.JoinHostPort(meta.Host, strconv.Itoa(int(meta.Port)))), slog.Any("err", err))
	if l.refused == nil || !errors.Is(err, kerr.SaslAuthenticationFailed) {
		return
	}
	now := time.Now().UnixNano()
	if first := l.since.Load(); first == 0 {
		l.since.Store(now)
	} else if time.Duration(now-first) >= patience {
		l.refused(err)
	}
}

// verdict is what an error of a broker means.
type verdict int

const (
	retry   verdict = iota // the broker is out of reach or busy: try again
	suspect                // likely wrong for good, but it may mend within moments: a topic that is not known yet
	refused                // wrong for good
)

// judge says what an error means. What is not known is tried again: a restart strategy bounds it.
func judge(err error) verdict {
	if k, ok := errors.AsType[*kerr.Error](err); ok {
		switch k {
		case kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.SaslAuthenticationFailed:
			return suspect
		case kerr.IllegalSaslState, kerr.UnsupportedSaslMechanism, kerr.UnsupportedVersion,
			kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
			kerr.InvalidTopicException, kerr.InvalidTransactionTimeout, kerr.InvalidTimestamp, kerr.InvalidRecord, kerr.MessageTooLarge, kerr.RecordListTooLarge,
			kerr.PolicyViolation, kerr.InvalidGroupID:
			return refused
		}
		return retry
	}
	if base.ClassOf(err) == base.ClassPermanent {
		return refused
	}
	if _, ok := errors.AsType[*kgo.ErrFirstReadEOF](err); ok {
		return suspect // the broker hung up at the first word: TLS or SASL is missing, or it is going down
	}
	if strings.Contains(err.Error(), "is this a plaintext connection") || strings.Contains(err.Error(), "HTTP response") {
		return suspect // the client has no name for it
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return suspect
	}
	return retry
}

// classify makes an error Permanent if a restart cannot mend it. A refused password is looked at again by the restart, for some seconds: it may have been changed.
func classify(err error) error {
	if _, ok := errors.AsType[restartable](err); ok {
		return err
	}
	if err != nil && (judge(err) == refused || errors.Is(err, kerr.UnknownTopicOrPartition) || errors.Is(err, kerr.UnknownTopicID)) {
		return connector.Permanent(explain(err))
	}
	return explain(err)
}

// explain adds what to do about an error.
func explain(err error) error {
	k, ok := errors.AsType[*kerr.Error](err)
	if !ok {
		return err
	}
	switch k {
	case kerr.SaslAuthenticationFailed, kerr.IllegalSaslState, kerr.UnsupportedSaslMechanism:
		return fmt.Errorf("the broker refuses the credentials (sasl.mechanism, user or password): %w", err)
	case kerr.UnknownTopicOrPartition, kerr.UnknownTopicID:
		return fmt.Errorf("the topic does not exist, or was deleted, or made anew: %w", err)
	case kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed:
		return fmt.Errorf("the user lacks an access right (ACL): %w", err)
	}
	return err
}

// persist calls f until it succeeds or fails for good, or ctx ends. What is out of reach is tried for ever, with a line for each attempt; what seems wrong for good for
// some seconds.
//
// Attempts to connect are logged where they are made (connectLog): here is said what waits for them, now and then.
func persist(ctx context.Context, log *slog.Logger, what string, f func(ctx context.Context) error) error {
	start := time.Now()
	var said time.Time
	for {
		try, cancel := context.WithTimeout(ctx, 30*time.Second)
		err := f(try)
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
		switch judge(err) {
		case refused:
			return connector.Permanent(fmt.Errorf("%s: %w", what, explain(err)))
		case suspect:
			if time.Since(start) > patience {
				return connector.Permanent(fmt.Errorf("%s: %w", what, explain(err)))
			}
		case retry:
		}
		if time.Since(said) >= 30*time.Second {
			said = time.Now()
			log.Warn("waiting for Kafka", slog.String("what", what), slog.Any("err", err))
		}
		if !pause(ctx, retryPause) {
			return fmt.Errorf("%s: %w (last error: %w)", what, context.Cause(ctx), err)
		}
	}
}

// pause waits; false says that ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// topics asks for the partitions of topics, of all for none. A topic that is missing is an error.
func describe(ctx context.Context, cl *kgo.Client, names []string) ([]kmsg.MetadataResponseTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	if names != nil {
		req.Topics = []kmsg.MetadataRequestTopic{}
	}
	for _, n := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = &n
		req.Topics = append(req.Topics, t)
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && names != nil {
			return nil, fmt.Errorf("topic %q: %w", deref(t.Topic), err)
		}
	}
	return resp.Topics, nil
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
