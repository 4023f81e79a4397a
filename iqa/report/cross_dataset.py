"""Evaluations of the report's runs on other data sets.

An evaluation belongs to a run of the report if it has that run's run_id and its chosen epoch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iqa.json_files import read_json
from iqa.predictions import read_predictions
from iqa.report.parts import Part, Plan, measure_part
from iqa.report.rows import refuse_duplicates
from iqa.report.runs import Run, difference, image_mismatches, on_common_images

AGAIN = "evaluate again with --overwrite"
KEYS = ("run_id", "variant", "epoch", "dataset", "set", "split", "trained_on", "crops", "precision")


@dataclass(frozen=True)
class Evaluation:
    """A run of the report on the images of another data set."""

    facts: dict  # content of evaluation_*.json
    file: Path  # file of the predictions
    run: Run

    @property
    def name(self) -> str:
        """'livec', or 'koniq-10k, test set'"""
        dataset, chosen = self.facts["dataset"], self.facts["set"]
        return dataset if chosen == "all" else f"{dataset}, {chosen} set"


@dataclass(frozen=True)
class DataSet:
    """The runs on one other data set."""

    part: Part
    crops: str
    precision: str
    seen: str | None  # why the images are not new to the models; None if they are
    not_evaluated: tuple[str, ...]  # runs
    files: tuple[str, ...]
    order: tuple[str, ...]  # log names of the first backbone's variants, the highest SRCC first


@dataclass(frozen=True)
class CrossDataset:
    data_sets: list[DataSet]
    left_out: list[str]  # sentences on evaluations in the log folder that belong to no run of the report
    mismatches: list[str]


def _read_evaluations(
    log_folder: Path, named: Iterable[Path], runs: Sequence[Run]
) -> tuple[list[Evaluation], list[str]]:
    """The evaluations of these runs, and sentences on those in the log folder that belong to none."""
    named = list(dict.fromkeys(folder.resolve() for folder in named))
    found = [path for path in sorted(log_folder.glob("evaluation_*")) if path.is_dir() and path.resolve() not in named]
    evaluations, left_out = [], []
    for folder in [*found, *named]:
        files = sorted(folder.glob("evaluation_*.json"))
        reasons = [] if files else [f"{folder}: no evaluation_*.json, which score_images.py --data_path writes"]
        for path in files:
            evaluation = _read_evaluation(path, runs)
            (reasons if isinstance(evaluation, str) else evaluations).append(evaluation)
        if reasons and folder in named:
            raise ValueError(f"{reasons[0]}; name only folders of this report's runs")
        left_out += [f"{reason}; left out." for reason in reasons]
    refuse_duplicates((found.file, f"of {found.run.name} on {found.name}") for found in evaluations)
    return evaluations, left_out


def _read_evaluation(path: Path, runs: Sequence[Run]) -> Evaluation | str:
    """The evaluation of one file, or why it belongs to none of these runs."""
    facts = read_json(path, AGAIN, keys=KEYS)
    split, trained_on = facts["split"], facts["trained_on"]
    if not all(isinstance(part, dict) for part in (split, trained_on)) or not isinstance(trained_on.get("split"), dict):
        raise ValueError(f"{path}: 'split' or 'trained_on' has an unknown format; {AGAIN}")
    run = next((run for run in runs if facts["run_id"] and run.config.get("run_id") == facts["run_id"]), None)
    if run is None:
        return f"{path}: its checkpoint {facts.get('checkpoint')} belongs to no run in this report"
    chosen = run.result["selected_epoch"]
    if facts["epoch"] != chosen:
        return (
            f"{path}: evaluates epoch {facts['epoch']} of {run.name}, not its chosen epoch {chosen}; use its _best.pth"
        )
    file = path.with_name(path.name.replace("evaluation_", "predictions_", 1)).with_suffix(".csv")
    return Evaluation(facts, file, run.on(read_predictions(file, AGAIN)))


def measure_data_sets(
    log_folder: Path, named: Iterable[Path], runs: Sequence[Run], plan: Plan, *, allow_mismatch: bool
) -> CrossDataset | None:
    """Numbers on each data set that these runs were evaluated on; None if there is no evaluation.

    Args:
        named: folders that the user names; everything in them has to belong to these runs.

    Raises:
        FileNotFoundError, ValueError: names the file.
    """
    evaluations, left_out = _read_evaluations(log_folder, named, runs)
    if not evaluations and not left_out:
        return None
    by_name = {name: [x for x in evaluations if x.name == name] for name in sorted({x.name for x in evaluations})}
    found = [text for name, members in by_name.items() for text in _mismatches(name, members)]
    if found and not allow_mismatch:
        raise ValueError(
            f"{evaluations[0].file.parent}: the evaluations of a data set differ in more than their run. "
            f"{'. '.join(found)}. Evaluate them alike, or pass --allow_mismatch"
        )
    data_sets = []
    for name, members in by_name.items():
        members = [evaluation for run in runs for evaluation in members if evaluation.run.folder == run.folder]
        common = on_common_images([evaluation.run for evaluation in members], "evaluations")
        part, _ = measure_part(name, common, plan)
        facts, evaluated = members[0].facts, {run.folder for run in common}
        first = [row.log_name for row in plan.grid.families[0].rows() if part.levels.get(row.log_name)]
        data_sets.append(
            DataSet(
                part,
                facts["crops"],
                facts["precision"],
                _why_seen(facts),
                tuple(run.name for run in runs if run.folder not in evaluated),
                tuple(str(evaluation.file) for evaluation in members),
                tuple(sorted(first, key=lambda log_name: -part.levels[log_name]["srcc"].value)),
            )
        )
    return CrossDataset(data_sets, left_out, found)


def _mismatches(name: str, evaluations: Sequence[Evaluation]) -> list[str]:
    """Differences between the evaluations of one data set in what should be equal."""
    runs, facts = [evaluation.run for evaluation in evaluations], [evaluation.facts for evaluation in evaluations]
    crops = [str(x["crops"]).replace(f" of seed {x.get('seed')}", "") for x in facts]
    found = difference(f"{name}: crops", runs, crops)
    found += difference(f"{name}: precision", runs, [x["precision"] for x in facts])
    return found + image_mismatches(f"{name}: the images", runs)


def _why_seen(facts: dict) -> str | None:
    trained = facts["trained_on"]
    if facts["split"].get("sha256") == trained["split"].get("sha256"):
        reasons = {
            "test": "they are the test images of this report",
            "val": "the epochs were chosen on these images",
        }
        return reasons.get(facts["set"], "the models were trained on some of these images")
    if facts["dataset"] == trained.get("dataset"):
        return "the models may have been trained on some of these images, with other labels or another split"
    return None
