"""Atomic file writes, links and locks, also on file systems that lack some of them."""

import contextlib
import csv
import errno
import fcntl
import glob
import os
import platform
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TextIO

from iqa.cli import say

# Errors of network shares and mounted cloud drives that lack fsync and locks.
UNSUPPORTED = {errno.ENOSYS, errno.ENOLCK, errno.ENODEV, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; the file that the body writes there replaces `path`.

    The rename is atomic only within one file system, so the temporary file is in the same folder. The data are
    flushed before the rename and the folder after it, so that a power cut leaves the old file or the new one. If the
    body fails, the old file is kept and the temporary one is removed.

    Raises:
        OSError: the file cannot be written, for example because the disk is full.
    """
    path = Path(path)
    temporary = _temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _flush_to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"{path}: cannot be written ({error.strerror or error}); make room or name another folder; "
            "an existing file is unchanged"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    _flush_to_disk(path.parent, os.O_RDONLY)


def remove_leftovers(path: Path, *, only: Path | None = None) -> None:
    """Delete the temporary files of killed processes that wrote `path`; no process may be writing it now.

    Args:
        only: delete those that are links to this file, and leave others, which a process may be writing.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if only is None or leftover.samefile(only):
                leftover.unlink()


def write_atomically(path: str | os.PathLike, data: str | bytes) -> None:
    """Write `data` as the whole content of `path`; text as UTF-8, its line ends unchanged."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def csv_text(rows: Iterable[Iterable]) -> str:
    """The text of a csv file; the first row is its header."""
    lines: list[str] = []
    # The writer quotes the characters of its line end only, which are both by default.
    csv.writer(SimpleNamespace(write=lines.append)).writerows(rows)
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def link_or_copy(source: Path, target: Path) -> None:
    """Replace `target` by a hard link to `source`, or by a copy if the file system has no links."""
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def check_writable(flag: str, path: Path | None) -> None:
    """OSError if `path`, whose folder need not exist yet, cannot be written."""
    if path is None:
        return
    if os.path.exists(path) and not os.path.isfile(path):
        raise OSError(f"{flag} {path}: is {'a folder' if os.path.isdir(path) else 'a device or a pipe'}; name a file")
    missing = missing_folders(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _temporary_of(path).touch()  # the temporary name may be too long
        _temporary_of(path).unlink()
    except OSError as error:
        raise OSError(f"{flag} {path}: cannot be written ({error.strerror}); name another") from error
    finally:
        remove_empty(missing)


def missing_folders(path: Path) -> list[Path]:
    """The folders above a path that do not exist, from the innermost."""
    return [folder for folder in path.parents if not folder.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove those of these folders that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def wait_for_lock(opened: TextIO | int, line: str) -> None:
    """Lock an open file or folder until it is closed; print the line if another process holds the lock."""
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(line)
        fcntl.flock(opened, fcntl.LOCK_EX)


def hold_lock(path: Path) -> TextIO:
    """Lock a file for this process while the returned file is open; its workers do not inherit a POSIX lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = open(path, "a+")
    except OSError as error:
        raise OSError(f"{path.parent}: cannot be written ({error.strerror}); name another folder") from error
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:  # POSIX allows either error
        lock.seek(0)
        holder = lock.read().strip()
        raise OSError(f"{path.parent}: process {holder} holds this folder; wait or choose another folder") from error
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise OSError(f"{path}: cannot be locked ({error.strerror}); name another folder") from error
        say(f"Warning: {path.parent}: locks are not supported here; start no second run in this folder")
        return lock
    lock.truncate(0)
    lock.write(f"{os.getpid()} on {platform.node()}\n")
    lock.flush()
    return lock


def _flush_to_disk(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)
