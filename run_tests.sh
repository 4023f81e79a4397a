#!/usr/bin/env bash
# Run the linter and the tests; flags go to pytest:
#
#   bash run_tests.sh
#   bash run_tests.sh -k data_loader
set -euo pipefail
here=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/find_python.sh"

find_python requirements-dev.txt
cd "$here"
"$python" -m ruff check .
exec "$python" -m pytest --numprocesses auto --maxprocesses 4 "$@"
