# Everything is done by go; make only names it. `make help` lists the targets.
SHELL   := /bin/sh
GO      ?= go
PROGRAM := bin/serialspan
VERSION := $(shell git describe --tags --always --dirty --abbrev=7 2>/dev/null | sed 's,^v,,')
BUILT   := $(shell git log -1 --format=%cI 2>/dev/null)
# The race detector needs a C compiler; without one the tests run without it.
RACE    := $(shell command -v cc >/dev/null 2>&1 && echo -race || echo)
TESTS   := $(GO) test -json -shuffle=on -count=1
# Go 1.26 crashes where two processors fire timers of one synctest bubble at once
# under the race detector: runtime.(*timer).maybeRunChan uses the bubble's one race
# context on both. So it gets one processor there, and the same tests run again on
# all of them without it.
ALONE   := $(and $(RACE),-cpu 1)
FUZZ    ?= 30s

.PHONY: help build demo test lint fuzz cover bench bench-compare clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

build: ## make bin/serialspan: static, stripped, the same bytes for the same commit
	@CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.release=$(VERSION) -X main.built=$(BUILT)' -o $(PROGRAM) ./cmd/serialspan

demo: build ## three agents with a simulated stick on this machine, until Ctrl-C
	@$(PROGRAM) demo

test: build ## all tests; as root on Debian also those across several hosts
	@./tests/install-tools
	@[ -n "$(RACE)" ] || echo 'make test: no C compiler, so without the race detector'
	@packages=$$($(GO) list ./... | grep -v '/tests$$'); \
	{ $(TESTS) $(RACE) $(ALONE) $$packages || echo FAIL; \
	  [ -z "$(RACE)" ] || $(TESTS) $$packages || echo FAIL; \
	  $(TESTS) $(RACE) -timeout 20m ./tests || echo FAIL; } | \
	$(GO) run ./tests/internal/report

lint: ## gofmt, vet, staticcheck, govulncheck, the rules of the house
	@./tests/lint

fuzz: ## each fuzz target for FUZZ=30s
	@grep -rHoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' . | sed 's|/[^/]*:func | |' | \
	while read -r dir name; do \
		echo "fuzz $$dir $$name"; $(GO) test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZ) "$$dir" || exit 1; \
	done

cover: ## a table per package: lines, exported names, lines of tests, coverage
	@{ $(GO) test -cover $$($(GO) list ./... | grep -v '/tests$$') || echo FAIL; } 2>&1 | $(GO) run ./tests/internal/cover

bench: ## next to ser2net, socat and wireguard-go: ROUNDS=5 CHAINS=… QUICK=1 (tests/bench/README.md)
	@ROUNDS="$(ROUNDS)" CHAINS="$(CHAINS)" QUICK="$(QUICK)" PARTS="$(PARTS)" MEMBERS="$(MEMBERS)" ./tests/bench/run measure

bench-compare: ## this tree next to BASE=revision, in turns: what is worse by more than the noise
	@ROUNDS="$(ROUNDS)" CHAINS="$(CHAINS)" QUICK="$(QUICK)" PARTS="$(PARTS)" ./tests/bench/run compare "$(BASE)"

clean: ## remove what was built
	@rm -rf bin
