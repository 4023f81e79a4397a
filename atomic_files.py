"""Files that appear whole or not at all: written beside their place, flushed to disk, renamed into it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path in the folder of `path`; what the body leaves there replaces `path`.

    The rename is atomic only within one file system, so the temporary file lies in the same folder. The data
    are on disk before the rename, and the folder's entry after it: a power cut leaves the old file or the new
    one. A body that fails leaves the old file, and no temporary one.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _flush_to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush_to_disk(path.parent, os.O_RDONLY)


def write_atomically(path: str | os.PathLike, data: str | bytes) -> None:
    """Write `data` as the whole content of `path`; text as UTF-8, its line ends unchanged."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def _flush_to_disk(path: Path, mode: int) -> None:
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
