#!/usr/bin/env bash
# build-tool.sh MODULE NAME LDFLAGS PACKAGE...: builds programs of the Go module in directory MODULE, which are
# dependencies of it and not its own, once for each state of the module. Prints the directory that holds them on stdout;
# everything else goes to stderr. When they are built already, this takes milliseconds.
set -euo pipefail
cd "$1"
name=$2
flags=(-trimpath -buildvcs=false -ldflags "-s -w $3")
packages=("${@:4}")

# The toolchain that builds, which a `toolchain` line in go.mod may change, is part of the state.
state=$({ cat go.mod go.sum; printf '%s\n' "${flags[@]}" "${packages[@]}"; go version; } | sha256sum | cut -c1-16)
cache=${DITTOFS_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dittofs-operator}
programs=$cache/$name-$state

if [[ ! -d $programs ]]; then
    mkdir -p -- "$cache"
    # One lock for all: two such builds at once would not be faster, and need the memory of both.
    exec 9>"$cache/tools.lock"
    flock 9
fi
if [[ ! -d $programs ]]; then
    echo "$name: building $programs (once; several minutes when nothing is cached)" >&2
    # The directory gets its name when everything is in it. What a killed build left is not in use: we hold the lock.
    rm -rf -- "$cache/$name.new"
    trap 'rm -rf -- "$cache/$name.new"' EXIT
    mkdir -- "$cache/$name.new"
    # -v names each package that is compiled: count those, pass everything else on.
    CGO_ENABLED=0 go build "${flags[@]}" -v -o "$cache/$name.new/" "${packages[@]}" 9>&- 2>&1 |
        awk -v name="$name" '/^[A-Za-z0-9._~\/-]+$/ { if (++n % 200 == 0) { print name ": " n " packages"; fflush() }; next }
            { print }' >&2
    mv -- "$cache/$name.new" "$programs"
    echo "$name: built in ${SECONDS} s" >&2
    # Programs of other states that nobody has asked for in a while.
    find "$cache" -maxdepth 1 -name "$name-*" -mtime +14 -exec rm -rf -- {} +
fi
touch -c -- "$programs"
echo "$programs"
