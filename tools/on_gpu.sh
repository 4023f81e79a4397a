#!/usr/bin/env bash
# Verify and measure what needs a GPU, in at most 6 minutes: the tests marked `gpu`, and the benchmark with its tables.
#
#   bash tools/on_gpu.sh
#   bash tools/on_gpu.sh --data_path ./koniq-10k      # flags go to the benchmark
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/find_python.sh"

find_python requirements.txt
# On a machine without network: neither the linter nor timm is needed.
"$python" -c "import pytest, xdist" 2>/dev/null || find_python requirements-dev.txt
status=0
(cd "$here" && timeout 140 "$python" -m pytest -n 4 --dist load -m gpu -vv --tb short) || status=$?
timeout 205 "$python" "$here/benchmark_training.py" --images 120 --trials 2 --seconds 1 --compile --device cuda "$@" || status=$?
exit "$status"
