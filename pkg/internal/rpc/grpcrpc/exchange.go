package grpcrpc

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"

	rpcv1 "github.com/rivulet-io/rivulet/pkg/internal/pb/rivulet/rpc/v1"
)

const (
	// MaxFrames is how many bytes of frames one message may hold: what is left of maxMessageBytes is for protobuf's tag and length.
	MaxFrames = maxMessageBytes - 16
	// keepaliveTime after which a silent connection is asked for a sign of life, which has keepaliveTimeout: a peer whose host is gone is found within their sum.
	keepaliveTime    = 10 * time.Second
	keepaliveTimeout = 5 * time.Second
)

// Stream is one end of an exchange between two processes. One goroutine may call Send while another calls Receive.
type Stream struct {
	grpc   stream
	conn   *grpc.ClientConn // of the end that dialed
	cancel context.CancelFunc
	out    outgoing
	in     incoming
}

// stream is what both ends have of gRPC.
type stream interface {
	SendMsg(m any) error
	RecvMsg(m any) error
}

// Send sends frames, in parts, as one message, and takes the parts over: they go back to the pool when they are written. It blocks while the connection is full.
func (s *Stream) Send(parts []*[]byte, pool *Buffers) error {
	s.out = outgoing{parts: parts, pool: pool}
	return s.grpc.SendMsg(&s.out)
}

// Frames are the bytes of one message.
type Frames interface {
	Read(p []byte) (int, error)
	ReadByte() (byte, error)
	// Peek appends the next n bytes to pieces, as they lie; they are valid until they are read or discarded.
	Peek(n int, pieces [][]byte) ([][]byte, error)
	Discard(n int) (int, error)
	// Remaining is how many bytes are left.
	Remaining() int
}

// Receive returns the next message. It is valid until the next call.
func (s *Stream) Receive() (Frames, error) {
	if err := s.grpc.RecvMsg(&s.in); err != nil {
		_ = s.in.reader.Close() // it never fails
		return nil, err
	}
	return &s.in.reader, nil
}

// Close ends the stream of the end that dialed, with its connection. The other end returns from its handler instead.
func (s *Stream) Close() error {
	if s.conn == nil {
		return nil
	}
	s.cancel()
	return s.conn.Close()
}

// outgoing and incoming are the two messages of the codec.
type outgoing struct {
	parts []*[]byte
	pool  *Buffers
}

type incoming struct{ reader mem.Reader }

// codec is protobuf, but for the messages of an exchange: their bytes, which are a field of a protobuf message too, are neither copied nor looked at.
type codec struct{ encoding.CodecV2 }

// Name is that of protobuf: the bytes are the same.
func (codec) Name() string { return proto.Name }

// framesTag is that of the field frames in ExchangeRequest and ExchangeResponse: number 1, length-delimited.
const framesTag = 1<<3 | 2

var errFrames = errors.New("malformed message of an exchange")

// Marshal is encoding.CodecV2's.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	out, ok := v.(*outgoing)
	if !ok {
		return c.CodecV2.Marshal(v)
	}
	n := 0
	for _, p := range out.parts {
		n += len(*p)
	}
	s := make(mem.BufferSlice, 1, 1+len(out.parts))
	s[0] = mem.SliceBuffer(binary.AppendUvarint([]byte{framesTag}, uint64(n)))
	for _, p := range out.parts {
		s = append(s, mem.NewBuffer(p, out.pool))
	}
	return s, nil
}

// Unmarshal is encoding.CodecV2's.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*incoming)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	in.reader.Reset(data)
	if len(data) == 0 {
		return nil
	}
	tag, err := in.reader.ReadByte()
	if err != nil || tag != framesTag {
		return fmt.Errorf("%w: tag %d", errFrames, tag)
	}
	n, err := binary.ReadUvarint(&in.reader)
	if err != nil || n != uint64(in.reader.Remaining()) {
		return fmt.Errorf("%w: %d bytes are announced, %d came", errFrames, n, in.reader.Remaining())
	}
	return nil
}

// exchangeServer hands streams to a function.
type exchangeServer struct {
	rpcv1.UnimplementedExchangeServiceServer
	accept func(ctx context.Context, s *Stream) error
}

// Exchange is rpcv1.ExchangeServiceServer's.
func (e exchangeServer) Exchange(s grpc.BidiStreamingServer[rpcv1.ExchangeRequest, rpcv1.ExchangeResponse]) error {
	return e.accept(s.Context(), &Stream{grpc: s})
}

// Exchange makes the server accept exchanges, before Serve. accept owns the stream until it returns; ctx ends with the connection, and with Close.
func (s *Server) Exchange(accept func(ctx context.Context, s *Stream) error) {
	rpcv1.RegisterExchangeServiceServer(s.grpc, exchangeServer{accept: accept})
}

// DialExchange opens an exchange with the process at an address, over a connection of its own. The stream ends with ctx.
func DialExchange(ctx context.Context, n Network, address string) (*Stream, error) {
	c, err := dial(n, address, grpc.WithDisableRetry(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTimeout}))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s, err := rpcv1.NewExchangeServiceClient(c.conn).Exchange(ctx, grpc.ForceCodecV2(codec{encoding.GetCodecV2(proto.Name)}))
	if err != nil {
		cancel()
		return nil, errors.Join(err, c.Close())
	}
	return &Stream{grpc: s, conn: c.conn, cancel: cancel}, nil
}
