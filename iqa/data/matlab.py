"""Vectors of a MATLAB 5 file: numbers, or texts in a cell array."""

from pathlib import Path

import numpy as np

KINDS = {"O": "a cell array", "V": "a struct or the like", "U": "text", "c": "complex"}  # of numpy's types


def read_mat(path: Path) -> dict[str, np.ndarray]:
    """The variables of the file."""
    import scipy.io  # only now: it is slow to load, and few label files need it

    try:
        return scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise ValueError(f"{path}: a MATLAB 7.3 file, and MATLAB 5 is read: save it with save(..., '-v7')") from error
    except Exception as error:  # scipy raises many kinds for a file that is not MATLAB 5
        raise ValueError(f"{path}: not a MATLAB 5 file ({error})") from error


def find_variable(variables: dict[str, np.ndarray], path: Path, key: str) -> np.ndarray:
    if key not in variables:
        raise ValueError(f"{path}: no variable {key}")
    value = variables[key]
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{path}: {key} is a sparse matrix or the like, not a plain one")
    return value


def numbers_of(variables: dict[str, np.ndarray], path: Path, key: str) -> np.ndarray:
    """A vector of numbers, however it lies."""
    value = find_variable(variables, path, key)
    if value.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {key} is {KINDS.get(value.dtype.kind, value.dtype)}, not a vector of numbers")
    return np.ravel(value)


def texts_of(variables: dict[str, np.ndarray], path: Path, key: str) -> list[str]:
    """A cell array of texts, or a matrix of characters, one text in each row."""
    value = find_variable(variables, path, key)
    if value.dtype.kind not in "OU":
        kind = "numeric" if value.dtype.kind in "biuf" else KINDS.get(value.dtype.kind, value.dtype)
        raise ValueError(f"{path}: {key} is {kind}, not a cell array of texts")
    return [text_of(entry, f"{path}: {key} entry {i + 1}") for i, entry in enumerate(np.ravel(value))]


def text_of(entry: object, where: str) -> str:
    cell = np.asarray(entry)
    if cell.dtype.kind != "U" or cell.size != 1:
        raise ValueError(f"{where} is no text, but {entry!r:.60}")
    return cell.item().rstrip()
