"""A script ends by the fork server as by an interpreter of its own."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT
from forkserver import Script

ENDS = {
    "arguments": "import sys; print(sys.argv[1:], __name__); print('☃', file=sys.stderr)",
    "status": "import sys; print('lost'); sys.exit(3)",
    "reason": "import sys; sys.exit('a reason')",
    "at once": "import os; print('lost', end=''); os._exit(4)",
    "hook": "import sys; sys.excepthook = lambda kind, *_: print('hook', kind); 1 / 0",
    "at exit": "import atexit; atexit.register(print, 'last'); print('first')",
    "child": "import os\nif os.fork() == 0:\n    os._exit(0)\nos.wait(); print('waited')",
    "SIGKILL": "import os; print('kept', flush=True); os.kill(os.getpid(), 9)",
    "SIGTERM": "import os; os.kill(os.getpid(), 15)",
}


@pytest.mark.parametrize("end", ENDS)
def test_a_script_ends_as_by_an_interpreter(tmp_path, end):
    (tmp_path / "script.py").write_text(ENDS[end], encoding="utf-8")
    command = [sys.executable, str(tmp_path / "script.py"), "a b", ""]
    real = subprocess.run(command, capture_output=True, text=True)
    script = Script(command, cwd=tmp_path, env=dict(os.environ), start_new_session=True)
    assert script.communicate(timeout=60) == (real.stdout, real.stderr)
    assert script.returncode == real.returncode


def test_an_error_shows_its_traceback(tmp_path):
    (tmp_path / "script.py").write_text("print('before')\n{}['key']\n")
    script = Script([sys.executable, str(tmp_path / "script.py")], cwd=tmp_path, env={}, start_new_session=False)
    output, errors = script.communicate(timeout=60)
    assert (script.returncode, output) == (1, "before\n") and 'script.py", line 2' in errors and "KeyError" in errors


def test_the_interpreter_passes_output_and_status_on(forking_python, tmp_path):
    for command, status, words in (
        (["-c", "print(1)"], 0, "1\n"),
        ([ROOT / "train_resnet_improved.py", "--epochs", "none"], 2, "error: argument --epochs"),
    ):
        process = subprocess.run([forking_python, *command], cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == status and words in process.stdout + process.stderr
