"""Files that contain a JSON object."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from iqa.atomic_files import write_atomically


def read_json(path: Path, way_out: str = "repeat the run", *, keys: Iterable[str] = ()) -> dict[str, Any]:
    """Read a JSON object that has these keys; the error names the file and the way out."""
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: missing, so the folder is incomplete; {way_out}") from None
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); {way_out}") from None
    if not isinstance(contents, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(contents).__name__}; {way_out}")
    for key in keys:
        if key not in contents:
            raise ValueError(f"{path}: no key {key!r}; {way_out}")
    return contents


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
