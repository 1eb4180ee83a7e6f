# The targets, when none is named.
help:
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

VERSION  ?=
OUT      ?= bin/tokenvend
COMMIT   ?= $(shell git rev-parse HEAD 2>/dev/null)
LDFLAGS   = -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
TOOL      = go tool -modfile=tools/go.mod
PACKAGES  = ./...
FUZZTIME  = 10s
DURATION  = 2m
GREMLINS  = github.com/go-gremlins/gremlins/cmd/gremlins@v0.6.0
MUTATE    = ./internal/auth ./internal/tokencache ./internal/secret ./internal/api
COVER     = $(CURDIR)/bin/cover

# need names a missing program and what installs it, before anything has run.
need = @command -v $(1) >/dev/null || { echo "make $@ needs $(1): $(2)" >&2; exit 1; }

build: ## the binary, into bin/
	$(call need,go,install Go 1.26 from https://go.dev/dl)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "$(LDFLAGS)" -o $(OUT) ./cmd/tokenvend

# No go run and no shell between make and the demo: each would report Ctrl-C as an error of its own.
demo: ## emulator, small backend, tokenvend and a page; PAGE= and TOKEN= choose the ports
	$(call need,go,install Go 1.26 from https://go.dev/dl)
	go build -o bin/demo ./cmd/demo
	@bin/demo $(if $(PAGE),-page "$(PAGE)") $(if $(TOKEN),-token "$(TOKEN)")

race:
	$(call need,go,install Go 1.26 from https://go.dev/dl)
	$(call need,$(firstword $(shell go env CC) cc),the race detector needs a C compiler; install gcc or clang)

test: race ## every test with the race detector; needs Go and a C compiler
	go test -race -vet=off $(PACKAGES) # lint vets
	cd test && go test -count=1 -race -vet=all $(PACKAGES) # go would not notice a new binary or page

security: ## the tests that docs/security.md names, none of them skipped; needs Redis and Node.js
	$(call need,redis-server,apt-get install redis-server)
	$(call need,node,install Node.js 22 from https://nodejs.org)
	@names=$$(grep -oE '`(Test|Fuzz)[A-Za-z0-9]+`' docs/security.md | tr -d '`' | sort -u | paste -sd '|' -); \
		export TOKENVEND_REQUIRE_REDIS=1 TOKENVEND_REQUIRE_NODE=1; \
		go test -count=1 -run "^($$names)$$" $(PACKAGES) && cd test && go test -count=1 -run "^($$names)$$" $(PACKAGES)

fuzz: ## each fuzz target for FUZZTIME (10s)
	@for package in $$(go list $(PACKAGES)); do \
		for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
		done; \
	done

cover: race ## coverage of unit and binary tests, merged
	rm -rf $(COVER) && mkdir -p $(COVER)/unit $(COVER)/binary $(COVER)/all
	go test -covermode=atomic -coverpkg=./internal/...,./cmd/tokenvend $(PACKAGES) -args -test.gocoverdir=$(COVER)/unit
	cd test && TOKENVEND_COVERDIR=$(COVER)/binary go test -count=1 ./blackbox ./advisories ./reliability ./attack ./oidc
	go tool covdata merge -i=$(COVER)/unit,$(COVER)/binary -o=$(COVER)/all
	go tool covdata textfmt -i=$(COVER)/all -o=$(COVER)/profile
	@go tool cover -func=$(COVER)/profile | tail -1

mutate: ## mutation score of MUTATE; fails under 0.90
	$(call need,jq,apt-get install jq)
	@mkdir -p bin
	@for package in $(MUTATE); do \
		go run $(GREMLINS) unleash --timeout-coefficient 8 --output bin/mutants.json $$package || exit 1; \
		jq -r --arg package $$package '"\($$package): score \(.test_efficacy / 100)"' bin/mutants.json; \
		jq -e '.test_efficacy >= 90' bin/mutants.json >/dev/null || { echo "$$package is under 0.90" >&2; exit 1; }; \
	done

bench: ## tokenvend against bare net/http, the obvious design and a serverless function; 2 minutes
	cd test && TOKENVEND_BENCH=yes go test -count=1 -v ./bench

soak: ## mixed users and faults against the built binary for DURATION (2m)
	cd test && TOKENVEND_SOAK=$(DURATION) go test -count=1 -timeout 0 -v -run TestSoak ./reliability

lint: ## gofmt, gofumpt, vet, staticcheck, actionlint; the tests of test/ are vetted as they run
	@test -z "$$(gofmt -l .)" || { echo "not gofmt-ed:"; gofmt -l .; exit 1; }
	@test -z "$$($(TOOL) gofumpt -l .)" || { echo "not gofumpt-ed:"; $(TOOL) gofumpt -l .; exit 1; }
	go vet $(PACKAGES)
	$(TOOL) staticcheck $(PACKAGES)
	$(TOOL) actionlint

check: lint test ## all that must hold before a change lands

check-deploy: ## the files of deploy/ and the pages about them (part of check)
	go test ./deploy

release: ## what a release consists of, into dist/: make release VERSION=1.2.3; RELEASE=yes also tags
	@deploy/release.sh # make hands VERSION and RELEASE on

.PHONY: help build demo race test security fuzz cover mutate bench soak lint check check-deploy release
