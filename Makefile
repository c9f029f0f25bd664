# Each target is a plain command that anyone can type. `make` lists them.
GO ?= go
FUZZTIME ?= 30s

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

build: ## build ./loupe
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o loupe ./cmd/loupe

test: ## run all tests
	$(GO) test ./...

race: ## run all tests with the race detector
	$(GO) test -race ./...

lint: ## run the linters
	golangci-lint run

verify: ## what must hold before a change lands: formatting, vet, generated pages, tests, known vulnerabilities
	@test -z "$$(gofmt -l cmd internal)" || { gofmt -l cmd internal; echo 'run gofmt -w'; exit 1; }
	$(GO) vet ./...
	$(GO) mod verify
	$(GO) test ./...
	govulncheck ./...

cross: ## build for every system that is supported
	@for os in linux darwin windows; do for arch in amd64 arm64; do \
		echo $$os/$$arch; CGO_ENABLED=0 GOOS=$$os GOARCH=$$arch $(GO) build -o /dev/null ./cmd/loupe || exit 1; done; done

fuzz: ## run each fuzz target for FUZZTIME
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; done; done

bench: ## run the benchmarks
	$(GO) test -run '^$$' -bench . -benchmem ./...

generate: ## rewrite golden files and generated pages
	$(GO) test ./internal/rules ./internal/report ./internal/faces/cli ./internal/faces/api/binshield -update

.PHONY: help build test race lint verify cross fuzz bench generate
