package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"
)

// pair are two processes that exchange batches: the flags of pkg/internal/itest/pair.
type pair struct {
	raw, tls, blocked bool
	seconds           float64
	channels          int
}

// pairResult is what each of them prints.
type pairResult struct {
	Speed         float64
	Bytes         int64
	Before, After int64
}

func (p pair) measure(ctx context.Context, binary, dir, role string, result *pairResult) (usage, error) {
	cmd := exec.CommandContext(ctx, binary, fmt.Sprintf("--raw=%t", p.raw), fmt.Sprintf("--tls=%t", p.tls), fmt.Sprintf("--blocked=%t", p.blocked),
		fmt.Sprintf("--seconds=%g", p.seconds), fmt.Sprintf("--channels=%d", p.channels), "--dir="+dir, role)
	var out bytes.Buffer
	cmd.Stdout = &out
	u, err := measureCommand(cmd)
	if err != nil {
		return u, fmt.Errorf("%s: %w", role, err)
	}
	return u, json.Unmarshal(out.Bytes(), result)
}

// writeCertificates makes a certificate that is its own authority, for both ends.
func writeCertificates(dir string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, DNSNames: []string{"bench"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(writePEM(filepath.Join(dir, "cert.pem"), "CERTIFICATE", cert), writePEM(filepath.Join(dir, "key.pem"), "EC PRIVATE KEY", private))
}

func writePEM(path, kind string, b []byte) error {
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600)
}

// run runs a pair of processes, and returns what they measured, and the CPU seconds of both.
func (p pair) run(ctx context.Context, c options, binary string) (producer, consumer pairResult, cpu float64, err error) {
	dir, err := os.MkdirTemp(c.dir, "exchange-")
	if err != nil {
		return producer, consumer, 0, err
	}
	if err := writeCertificates(dir); err != nil {
		return producer, consumer, 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var used usage
	var perr error
	var all sync.WaitGroup
	all.Go(func() {
		if used, perr = p.measure(ctx, binary, dir, "producer", &producer); perr != nil {
			cancel()
		}
	})
	u, err := p.measure(ctx, binary, dir, "consumer", &consumer)
	if err != nil {
		cancel()
	}
	all.Wait()
	if err := errors.Join(perr, err); err != nil {
		return producer, consumer, 0, err
	}
	return producer, consumer, (used.CPU + u.CPU).Seconds(), nil
}

// exchangeSuite measures two processes that exchange batches.
func exchangeSuite(ctx context.Context, c options) (Table, error) {
	binary := filepath.Join(c.dir, "pair")
	if err := buildMain(ctx, binary, "github.com/rivulet-io/rivulet/pkg/internal/itest/pair"); err != nil {
		return Table{}, err
	}
	t := Table{Columns: []string{"two processes on loopback", "MB/s", "of raw TCP", "of raw mTLS", "CPU-s/GB"}}
	rows := []struct {
		what string
		pair pair
	}{
		{"raw TCP: frames of a length and 32 KB, nothing encoded", pair{raw: true}},
		{"exchange: encoded, sent with credits, decoded", pair{}},
		{"exchange, beside a blocked channel", pair{channels: 1, blocked: true}},
		{"raw frames, mTLS", pair{raw: true, tls: true}},
		{"exchange, mTLS", pair{tls: true}},
	}
	speed, cost := make([][]float64, len(rows)), make([][]float64, len(rows))
	for round := range c.rounds {
		for k := range rows {
			i := k
			if round%2 == 1 {
				i = len(rows) - 1 - k
			}
			a := rows[i].pair
			a.seconds = 4 * c.scale
			_, r, cpu, err := a.run(ctx, c, binary)
			if err != nil {
				return t, fmt.Errorf("%s: %w", rows[i].what, err)
			}
			speed[i], cost[i] = append(speed[i], r.Speed), append(cost[i], cpu/(float64(r.Bytes)/1e9))
		}
	}
	for i, row := range rows {
		of := func(raw int) string { return fmt.Sprintf("%.2f", median(speed[i])/median(speed[raw])) }
		secured := ""
		if row.pair.tls {
			secured = of(3)
		}
		t.add(row.what, fmt.Sprintf("%.0f", median(speed[i])), of(0), secured, fmt.Sprintf("%.2f", median(cost[i])))
	}
	t.Notes = append(t.Notes, fmt.Sprintf("Batches of %d records of %d bytes. Beside a blocked channel the other has %.1f %% of its speed.", 32<<10/200, 200, 100*median(speed[2])/median(speed[1])))
	var link, idle []float64
	for range c.rounds {
		for _, channels := range []int{0, 64} {
			p, q, _, err := pair{channels: channels}.run(ctx, c, binary)
			if err != nil {
				return t, err
			}
			grown := max(float64(p.After-p.Before), float64(q.After-q.Before)) / 1e6
			if channels == 0 {
				link = append(link, grown)
			} else {
				idle = append(idle, grown)
			}
		}
	}
	t.Notes = append(t.Notes, fmt.Sprintf("Resident, of the process that grows more: a link with one channel %.2f MB, and 64 idle ones beside it %.2f MB.", median(link), median(idle)))
	return t, nil
}
