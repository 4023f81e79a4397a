"""Prediction files: one CSV row per image with its MOS, its score and, if the model has them, attention weights."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from iqa.atomic_files import csv_text

ATTENTION_COLUMNS = tuple(f"attention_stage{stage}" for stage in (1, 2, 3, 4))


@dataclass(frozen=True)
class Predictions:
    """Scores of N images. All arrays are in the order of `names`."""

    names: Sequence[str]
    mos: np.ndarray  # [N]
    scores: np.ndarray  # [N]
    attention: np.ndarray | None = None  # [N, 4]; each row sums to 1

    def to_csv(self) -> str:
        """Return the text of the file. Numbers are written in full precision."""
        columns = ATTENTION_COLUMNS if self.attention is not None else ()
        weights = [()] * len(self.names) if self.attention is None else self.attention.tolist()
        rows = zip(self.names, self.mos.tolist(), self.scores.tolist(), weights, strict=True)
        return csv_text([("image_name", "mos", "score", *columns), *((*row, *more) for *row, more in rows)])

    @classmethod
    def from_csv(cls, text: str) -> "Predictions":
        """Parse the text of a file; the rows keep their order.

        Raises:
            ValueError: a column is missing, a value is not a number, a MOS is not finite or an image occurs twice.
        """
        reader = csv.DictReader(io.StringIO(text, newline=""))
        columns = reader.fieldnames or []
        missing = [column for column in ("image_name", "mos", "score") if column not in columns]
        if missing:
            raise ValueError(f"no column {missing[0]!r} among {columns}")
        rows = list(reader)
        names = [row["image_name"] for row in rows]
        if len(set(names)) < len(names):
            raise ValueError("an image is named twice")
        try:
            mos, scores = (np.array([float(row[column]) for row in rows]) for column in ("mos", "score"))
            weights = [[float(row[column]) for column in ATTENTION_COLUMNS if column in columns] for row in rows]
        except TypeError as error:  # a row with fewer cells than the header
            raise ValueError(f"a row is incomplete: {error}") from None
        if not np.isfinite(mos).all():
            raise ValueError(f"mos: {np.count_nonzero(~np.isfinite(mos))} of {len(mos)} values are not finite")
        return cls(names, mos, scores, np.array(weights) if ATTENTION_COLUMNS[0] in columns else None)

    def select(self, indices: Sequence[int]) -> "Predictions":
        """Return the images at these positions, in this order."""
        indices = np.asarray(indices, dtype=int)
        attention = None if self.attention is None else self.attention[indices]
        return Predictions([self.names[i] for i in indices], self.mos[indices], self.scores[indices], attention)


def read_predictions(path: Path, way_out: str = "repeat the run") -> Predictions:
    """Read a file of predictions, sorted by image name; `way_out` ends the error about a file that is unusable."""
    try:
        predictions = Predictions.from_csv(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: missing, so the folder is incomplete; {way_out}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {way_out}") from None
    return predictions.select(sorted(range(len(predictions.names)), key=predictions.names.__getitem__))
