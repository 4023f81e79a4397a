#!/usr/bin/env bash
# Run what only a machine with a GPU can show, in at most 9 minutes, and write on_gpu.txt and on_gpu.json of it:
#
#   bash tests/on_gpu.sh                              # with demo images, made for it
#   bash tests/on_gpu.sh ./koniq-10k                  # with some of these photographs
#   bash tests/on_gpu.sh --device cpu --minutes 5     # only to try the script where there is no GPU
#
# What fails, and what there was no time for, is said, and the rest goes on. --help lists the parts and the flags.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$here/find_python.sh"

find_python requirements-dev.txt || { echo "error: the packages of requirements-dev.txt could not be installed" >&2; exit 1; }
exec "$python" "$here/tests/gpu/drive.py" "$@"
