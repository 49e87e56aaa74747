# Each target is one command that can also be typed by hand. "make help" lists them.

FUZZTIME ?= 30s
TIDINGS_SOAK ?= 60s

.DEFAULT_GOAL := help
.PHONY: help run test lint vuln gosec fuzz soak flood chaos bench benchlog microbench browser

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## serve on 127.0.0.1:8080; flags go in ARGS="--addr ..."
	go build -o bin/tidings ./cmd/tidings && exec bin/tidings serve $(ARGS)

test: ## install what the tests need and is missing, lint, then run every test with -race
	ci/test.sh

lint: ## gofmt, go vet, staticcheck, go.mod, shell scripts, and vet for macOS and Windows
	ci/lint.sh

vuln: ## look for known vulnerabilities in what the code calls (needs the network)
	ci/vuln.sh

gosec: ## look for patterns of code that are often a mistake in security
	ci/gosec.sh

fuzz: ## run each fuzz target for FUZZTIME (30s)
	FUZZTIME=$(FUZZTIME) ci/fuzz.sh

soak: ## the long soak: connections cut and resumed under load for TIDINGS_SOAK (60s)
	TIDINGS_SOAK=$(TIDINGS_SOAK) go test -count=1 -v -timeout 0 -run '^TestSoak$$' ./e2e

flood: ## compare the delay of live streams with that under floods without a token; wants an idle machine
	TIDINGS_FLOOD=1 go test -count=1 -v -run '^TestAFlood' ./e2e

chaos: ## kill every NATS server and every node in turn, twice, under load, and say what was lost
	TIDINGS_CHAOS=full go test -count=1 -v -timeout 30m ./e2e/chaos

benchlog: ## measure the log on a disk and in a cluster
	go test -run '^$$' -bench . -benchtime 3s -timeout 30m ./natsbroker ./e2e/chaos

bench: ## compare with other servers and write docs/benchmarks.md; ONLY=burst,idle or QUICK=1 only print
	ONLY=$(ONLY) QUICK=$(QUICK) CONTENDERS=$(CONTENDERS) ci/bench.sh

microbench: ## run Go's benchmarks of single functions
	go test -run '^$$' -bench . -benchmem ./...

browser: ## run only the tests that drive a real browser
	go test -count=1 -v -run '^TestBrowser' ./e2e
