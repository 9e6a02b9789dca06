// Package grpcrpc puts the services of rivulet.rpc.v1 on gRPC, over any Network.
//
// Start with Server and Client. Its law: an error arrives with the class it left with, and a call that could not be made is one that may be repeated.
package grpcrpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/rivulet-io/rivulet/pkg/internal/base"
	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
	"github.com/rivulet-io/rivulet/pkg/internal/rpc"
)

const (
	// windowBytes is the fixed flow-control window: grpc's own estimates send pings and keep timers.
	windowBytes = 1 << 20
	// readBytes and writeBytes are the buffers that a connection uses. An idle connection holds neither, but the former under TLS.
	readBytes  = 64 << 10
	writeBytes = 64 << 10
	// maxMessageBytes bounds a message: acks and deployments carry list state and committables inline.
	maxMessageBytes = 64 << 20
)

// landing lends what the frames of all connections land in: gRPC's own pool clears each buffer it lends.
var landing Buffers

// Server serves the services of one process.
type Server struct {
	grpc *grpc.Server
}

// NewServer returns a server of the services that are not nil.
func NewServer(jm rpcv1.JobManagerServiceServer, tm rpcv1.TaskManagerServiceServer) *Server {
	s := grpc.NewServer(
		grpc.InitialWindowSize(windowBytes), grpc.InitialConnWindowSize(windowBytes),
		grpc.ReadBufferSize(readBytes), grpc.WriteBufferSize(writeBytes),
		grpc.MaxRecvMsgSize(maxMessageBytes), grpc.MaxSendMsgSize(maxMessageBytes),
		grpc.UnaryInterceptor(classify),
		experimental.BufferPool(&landing),
		grpc.WaitForHandlers(true),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name)}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: keepaliveTime / 2, PermitWithoutStream: true}),
	)
	if jm != nil {
		rpcv1.RegisterJobManagerServiceServer(s, jm)
	}
	if tm != nil {
		rpcv1.RegisterTaskManagerServiceServer(s, tm)
	}
	return &Server{grpc: s}
}

// Files adds the service of files, before Serve.
func (s *Server) Files(f rpcv1.FilesServiceServer) { rpcv1.RegisterFilesServiceServer(s.grpc, f) }

// Serve blocks until Close, or until the listener fails.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(l)
	if err == nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return fmt.Errorf("serve %s: %w", l.Addr(), err)
}

// Close ends all connections, cancels the calls that run and waits for their handlers, and makes Serve return.
func (s *Server) Close() { s.grpc.Stop() }

// classify turns a handler's error into a status that carries its class.
func classify(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	resp, err := next(ctx, req)
	if err == nil {
		return resp, nil
	}
	st := status.New(code(base.ClassOf(err)), err.Error())
	if with, derr := st.WithDetails(rpc.Failure(err, time.Now())); derr == nil {
		st = with
	}
	return nil, st.Err()
}

func code(c base.Class) codes.Code {
	switch c {
	case base.ClassPermanent:
		return codes.FailedPrecondition
	case base.ClassCorrupt:
		return codes.DataLoss
	case base.ClassFenced:
		return codes.Aborted
	case base.ClassCanceled:
		return codes.Canceled
	}
	return codes.Unknown
}

// declassify turns a status back into the error that the handler returned.
func declassify(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, req, reply, cc, opts...)
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	for _, d := range st.Details() {
		if f, ok := d.(*rpcv1.Failure); ok {
			return rpc.Error(f)
		}
	}
	if st.Code() == codes.ResourceExhausted { // by gRPC itself, at one of the ends: it would not fit the next time either
		return base.Permanent(fmt.Errorf("%s: the message is too large, or its answer (%d bytes are the limit): %s", method, maxMessageBytes, st.Message()))
	}
	// No handler was reached, or its answer was lost: the call may be repeated.
	return fmt.Errorf("%s: %w: %s: %s", method, rpc.ErrUnreachable, st.Code(), st.Message())
}

// interceptor puts a Caller around calls.
func interceptor(n Network, address string) grpc.UnaryClientInterceptor {
	c, ok := n.(Caller)
	if !ok {
		return declassify
	}
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		var mu sync.Mutex
		answer, answered := reply.(pb.Message), false
		req = pb.Clone(req.(pb.Message)) // late ones must not see what becomes of it
		err := c.Call(ctx, address, method, func(ctx context.Context) error {
			own := answer.ProtoReflect().New().Interface()
			err := declassify(ctx, method, req, own, cc, invoke, opts...)
			mu.Lock()
			defer mu.Unlock()
			if err == nil && !answered {
				pb.Reset(answer)
				pb.Merge(answer, own)
			}
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		answered = true
		return err
	}
}

// Client is a connection to another process; it connects when it is first used, and again when it was lost. It is safe for concurrent use.
type Client struct {
	conn *grpc.ClientConn
}

// Dial returns a client of the process at an address. It does no I/O.
func Dial(n Network, address string) (*Client, error) { return dial(n, address) }

func dial(n Network, address string, more ...grpc.DialOption) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(n.Dial),
		grpc.WithInitialWindowSize(windowBytes), grpc.WithInitialConnWindowSize(windowBytes),
		grpc.WithReadBufferSize(readBytes), grpc.WithWriteBufferSize(writeBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessageBytes), grpc.MaxCallSendMsgSize(maxMessageBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}, MinConnectTimeout: 5 * time.Second}),
		grpc.WithUnaryInterceptor(interceptor(n, address)),
		experimental.WithBufferPool(&landing),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}),
	}, more...)...)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", address, err)
	}
	return &Client{conn: conn}, nil
}

// JobManager returns the JobManager's service at the other end.
func (c *Client) JobManager() rpcv1.JobManagerServiceClient {
	return rpcv1.NewJobManagerServiceClient(c.conn)
}

// TaskManager returns the TaskManager's service at the other end.
func (c *Client) TaskManager() rpcv1.TaskManagerServiceClient {
	return rpcv1.NewTaskManagerServiceClient(c.conn)
}

// Files returns the service of files at the other end.
func (c *Client) Files() rpcv1.FilesServiceClient { return rpcv1.NewFilesServiceClient(c.conn) }

// Close ends the connection; calls that are under way fail.
func (c *Client) Close() error { return c.conn.Close() }
