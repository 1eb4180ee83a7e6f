# The targets, when none is named.
help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

VERSION ?=
OUT     ?= bin/tokenvend
COMMIT  ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS  = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
TOOL     = go tool -modfile=tools/go.mod
PACKAGES = ./...
FUZZTIME = 10s
COUNT    = 6

build: ## the binary, into bin/
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" -o $(OUT) ./cmd/tokenvend

# Neither go run nor a shell stands between make and the demo: each would answer Ctrl-C with an error of its own.
demo: ## emulator, a small backend and tokenvend on this machine; Ctrl-C ends it
	go build -o bin/demo ./cmd/demo
	@bin/demo

test: ## every test, with the race detector; needs Go alone
	go test -race -vet=off $(PACKAGES) # lint vets
	go test -run 'Allocat|Bytes' ./internal/api ./internal/telemetry # not built with the race detector, which allocates too
	cd test && go test -race -vet=all $(PACKAGES)

fuzz: ## each fuzz target for FUZZTIME (10s)
	@for package in $$(go list $(PACKAGES)); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

bench: ## each gate by Go's benchmarks, for benchstat; then the built binary against its peers
	go test -run '^$$' -bench . -benchmem -count $(COUNT) ./internal/...
	cd test && go run ./bench table && go run ./bench cold && go run ./bench start

bench-growth: ## how cost grows with users, connections and sizes: the table and pictures of docs/performance.md
	cd test && go run ./bench grow ../docs/performance

soak: ## mixed users and faults against the built binary for DURATION (2m)
	cd test && TOKENVEND_SOAK=$(or $(DURATION),2m) go test -count=1 -timeout 0 -v ./soak

lint: ## gofmt, gofumpt, vet, staticcheck; the tests of test/ are vetted as they run
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	@test -z "$$($(TOOL) gofumpt -l .)" || { echo "not gofumpt-ed:"; $(TOOL) gofumpt -l .; exit 1; }
	go vet $(PACKAGES)
	$(TOOL) staticcheck $(PACKAGES)

check: lint test ## all that must hold before a change lands

check-deploy: ## deploy/ and the pages about it, with the tools that are installed (part of check)
	go test ./deploy

release: ## binaries, checksums and SBOMs into dist/: make release VERSION=1.2.3; RELEASE=yes also tags
	VERSION="$(VERSION)" RELEASE="$(RELEASE)" deploy/release.sh

.PHONY: help build demo test bench bench-growth soak fuzz lint check check-deploy release
