#!/usr/bin/env bash
# Runs everything that must be green, says how far it is, and ends with `N passed, N failed`.
# A step counts as one test; the tests of cargo and go are counted one by one. All steps run, also after a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-auto}" RUST_BACKTRACE="${RUST_BACKTRACE:-0}"
passed=0
failed=0
started=$SECONDS
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { printf '\n== %4d s  %s\n' "$((SECONDS - started))" "$*"; }

# step NAME COMMAND...: one thing that is right or wrong.
step() {
    say "$1"
    if "${@:2}"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $1"; fi
}

# suite NAME COMMAND...: cargo test; its own results are added up. A suite that ends wrongly without a failed test
# (it does not build, it was killed) is one failure.
suite() {
    say "$1"
    local status before=$failed
    "${@:2}" 2>&1 | tee "$log"
    status=${PIPESTATUS[0]}
    while read -r ok bad; do
        passed=$((passed + ok))
        failed=$((failed + bad))
    done < <(sed -nE 's/^test result: .* ([0-9]+) passed; ([0-9]+) failed;.*/\1 \2/p' "$log")
    if ((status != 0 && failed == before)); then failed=$((failed + 1)); fi
    if ((status != 0)); then echo "FAILED: $1"; fi
}

go_tests() {
    say "control plane: its own tests"
    if (cd tests/controlplane && CGO_ENABLED=0 go test -trimpath -v . 2>&1 | tee "$log" | grep -E '^(---|FAIL|ok)'); then :; fi
    local ok bad
    ok=$(grep -c '^--- PASS' "$log")
    bad=$(grep -c '^--- FAIL' "$log")
    if ((ok == 0 && bad == 0)); then bad=1; fi
    passed=$((passed + ok))
    failed=$((failed + bad))
}

gofmt_clean() { test -z "$(gofmt -l tests/controlplane tests/jaeger tests/prometheus | tee /dev/stderr)"; }

build_controlplane() { bash tests/controlplane/build.sh; }

# These have no code of their own: what there is to get wrong are go.mod and go.sum.
build_jaeger() { bash tests/jaeger/build.sh; }
build_prometheus() { bash tests/prometheus/build.sh; }

step "format of Rust" cargo fmt --all --check
step "format of Go" gofmt_clean
step "control plane: build (minutes, when nothing is cached)" build_controlplane
step "Jaeger: build (minutes, when nothing is cached)" build_jaeger
step "Prometheus: build (minutes, when nothing is cached)" build_prometheus
step "lints: everything, with faults" cargo clippy --quiet --workspace --all-targets --features fault-injection -- -D warnings
step "lints: the shipped build" cargo clippy --quiet --lib --bins -- -D warnings
suite "tests without a control plane" cargo test --no-fail-fast --workspace --features fault-injection \
    --lib --bins --test pure_ring --test drift --test log_lines --test dashboards --test alerts --test admission --test crd_fields --test argocd --test exchanges
# They wait more than they work: two at a time, the default on two cores, would take twice as long.
suite "tests on the real control plane" cargo test --no-fail-fast --workspace --features fault-injection \
    --test cluster --test checker --test real_admission --test backends --test real -- --test-threads 4
go_tests

say "done"
echo "$passed passed, $failed failed"
((failed == 0))
