#!/usr/bin/env bash
# Run what needs a GPU, in at most 6 minutes: the tests marked `gpu`, then the benchmark, which prints a table.
#
#   bash tools/on_gpu.sh
#   bash tools/on_gpu.sh --data_path ./koniq-10k      # flags go to the benchmark
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/find_python.sh"

find_python requirements-dev.txt || { echo "error: the packages of requirements-dev.txt could not be installed" >&2; exit 1; }
status=0
(cd "$here" && timeout 180 "$python" -m pytest -n 0 -m gpu -rA --tb short) || status=$?
timeout 180 "$python" "$here/benchmark_training.py" --quick --device cuda "$@" || status=$?
exit "$status"
