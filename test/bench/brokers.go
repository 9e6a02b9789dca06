package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rivulet-io/rivulet/test/realkafka"
)

// onServers calls f for each broker to measure on, which runs as long as f does.
func (c options) onServers(ctx context.Context, f func(*server) error) error {
	servers, err := c.servers()
	if err != nil {
		return err
	}
	for _, start := range servers {
		s, err := start(ctx)
		if err != nil {
			return err
		}
		if s == nil {
			continue
		}
		err = f(s)
		s.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

// servers returns how to start the brokers to measure on.
func (c options) servers() ([]func(context.Context) (*server, error), error) {
	real := func(ctx context.Context) (*server, error) {
		dir, err := os.MkdirTemp(c.dir, "kafka-")
		if err != nil {
			return nil, err
		}
		k, err := realkafka.New(ctx, dir, realkafka.Options{Heap: "512m"})
		if err != nil {
			return nil, err
		}
		return &server{name: "Kafka " + realkafka.Version, bootstrap: k.Bootstrap(), stop: k.Close}, nil
	}
	switch c.broker {
	case "kfake":
		return []func(context.Context) (*server, error){startFake}, nil
	case "real":
		return []func(context.Context) (*server, error){real}, nil
	case "":
		return []func(context.Context) (*server, error){startFake, func(ctx context.Context) (*server, error) {
			s, err := real(ctx)
			if errors.Is(err, realkafka.ErrMissing) {
				fmt.Fprintln(c.log, "bench: skipped:", err)
				return nil, nil //nolint:nilnil // skipped
			}
			return s, err
		}}, nil
	default:
		return nil, fmt.Errorf("--broker %q: want kfake or real", c.broker)
	}
}
