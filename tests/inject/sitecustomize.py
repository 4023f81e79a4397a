"""Python runs this at its start where this folder is on PYTHONPATH: the code that a test injects into a command."""

import os

exec(os.environ.pop("INJECT", ""))
