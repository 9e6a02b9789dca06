// Package kafka reads Kafka topics and writes them, exactly once where the job asks for it.
//
// Start with Source and Sink, and with a format of the values: String, Bytes, JSON, Proto, or a function (Decode, Encode).
//
//	clicks := stream.From(env, kafka.Source(kafka.JSON[Click](), kafka.Topic("clicks"), kafka.Bootstrap("broker:9092")), strategy, stream.UID("clicks"))
//	stream.To(visits, kafka.Sink(kafka.JSON[Visit](), kafka.Topic("visits"), kafka.Bootstrap("broker:9092"), kafka.ExactlyOnce()), stream.UID("out"))
//
// A source starts at the earliest offset unless StartFrom says otherwise; a job that is restored goes on where its checkpoint says, always. A sink writes at least
// once unless ExactlyOnce or NoGuarantee is given, and puts a record where its key says, as Kafka's own clients do.
//
// Its law: what a checkpoint holds is what was read, record by record, and what was written is visible to read_committed consumers only when the checkpoint that
// ends it is complete. An offset that is no longer there, a write that failed, a transaction that the broker has aborted: each ends or restarts the job with an
// error that names it; none is skipped.
package kafka

import (
	"time"
	"unsafe"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Record is a record as Kafka has it. What its slices refer to is valid during the call that is given the Record only.
type Record struct {
	Key, Value []byte
	Headers    []Header
	// Timestamp is the record's. For a sink the zero time is the time of writing.
	Timestamp time.Time
	Topic     string
	// Partition is -1 in a sink for the partitioner's choice.
	Partition int32
	// Offset and LeaderEpoch are not used by sinks.
	Offset      int64
	LeaderEpoch int32
}

// Header is one of a record's headers; a key may appear more than once.
type Header struct {
	Key   string
	Value []byte
}

var _ = Header(kgo.RecordHeader{}) // the two are laid out alike, which headers relies on

// headers sees the client's headers as ours, and back.
func headers(h []kgo.RecordHeader) []Header {
	return unsafe.Slice((*Header)(unsafe.Pointer(unsafe.SliceData(h))), len(h))
}

func kgoHeaders(h []Header) []kgo.RecordHeader {
	return unsafe.Slice((*kgo.RecordHeader)(unsafe.Pointer(unsafe.SliceData(h))), len(h))
}
