"""Evaluations of the report's runs on other data sets -> numbers: levels, differences, and whether their order holds.

A difference that is shown on the report's own test images *holds* on another data set where it is shown there with the same
sign, is *reversed* where it is shown with the other, and else is *not shown*. Holm's correction is over all differences on all
these data sets.
"""

from pathlib import Path

from iqa.report.evaluations import Evaluation, by_data_set, mismatches_of, name_of, on_common_images, seen
from iqa.report.numbers import Bootstrap
from iqa.report.parts import correct_together, part_numbers, without_numbers
from iqa.report.rows import Grid
from iqa.report.runs import Run


def elsewhere_numbers(
    evaluations: list[Evaluation],
    left_out: list[str],
    runs: list[Run],
    grid: Grid,
    sick: set[str],
    *,
    allow_mismatch: bool,
    draws: int,
    seed: int,
) -> dict | None:
    """A part for each data set; None where there is neither an evaluation nor one that was left out.

    Args:
        runs: of the report, of which those without an evaluation are named.
        sick: the folders of the runs that are not sound.

    Raises:
        ValueError: evaluations of one data set differ in more than their run, and `allow_mismatch` is not given.
    """
    if not (evaluations or left_out):
        return None
    columns = by_data_set(evaluations)
    found = [text for column in columns.values() for text in mismatches_of(column)]
    if found and not allow_mismatch:
        raise ValueError(
            f"{columns_folder(evaluations)}: the evaluations of a data set differ in more than their run, so they are "
            f"not compared. {'. '.join(found)}. Evaluate alike, or pass --allow_mismatch"
        )
    parts = [column_numbers(of, column, runs, grid, sick, draws, seed) for of, column in columns.items()]
    correct_together(parts)
    return {"parts": parts, "left_out": left_out, "mismatches": found}


def columns_folder(evaluations: list[Evaluation]) -> Path:
    return evaluations[0].predictions.parent


def column_numbers(
    of: tuple[str, str], column: list[Evaluation], runs: list[Run], grid: Grid, sick: set[str], draws: int, seed: int
) -> dict:
    """One data set as a part."""
    common, name = on_common_images(column), name_of(of)
    order = {run.folder: place for place, run in enumerate(runs)}
    common.sort(key=lambda run: order[run.folder])
    facts = column[0].facts
    why = without_numbers(common)
    part = (
        {"name": name, "test_images": len(common[0].names), "error": why}
        if why
        else part_numbers(name, common, grid, sick, Bootstrap(common, draws, seed))
    )
    evaluated = {run.folder for run in common}
    return {
        **part,
        "seeds": sorted({run.seed for run in common}),
        "seen": seen(facts),
        "crops": facts["crops"],
        "precision": facts["precision"],
        "files": [str(evaluation.predictions) for evaluation in column],
        "without": [run.name for run in runs if run.folder not in evaluated],
    }
