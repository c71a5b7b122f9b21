# dittofs-operator: what a developer needs. `make help` lists the targets.
# Needed: Rust (stable), Go, make, a C compiler. Nothing else is installed or downloaded but crates and Go modules.

.DEFAULT_GOAL := help
SHELL := bash
CARGO ?= cargo
CONTROLPLANE = bash tests/controlplane/build.sh
JAEGER = bash tests/jaeger/build.sh

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | column -t -s '|'

.PHONY: run
run: ## See it work: a control plane, a DittoFS stand-in, Jaeger and the operator (KEEP=1 keeps them running)
	@$(CONTROLPLANE) >/dev/null
	@$(JAEGER) >/dev/null
	@$(CARGO) build --workspace --bins
	@target/debug/story --operator target/debug/dittofs-operator $(if $(KEEP),--keep)

.PHONY: trace
trace: ## As run, and renew the trace in README.md
	@$(CONTROLPLANE) >/dev/null
	@$(JAEGER) >/dev/null
	@$(CARGO) build --workspace --bins
	@target/debug/story --operator target/debug/dittofs-operator --readme README.md

.PHONY: test
test: ## Everything that must be green: format, lints, drift of generated files, all tests
	@bash tests/run.sh

.PHONY: check
check: ## Format and lints only
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --features fault-injection -- -D warnings
	$(CARGO) clippy --lib --bins -- -D warnings

.PHONY: test-fast
test-fast: ## Pure and actor-level tests only: no control plane
	$(CARGO) test --lib --bins --features fault-injection
	$(CARGO) test --test pure_ring --test drift --test dashboards --test admission --test crd_fields --test argocd --features fault-injection

.PHONY: test-real
test-real: ## Tests on the real control plane only
	@$(CONTROLPLANE) >/dev/null
	$(CARGO) test --features fault-injection --test real

.PHONY: generate
generate: ## Renew the generated files: manifests, dashboards, alerts, reference pages, golden YAML
	UPDATE_GOLDEN=1 $(CARGO) test --test drift --test log_lines
	UPDATE_GOLDEN=1 $(CARGO) test --lib golden
	$(CARGO) fmt --all

.PHONY: bench
bench: ## Measure: writes, pod starts, latencies, memory, the cost of traces; tables and target/bench.json (release build; ONLY=main or tracing)
	@$(CONTROLPLANE) >/dev/null
	@$(JAEGER) >/dev/null
	$(CARGO) build --release --workspace --bins
	target/release/bench --operator target/release/dittofs-operator --json target/bench.json $(if $(ONLY),--only $(ONLY))

.PHONY: audit
audit: ## Licenses, sources and bans of all crates (needs cargo-deny)
	$(CARGO) deny check bans licenses sources

.PHONY: clean
clean: ## Remove what was built here (the control plane's program stays in the cache)
	$(CARGO) clean
