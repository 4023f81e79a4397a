"""Whether two working folders hold the same finished run of the third variant, to the bit, times aside.

python3 tests/gpu/same_run.py ONE OTHER
"""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent.parent)]

from faults import assert_same_run  # noqa: E402

if __name__ == "__main__":
    try:
        assert_same_run(Path(sys.argv[1]), Path(sys.argv[2]))
    except AssertionError as error:
        sys.exit(f"the runs differ: {str(error).splitlines()[0]}")
