#!/usr/bin/env bash
# Builds the control plane once for each state of its sources and prints the path of the program
# on stdout; everything else goes to stderr. When it is built already, this takes milliseconds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

sources=(go.mod go.sum build.sh)
for source in *.go; do
    [[ $source == *_test.go ]] || sources+=("$source")
done
# The toolchain that builds, which a `toolchain` line in go.mod may change, is part of the state.
state=$({ cat -- "${sources[@]}"; go version; } | sha256sum | cut -c1-16)
cache=${DITTOFS_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dittofs-operator}
program=$cache/controlplane-$state

if [[ ! -x $program ]]; then
    mkdir -p -- "$cache"
    exec 9>"$cache/controlplane.lock"
    flock 9
fi
if [[ ! -x $program ]]; then
    echo "controlplane: building $program (once; several minutes when nothing is cached)" >&2
    version=k8s.io/component-base/version
    trap 'rm -f -- "$program.$$"' EXIT
    # -v names each package that is compiled: count those, pass everything else on.
    CGO_ENABLED=0 go build -trimpath -buildvcs=false -v \
        -ldflags "-s -w -X $version.gitVersion=v1.36.3 -X $version.gitMajor=1 -X $version.gitMinor=36" \
        -o "$program.$$" . 9>&- 2>&1 |
        awk '/^[A-Za-z0-9._~\/-]+$/ { if (++n % 200 == 0) { print "controlplane: " n " packages"; fflush() }; next } { print }' >&2
    mv -- "$program.$$" "$program"
    echo "controlplane: built in ${SECONDS} s" >&2
    # Programs of other states that nobody has asked for in a while.
    find "$cache" -maxdepth 1 -name 'controlplane-*' -mtime +14 -delete
fi
touch -c -- "$program"
echo "$program"
