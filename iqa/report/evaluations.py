"""The folders that train_resnet_improved.py --evaluate left -> the report's runs, on the images of other data sets.

An evaluation is of a run of the report where its run_id is that run's and its epoch the chosen one; a run on other images is
that run with other names, MOS and scores, so that all statistics of the report serve for it.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from iqa.report.runs import Run, differences_in, on_images, read_checked_predictions, read_json

AGAIN = "evaluate again with --overwrite"
KEYS = ("run_id", "variant", "epoch", "dataset", "set", "split", "trained_on", "crops", "precision")


class Evaluation(NamedTuple):
    """A run of the report on other images."""

    facts: dict
    predictions: Path
    run: Run

    @property
    def of(self) -> tuple[str, str]:
        """The data set and the set of it: a column of the tables."""
        return self.facts["dataset"], self.facts["set"]


def read_evaluations(log_folder: Path, named: Iterable[Path], runs: list[Run]) -> tuple[list[Evaluation], list[str]]:
    """The evaluations of these runs, and what was found in the log folder and left out, each in a sentence.

    Args:
        named: folders that the user names, in which everything has to be of these runs; those beginning with evaluation_ in
            the log folder may be of others.

    Raises:
        FileNotFoundError, ValueError: names the file.
    """
    named = list(dict.fromkeys(folder.resolve() for folder in named))
    found = [path for path in sorted(log_folder.glob("evaluation_*")) if path.is_dir() and path.resolve() not in named]
    evaluations, left_out = [], []
    for folder in [*found, *named]:
        files = sorted(folder.glob("evaluation_*.json"))
        if not files:
            why = f"{folder}: no evaluation_*.json, which train_resnet_improved.py --evaluate writes last"
            _tell(why, folder in named, left_out)
        for path in files:
            evaluation, why = _read_evaluation(path, runs)
            if why:
                _tell(why, folder in named, left_out)
            else:
                evaluations.append(evaluation)
    known: dict[tuple, Evaluation] = {}
    for evaluation in evaluations:
        other = known.setdefault((evaluation.run.folder, *evaluation.of), evaluation)
        if other is not evaluation:
            raise ValueError(
                f"{other.predictions} and {evaluation.predictions}: both are of {evaluation.run.name} on "
                f"{' '.join(evaluation.of)}; move one of them elsewhere"
            )
    return evaluations, left_out


def _tell(why: str, named: bool, left_out: list[str]) -> None:
    if named:
        raise ValueError(f"{why}; name the folders of this report's runs alone")
    left_out.append(f"{why}; left out.")


def _read_evaluation(path: Path, runs: list[Run]) -> tuple[Evaluation | None, str | None]:
    """The evaluation of one file, or why it is of none of these runs."""
    facts = read_json(path, AGAIN)
    absent = [key for key in KEYS if key not in facts]
    if absent:
        raise ValueError(f"{path}: no key {absent[0]!r}; {AGAIN}")
    if not all(
        isinstance(part, dict) for part in (facts["split"], facts["trained_on"], facts["trained_on"].get("split"))
    ):
        raise ValueError(f"{path}: 'split' or 'trained_on' is not as train_resnet_improved.py writes it; {AGAIN}")
    run = next((run for run in runs if facts["run_id"] and run.config.get("run_id") == facts["run_id"]), None)
    if run is None:
        return None, f"{path}: of {facts['checkpoint']}, a checkpoint of no run in this report"
    chosen = run.result["selected_epoch"]
    if facts["epoch"] != chosen:
        return (
            None,
            f"{path}: of epoch {facts['epoch']} of {run.name}, whose chosen epoch is {chosen}: evaluate its _best.pth",
        )
    predictions = path.with_name(path.name.replace("evaluation_", "predictions_", 1)).with_suffix(".csv")
    names, mos, scores, attention = read_checked_predictions(predictions, AGAIN)
    return Evaluation(facts, predictions, replace(run, names=names, mos=mos, scores=scores, attention=attention)), None


def by_data_set(evaluations: list[Evaluation]) -> dict[tuple[str, str], list[Evaluation]]:
    """The evaluations of each data set and set, in the order of their names."""
    return {of: [x for x in evaluations if x.of == of] for of in sorted({x.of for x in evaluations})}


def name_of(of: tuple[str, str]) -> str:
    """'livec', or 'koniq-10k, test set'"""
    dataset, chosen = of
    return dataset if chosen == "all" else f"{dataset}, {chosen} set"


def mismatches_of(evaluations: list[Evaluation]) -> list[str]:
    """In words, everything in which the evaluations of one data set differ that ought to be the same."""
    runs, facts = [x.run for x in evaluations], [x.facts for x in evaluations]
    of = name_of(evaluations[0].of)
    kinds = {"crops": [_crops(fact) for fact in facts], "precision": [fact["precision"] for fact in facts]}
    found = [f"{of}: {text}" for name, values in kinds.items() if (text := differences_in(name, runs, values))]
    others = [run.name for run in runs if run.names != runs[0].names]
    return found + ([f"{of}: the images of {', '.join(others)} are not those of {runs[0].name}"] if others else [])


def _crops(facts: dict) -> str:
    """How patches were cut, but for the seed of random ones, which is the run's."""
    return str(facts["crops"]).replace(f" of seed {facts.get('seed')}", "")


def on_common_images(evaluations: list[Evaluation]) -> list[Run]:
    """The runs on the images that all of them scored, which must have one MOS each."""
    common = set.intersection(*(set(x.run.names) for x in evaluations))
    runs = [on_images(x.run, [place for place, name in enumerate(x.run.names) if name in common]) for x in evaluations]
    for evaluation, run in zip(evaluations, runs, strict=True):
        if not np.allclose(run.mos, runs[0].mos, rtol=0, atol=1e-6):
            raise ValueError(
                f"{evaluation.predictions}: its MOS are not those of {evaluations[0].predictions} for the same "
                "images; evaluate with one label file"
            )
    return runs


def seen(facts: dict) -> str | None:
    """Why the images are none that the models had not seen, in words; None where they lie outside the training data."""
    trained = facts["trained_on"]
    same_split = facts["split"].get("sha256") == trained["split"].get("sha256")
    if same_split:
        return {
            "test": "the test images of this report itself",
            "val": "the images that the epochs were chosen on",
        }.get(facts["set"], "the models were trained on some of these images")
    if facts["dataset"] == trained.get("dataset"):
        return (
            "the models were trained on this data set with other labels or another split, and may have been trained on some "
            "of these images"
        )
    return None
