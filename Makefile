# Bare `make` lists the targets.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
CACHE   := $(if $(POSTRIDER_CACHE),$(POSTRIDER_CACHE),.cache)
TOOLS   := $(CACHE)/bin

# Tools are built from source at these versions, once.
GOLANGCI_LINT_VERSION := v2.15.0
GOVULNCHECK_VERSION   := v1.8.0
GOLANGCI_LINT := $(TOOLS)/golangci-lint-$(GOLANGCI_LINT_VERSION)
GOVULNCHECK   := $(TOOLS)/govulncheck-$(GOVULNCHECK_VERSION)

# The packages to test and to lint, e.g. make test PKG=./relay/...
PKG := ./...

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/postrider
	CGO_ENABLED=0 go build -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/postrider ./cmd/postrider

.PHONY: demo
demo: build ## Run the whole line on this machine, nothing to install (ARGS='--orders 100 --exit')
	bin/postrider demo $(ARGS)

.PHONY: test
test: ## Run all tests on a real Postgres and a real Kafka, then the fuzz targets
	testdata/servers/with-servers.sh go test $(RACE) -timeout 20m $(PKG)
	.ci/fuzz

# At a desk without a C compiler the tests still run, without the race detector; CI has one.
RACE := $(if $(or $(CI),$(shell command -v gcc)),-race)

.PHONY: test-download
test-download: ## Test the download of Postgres for the demo (15 MB)
	go test -count=1 -tags download -run Download ./internal/embedded

.PHONY: lint
lint: $(GOLANGCI_LINT) $(GOVULNCHECK) ## Run gofmt, go vet, golangci-lint, govulncheck; check go.mod
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w" $$unformatted; exit 1; }
	go mod tidy -diff
	go vet $(PKG)
	$(GOLANGCI_LINT) run $(PKG)
	.ci/vulncheck $(GOVULNCHECK)

.PHONY: check
check: test lint ## What CI runs: test and lint

.PHONY: bench
bench: ## Measure everything and write bench/RESULTS.md (BENCH=Drain/one-row BENCHTIME=1x; bench/README.md)
	PGFSYNC=on PGSHARED_BUFFERS=1GB KAFKA_HEAP=1G testdata/servers/with-servers.sh \
		go test -v -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -timeout 3h ./bench

.PHONY: bench-backlog
bench-backlog: ## Measure a backlog of ten million events (20 GB of disk for a while)
	$(MAKE) bench BENCH='Backlog$$$$' BENCHTIME=1x BENCH_BACKLOG=10000000

# The benchmarks to run, a regular expression, and how often.
BENCH     := .
BENCHTIME := 3x

.PHONY: torture
torture: ## Prove the guarantees while faults happen (ARGS='--duration 10m', '--matrix', '--help')
	@go run ./internal/torture/cmd/torture $(ARGS)

.PHONY: clean
clean: ## Remove what was built; fetched servers and tools stay in .cache
	rm -rf bin dist

$(GOLANGCI_LINT):
	@echo "building golangci-lint $(GOLANGCI_LINT_VERSION) (a few minutes, once)"
	GOBIN=$(abspath $(TOOLS)/build) go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)
	mv $(TOOLS)/build/golangci-lint $@

$(GOVULNCHECK):
	GOBIN=$(abspath $(TOOLS)/build) go install golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
	mv $(TOOLS)/build/govulncheck $@
