#!/usr/bin/env bash
# Builds Prometheus and promtool once for each state of this module and prints the path of the first on stdout; the
# other is beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
programs=$(bash ../build-tool.sh . prometheus "-X github.com/prometheus/common/version.Version=2.55.1" \
    github.com/prometheus/prometheus/cmd/prometheus github.com/prometheus/prometheus/cmd/promtool)
echo "$programs/prometheus"
