SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules

# Arguments for run and bench, and how long stress goes on:
#   make run ARGS='--rest-address 127.0.0.1:9000'
#   make stress DURATION=1h
ARGS ?=
DURATION ?= 10m
# How many faults chaos injects, and what draws them (0: another seed each time):
#   make chaos FAULTS=300
#   make chaos SEED=42
FAULTS ?= 10
SEED ?= 0
# When no more faults are begun, though fewer than FAULTS were survived (0: never):
FOR ?= 0

BIN := $(CURDIR)/.bin
BUF := go tool -modfile=tools/buf/go.mod buf
GOLANGCI := go tool -modfile=tools/golangci/go.mod golangci-lint

# grpcnotrace keeps html/template, and with it unpruned code, out of every
# binary that links gRPC.
TAGS := grpcnotrace

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

build: ## Build the three binaries into .bin
	CGO_ENABLED=0 go build -tags $(TAGS) -trimpath -ldflags='-s -w' -o $(BIN)/ ./cmd/...

run: ## Run the demo job: an embedded broker, a generator, 5-second windows; ARGS are its flags
	go run -tags $(TAGS) ./examples/demo $(ARGS)

# go test vets what it builds; -vet=all makes that all of go vet. Vetting apart
# would compile every package a second time, without the race detector.
test: ## What must pass before a push: vet, and all tests with invariants and the race detector
	@race=-race; cc="$$(go env CC)"; if [ "$$(go env CGO_ENABLED)" != 1 ] || ! command -v "$${cc%% *}" >/dev/null; then \
	race=; echo "race detector: skipped, it needs cgo and a C compiler"; fi; \
	if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then echo "real Kafka: skipped, java and mvn are not both on the path"; fi; \
	set -x; go test -vet=all $$race -tags invariants,$(TAGS) ./...

test-etcd: ## The tests with a real etcd, which is a module of its own: it is fetched and built first
	@if ! go -C test/etcd mod download >/dev/null 2>&1; then echo "real etcd: skipped, its modules cannot be fetched"; exit 0; fi; \
	set -x; go -C test/etcd test -mod=mod -vet=all -tags invariants,$(TAGS) ./...

test-s3: ## The tests with a real object store, which is a module of its own: it is fetched and built first
	@if ! go -C test/s3 mod download >/dev/null 2>&1; then echo "real object store: skipped, its modules cannot be fetched"; exit 0; fi; \
	set -x; go -C test/s3 test -vet=all -tags invariants,$(TAGS) ./...

test-release: ## The same tests on the code we ship: no invariants, no race detector
	CGO_ENABLED=0 go test -tags $(TAGS) ./...

# A module of its own: users get nothing of what it needs. -count=1, since go test takes files
# outside of a module for unchanged.
test-deploy: ## Test deploy/: manifests, compose files, the Dockerfile's build
	cd test/deploy && go test -count=1 -tags $(TAGS) ./...

stress: ## Random jobs, faults and restores until DURATION (10m) is over
	go test -tags invariants,$(TAGS) -run TestMetamorphic -timeout 0 ./pkg/internal/itest -duration $(DURATION)

# A module of its own. What it needs and does not find (java, mvn, its modules) it says in one line.
chaos: ## Faults against 2 JobManagers, 3 TaskManagers, 3 etcd and Kafka until FAULTS (10) were survived; what was lost, doubled, disordered
	@if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then echo "chaos: skipped, java and mvn are not both on the path"; exit 0; fi; \
	if ! go -C test/eos mod download >/dev/null 2>&1; then echo "chaos: skipped, its modules cannot be fetched"; exit 0; fi; \
	set -x; go -C test/eos vet -tags $(TAGS) ./... && go -C test/eos test -tags $(TAGS) ./... && go -C test/eos run -tags $(TAGS) ./chaos -faults $(FAULTS) -seed $(SEED) -for $(FOR)

mutants: ## Break the engine on purpose in each known way: the checker must find each (10 minutes)
	go -C test/eos run -tags $(TAGS) ./chaos mutants -faults 4

recovery: ## Measure how long recoveries take, 20 of each kind (15 minutes)
	go -C test/eos run -tags $(TAGS) ./chaos recovery -faults 20

bench: ## Measure, print a table and the machine; ARGS=--json for machines
	go run -tags $(TAGS) ./test/bench $(ARGS)

lint: ## Lint Go, the modules of the tests too, and protobuf
	$(GOLANGCI) run
	@for m in test/*/go.mod; do d=$$(dirname $$m); if ! go -C $$d mod download >/dev/null 2>&1; then echo "lint $$d: skipped, its modules cannot be fetched"; continue; fi; \
	echo "lint $$d"; (cd $$d && go tool -modfile=$(CURDIR)/tools/golangci/go.mod golangci-lint run -c $(CURDIR)/.golangci.yml) || exit 1; done
	$(BUF) lint
	$(BUF) format --diff --exit-code

generate: ## Regenerate protobuf code, generated pages and the list of mini's packages
	$(BUF) generate
	go generate ./...
	$(MAKE) deps

# Linked packages differ by platform, so the lists are those of Linux binaries.
deps: ## Rewrite the lists of packages linked into the commands
	for cmd in mini jobmanager taskmanager; do \
	CGO_ENABLED=0 GOOS=linux GOARCH=amd64 go list -tags $(TAGS) -deps -f '{{if not .Standard}}{{.ImportPath}}{{end}}' ./cmd/$$cmd | LC_ALL=C sort > cmd/$$cmd/deps.txt; done

check: ## Fail if generated files are stale
	@before="$$(git diff; git status --porcelain)"; $(MAKE) generate; \
	if [ "$$before" != "$$(git diff; git status --porcelain)" ]; then echo "generated files were stale: commit what make generate changed"; git status --short; exit 1; fi

.PHONY: help build run test test-release test-deploy test-etcd test-s3 stress chaos mutants recovery bench lint generate deps check
