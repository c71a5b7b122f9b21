#!/usr/bin/env bash
# Builds Jaeger once for each state of this module and prints the path of the program on stdout.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
programs=$(bash ../build-tool.sh . jaeger "-X github.com/jaegertracing/jaeger/pkg/version.latestVersion=v1.62.0" \
    github.com/jaegertracing/jaeger/cmd/all-in-one)
echo "$programs/all-in-one"
