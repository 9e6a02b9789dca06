package kafka

import (
	"errors"
	"fmt"

	"github.com/rivulet-io/rivulet/pkg/connector"
)

// Source reads topics. Its timestamps are the records'; each partition has a watermark of its own.
func Source[T any](values Decoder[T], opts ...SourceOption) connector.Source[T] {
	return &source[T]{cfg: newSourceConfig(opts), values: values}
}

type source[T any] struct {
	cfg    *sourceConfig
	values Decoder[T]
}

// Bounded implements connector.Source.
func (s *source[T]) Bounded() bool { return s.cfg.stop.kind != never }

// Validate implements connector.Source.
func (s *source[T]) Validate() error {
	c := s.cfg
	errs := c.validate()
	if s.values == nil {
		errs = append(errs, errors.New("kafka source: no format for the values"))
	}
	if (len(c.topics) > 0) == (c.pattern != nil || c.patternErr != nil) {
		errs = append(errs, errors.New("kafka source: name topics (Topic, Topics) or a pattern (TopicPattern), and not both"))
	}
	if c.patternErr != nil {
		errs = append(errs, fmt.Errorf("kafka source: topic pattern: %w", c.patternErr))
	}
	errs = append(errs, c.start.validate(c, false), c.stop.validate(c, true))
	if c.discovery < 0 {
		errs = append(errs, fmt.Errorf("kafka source: partitions cannot be looked for every %v", c.discovery))
	}
	return errors.Join(errs...)
}

// DeadLetters implements connector.DeadLetterSource.
func (s *source[T]) DeadLetters() connector.Sink[connector.DeadLetter] {
	p := s.cfg.poison
	if p.kind != poisonDeadLetter {
		return nil
	}
	conn := s.cfg.connection
	conn.properties, conn.errs = nil, nil // they are applied, and said
	opts := append([]SinkOption{option(func(c *connection) { *c = conn }), Topic(p.topic)}, p.opts...)
	return Sink(Encode(func(d connector.DeadLetter, r *Record) error {
		r.Key, r.Value = d.Key, d.Value
		for _, h := range d.Headers {
			r.Headers = append(r.Headers, Header(h))
		}
		r.Headers = append(r.Headers, Header{Key: "rivulet.source", Value: fmt.Appendf(nil, "%s@%d", d.Split, d.Position)}, Header{Key: "rivulet.error", Value: []byte(d.Reason)})
		return nil
	}), opts...)
}

// NewEnumerator implements connector.Source.
func (s *source[T]) NewEnumerator(ctx connector.EnumeratorContext, snapshot []byte) (connector.Enumerator, error) {
	return newEnumerator(s.cfg, s.Bounded(), ctx, snapshot)
}

// NewReader implements connector.Source.
func (s *source[T]) NewReader(ctx connector.ReaderContext) (connector.Reader[T], error) {
	return newReader(s.cfg, s.values, ctx), nil
}
