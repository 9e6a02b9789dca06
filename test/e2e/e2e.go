// Package e2e holds tests of whole programs: real processes, real signals, a real Kafka.
package e2e
