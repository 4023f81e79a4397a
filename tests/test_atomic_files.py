"""A file is replaced whole or stays as it was, and nothing is left beside it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from atomic_files import atomic_path, write_atomically  # noqa: E402


@pytest.mark.parametrize("data", ["text, é\r\nunchanged\n", b"\x00\xff"])
def test_the_whole_content_is_replaced(tmp_path, data):
    path = tmp_path / "result.json"
    for contents in ("something longer than what follows it" * 9, data):
        write_atomically(path, contents)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, failure):
    path = tmp_path / "model.pth"
    path.write_text("old")
    with pytest.raises(failure), atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.name.startswith(".model.pth.")
        temporary.write_text("half")
        raise failure
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "empty"):
        pass
    assert list(tmp_path.iterdir()) == []
