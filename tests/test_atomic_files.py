"""A file is replaced completely or stays as it was, and no temporary file is left."""

import csv
import errno
import io
import os
import stat

import pytest

from iqa.atomic_files import atomic_path, csv_text, remove_leftovers, write_atomically


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
    with pytest.raises(OSError, match="empty: cannot be written"), atomic_path(tmp_path / "empty"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_only_the_temporary_files_of_one_path_are_removed(tmp_path):
    """Runs of other variants and seeds may write their checkpoints into the same folder."""
    others = ["[a]_best.pth", ".[a]_last.pth.1.tmp", ".[a]_seed43_best.pth.1.tmp", ".a_best.pth.1.tmp"]
    for name in (*others, ".[a]_best.pth.123.tmp"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "[a]_best.pth")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP])
def test_a_folder_that_cannot_be_flushed_to_disk_changes_nothing(tmp_path, monkeypatch, number):
    flush = os.fsync

    def flush_files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", flush_files_only)
    write_atomically(tmp_path / "scores.csv", "image,score\n")
    assert (tmp_path / "scores.csv").read_text() == "image,score\n"


def test_a_csv_keeps_every_name():
    rows = [["image", "score"], *([name, "1"] for name in ("a,b", 'a"b', "a\rb", "a\nb", "a\r\nb", " a"))]
    text = csv_text(rows)
    assert list(csv.reader(io.StringIO(text, newline=""))) == rows and text.startswith("image,score\n")
