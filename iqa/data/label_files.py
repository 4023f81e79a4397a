"""Readers of label files: csv tables, lines of words, JSON lists and MATLAB 5 variables.

Each error names the file, the row or entry, and the value.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from iqa.cli import plain_digits

Rows = Iterator[tuple[str, dict[str, str]]]  # ("file: row N", columns)


def read_table(path: Path, columns: tuple[str, ...]) -> Rows:
    """Rows of a csv file with a header; a byte-order mark, CRLF, empty rows and empty trailing fields are allowed."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)  # a quote that is not closed is an error
            reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
            header = Counter(reader.fieldnames)
            missing = [column for column in columns if column not in header]
            if missing:
                names = ", ".join(map(repr, reader.fieldnames)) or "none: it is empty"
                raise ValueError(
                    f"{path}: no column {', '.join(missing)}; it has {names}; begin the file with the names of its "
                    "columns, separated by commas"
                )
            repeated = [name for name, count in header.items() if name and count > 1]
            if repeated:
                raise ValueError(f"{path}: several columns {', '.join(repeated)}; rename or remove all but one")
            for row in reader:
                where = f"{path}: row {reader.line_num}"
                surplus = [text for text in row.pop(None, ()) if text.strip()]
                if surplus:
                    raise ValueError(
                        f"{where}: more fields than the header ({', '.join(surplus)!r}); "
                        "put a name with a comma in quotes, write decimals with a point"
                    )
                if not any(row.values()):
                    continue
                for name, text in row.items():
                    if name not in columns and {"\n", "\r"} & set(text or ""):
                        raise ValueError(
                            f"{where}: the field of column {name} contains a line break; remove it, or close the quote"
                        )
                short = [column for column in columns if row[column] is None]
                if short:
                    raise ValueError(f"{where}: no value for {', '.join(short)}")
                yield where, row
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a csv file in UTF-8 ({error})") from error
    except csv.Error as error:
        raise ValueError(
            f"{path}: row {reader.reader.line_num}: {error}; close each quote, and double the quotes inside a field"
        ) from error


def read_words(path: Path, columns: tuple[str, ...]) -> Rows:
    """Rows of a text file without a header, with one word for each column."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error})") from error
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words and len(words) != len(columns):
            raise ValueError(f"{path}: row {number}: {line.strip()!r} is not {' and '.join(columns)}")
        if words:
            yield f"{path}: row {number}", dict(zip(columns, words, strict=True))


def read_json_list(path: Path) -> list:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing; the split needs it beside the other lists")
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file in UTF-8 ({error})") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: contains a {type(entries).__name__}, not a list")
    return entries


def read_mos(text: str, where: str, column: str, low: float = -math.inf, high: float = math.inf) -> float:
    try:
        mos = float(plain_digits(text.strip()))
    except ValueError:
        mos = math.nan
    if not (math.isfinite(mos) and low <= mos <= high):
        scale = f" in {low:g}-{high:g}" if math.isfinite(high - low) else ""
        raise ValueError(f"{where}: {column} is {text!r}, not a {'finite ' * (not scale)}number{scale}")
    return mos


class MatFile:
    """The variables of a MATLAB 5 file."""

    def __init__(self, path: Path):
        import scipy.io  # slow to load, and few label files need it

        self.path = path
        try:
            self.variables = scipy.io.loadmat(path)
        except NotImplementedError as error:
            raise ValueError(f"{path}: a MATLAB 7.3 file; save it with save(..., '-v7')") from error
        except Exception as error:  # scipy raises many kinds
            raise ValueError(f"{path}: not a MATLAB 5 file ({error})") from error

    def vector(self, key: str, kinds: str, name: str) -> np.ndarray:
        """A row, a column or a matrix as a vector; `kinds` are numpy's letters for the kinds of dtypes."""
        value = self.variables.get(key)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in kinds:
            raise ValueError(f"{self.path}: {key} is missing or not a {name}")
        return np.ravel(value)

    def numbers(self, key: str) -> np.ndarray:
        return self.vector(key, "biuf", "vector of numbers")

    def texts(self, key: str) -> list[str]:
        """A cell array of texts, or a matrix of characters with one text in each row."""
        cells = [np.asarray(entry) for entry in self.vector(key, "OU", "cell array of texts")]
        for number, cell in enumerate(cells, 1):
            if cell.dtype.kind != "U" or cell.size != 1:
                raise ValueError(f"{self.path}: {key} entry {number} is not a text, but {cell!r:.60}")
        return [cell.item().rstrip() for cell in cells]
