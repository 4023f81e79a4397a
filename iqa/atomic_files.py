"""Files that appear whole or not at all: written beside their place, flushed to disk, renamed into it."""

import contextlib
import glob
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; what the body leaves there replaces `path`.

    The rename is atomic only within one file system, so the temporary file lies in the same folder. The data
    are on disk before the rename, and the folder's entry after it: a power cut leaves the old file or the new
    one. A body that fails leaves the old file, and no temporary one.

    Raises:
        OSError: a full disk or the like; names `path` and the way out.
    """
    path = Path(path)
    temporary = _temporary_of(path)
    try:
        yield temporary
        _flush_to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(
            f"{path}: cannot be written ({error.strerror or error}); make room or name another folder; "
            "a file that was there is as it was"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
    _flush_to_disk(path.parent, os.O_RDONLY)


def remove_leftovers(path: Path) -> None:
    """Delete what a process that was killed in the middle of writing `path` left beside it.

    The caller makes sure that nobody writes `path` now.
    """
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def write_atomically(path: str | os.PathLike, data: str | bytes) -> None:
    """Write `data` as the whole content of `path`; text as UTF-8, its line ends unchanged."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def check_writable(flag: str, path: Path | None) -> None:
    """Fail now, not after an hour of scoring, where `path` cannot be written; its folder is made."""
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _temporary_of(path).touch()  # of the name that is written later, which may be too long
        _temporary_of(path).unlink()
    except OSError as error:
        raise OSError(f"{flag} {path}: cannot be written ({error.strerror}); name another") from error
    if path.is_dir():
        raise IsADirectoryError(f"{flag} {path}: is a folder; name a file")


def _temporary_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _flush_to_disk(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
