"""All numbers of a report, from checked runs: `analyse` returns them as one Analysis."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from iqa import metrics
from iqa.health import LIMITATIONS, is_improving, last_rise
from iqa.report.comparisons import Difference, comparisons_of, differences_of, levels_of, measure, with_tests
from iqa.report.cross_dataset import CrossDataset, measure_data_sets
from iqa.report.parts import Groups, Plan, Without, measure_groups, measure_without
from iqa.report.readings import Attention, Conclusion, Outcome, read_attention, read_conclusion, read_outcomes
from iqa.report.rows import BASELINE, FULL, Grid, Row, find_grid
from iqa.report.runs import FREE_FLAGS, Run, comparable_runs, notes
from iqa.report.statistics import Estimate

KONIQ = "KonIQ-10k"
TO_BASELINE = ("both", "multiscale", "published")  # kinds of comparisons in the main table
DISAGREEMENTS = 5  # images to name


@dataclass(frozen=True)
class RunNumbers:
    """One run. Correlations are None for a run without scores."""

    folder: str
    variant: str
    seed: int
    failure: str | None
    limitations: tuple[str, ...]  # kinds
    srcc: float | None = None
    plcc: float | None = None
    krcc: float | None = None
    rmse: float | None = None
    plcc_mapped: float | None = None
    rmse_mapped: float | None = None
    selected_epoch: int | None = None
    epochs: int | None = None
    best_test_srcc: float | None = None
    best_test_plcc: float | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Level:
    """One row: the means over its runs that have scores. Without such a run the estimates are None."""

    row: Row
    runs: list[RunNumbers]
    srcc: Estimate | None
    plcc: Estimate | None
    srcc_deviation: float | None  # over runs; None with fewer than two
    plcc_deviation: float | None
    parameters: int | None
    gflop_per_patch: float | None
    weights: str | None  # that the backbone started from
    rise: float | None  # rise of the mean validation curve in its last epoch, if it was still improving

    def mean(self, name: str) -> float | None:
        """Mean of a field of RunNumbers over the runs with scores; None if a run lacks it."""
        values = [getattr(run, name) for run in self.runs if run.srcc is not None]
        return None if not values or None in values else float(np.mean(values))

    @property
    def failed(self) -> list[RunNumbers]:
        return [run for run in self.runs if run.failure]


@dataclass(frozen=True)
class Disagreement:
    """A test image on which the error changed much from baseline to full variant, scores averaged over runs."""

    image_name: str
    mos: float
    baseline: float
    full: float
    error_change: float


@dataclass(frozen=True)
class Setup:
    """The data needed to repeat the runs. Flags are those that all runs share and that are set."""

    commit: str | None
    versions: dict[str, str]
    device: str | None
    precision: str | None
    split: dict
    flags: dict[str, object]
    seeds: tuple[int, ...]


@dataclass
class Analysis:
    """Everything in report.json. `answer`, `limits` and `figures` are added when the report is written."""

    dataset: str  # in words
    koniq: bool
    mos_range: tuple[float, float]
    test_images: int
    select_on: str
    grid: Grid
    levels: list[Level]
    differences: list[Difference]
    outcomes: list[Outcome]
    conclusion: Conclusion | None
    attention: list[Attention]
    disagreements: list[Disagreement]
    groups: Groups | None
    without: Without | None
    cross_dataset: CrossDataset | None
    missing: list[str]
    unfinished: list[str]
    mismatches: list[str]
    notes: list[str]
    undefined_resamples: int
    draws: int
    seed: int
    setup: Setup
    answer: str = ""
    limits: list[str] = field(default_factory=list)
    figures: dict[str, str] = field(default_factory=dict)  # file name -> caption

    def level(self, log_name: str) -> Level:
        return next(level for level in self.levels if level.row.log_name == log_name)

    @property
    def primary(self) -> Difference | None:
        return next((difference for difference in self.differences if difference.key == "both"), None)

    def difference_to_baseline(self, log_name: str) -> Difference | None:
        """The difference to the baseline on the same backbone, or of the published models, for the main table."""
        found = (d for d in self.differences if d.comparison.after == log_name)
        return next((d for d in found if d.comparison.kind in TO_BASELINE), None)

    def limitations(self) -> dict[str, list[str]]:
        """Kind of a limitation -> runs."""
        runs = [run for level in self.levels for run in level.runs]
        found = {kind: [run.folder for run in runs if kind in run.limitations] for kind in LIMITATIONS}
        return {kind: folders for kind, folders in found.items() if folders}


def analyse(
    log_folder: Path,
    *,
    evaluations: Sequence[Path],
    groups: str | None,
    without: Path | None,
    allow_mismatch: bool,
    draws: int,
    seed: int,
) -> tuple[Analysis, list[Run]]:
    """Read the runs of a log folder; returns their numbers and the runs on their common test images.

    The arguments are the flags of report_ablation.py.

    Raises:
        FileNotFoundError, ValueError: names the file or flag, and the way out.
    """
    grid = find_grid(log_folder)
    runs, unfinished, found = comparable_runs(log_folder, grid.rows(), allow_mismatch=allow_mismatch)
    scored = [run for run in runs if run.predictions]
    plan = Plan(grid, comparisons_of(grid), draws, seed)
    dataset = _dataset(runs)
    analysis = Analysis(
        dataset=dataset,
        koniq=dataset == KONIQ,
        mos_range=tuple(scored[0].config.get("mos_range") or (0, 100)),
        select_on=" and ".join(sorted({run.select_on for run in scored})),
        grid=grid,
        attention=read_attention(grid, scored),
        disagreements=_disagreements(grid, scored),
        # The parts come first: errors of the flags before the long computation on all images.
        cross_dataset=measure_data_sets(log_folder, evaluations, scored, plan, allow_mismatch=allow_mismatch),
        groups=measure_groups(scored, plan, groups),
        without=measure_without(scored, plan, without),
        **_on_all_images(runs, scored, plan),
        missing=[row.log_name for row in grid.rows() if row.log_name not in {run.variant for run in runs}],
        unfinished=unfinished,
        mismatches=found,
        notes=notes(runs),
        draws=draws,
        seed=seed,
        setup=_setup(runs),
    )
    return analysis, runs


def _on_all_images(runs: Sequence[Run], scored: Sequence[Run], plan: Plan) -> dict[str, object]:
    """The fields of Analysis that are computed on all test images."""
    images, measured = len(scored[0].predictions.names), measure(scored, plan.draws, plan.seed)
    levels = levels_of(plan.grid, scored, measured)
    differences = with_tests(differences_of(plan.comparisons, scored, measured), images)
    outcomes = read_outcomes(differences, levels, images)
    return {
        "test_images": images,
        "levels": [_level(row, runs, levels[row.log_name]) for row in plan.grid.rows()],
        "differences": differences,
        "outcomes": outcomes,
        "conclusion": read_conclusion(plan.grid, differences, outcomes),
        "undefined_resamples": int(np.isnan(measured["srcc"].resamples).any(axis=0).sum()),
    }


def _dataset(runs: Sequence[Run]) -> str:
    """The data set in words."""
    described = [note.rstrip(".") for run in runs if (note := run.config.get("dataset_note"))]
    flags = [flag for run in runs if (flag := run.config["flags"].get("dataset")) not in (None, "koniq-10k")]
    return [*described, *(f"--dataset {flag}" for flag in flags), KONIQ][0]


def _run_numbers(run: Run) -> RunNumbers:
    numbers = RunNumbers(run.name, run.variant, run.seed, run.failure, run.limitations)
    if not run.predictions:
        return numbers
    scores, mos = run.predictions.scores, run.predictions.mos
    measures = {name: getattr(metrics, name)(scores, mos) for name in ("srcc", "plcc", "krcc", "rmse")}
    try:
        mapped = metrics.logistic_map(scores, mos)
        measures |= {"plcc_mapped": metrics.plcc(mapped, mos), "rmse_mapped": metrics.rmse(mapped, mos)}
    except ValueError:  # the fit did not converge: the mapped measures are None
        pass
    stored = ("selected_epoch", "epochs", "best_test_srcc", "best_test_plcc", "seconds")
    return replace(numbers, **measures, **{name: run.result.get(name) for name in stored})


def _level(row: Row, runs: Sequence[Run], estimates: dict[str, Estimate] | None) -> Level:
    runs = [run for run in runs if run.variant == row.log_name]
    numbers = [_run_numbers(run) for run in runs]
    config = runs[0].config if runs else {"flags": {}}
    return Level(
        row,
        numbers,
        **(estimates or {"srcc": None, "plcc": None}),
        srcc_deviation=_deviation([run.srcc for run in numbers if run.srcc is not None]),
        plcc_deviation=_deviation([run.plcc for run in numbers if run.plcc is not None]),
        parameters=config.get("parameters"),
        gflop_per_patch=config.get("gflop_per_patch"),
        weights=config.get("backbone_weights") or config["flags"].get("weights"),
        rise=_mean_rise(runs),
    )


def _deviation(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _mean_rise(runs: Sequence[Run]) -> float | None:
    """Rise of the mean validation curve of healthy runs in its last epoch, if it was still improving."""
    curves = [[line.get(f"{run.select_on}_srcc") for line in run.epochs] for run in runs if not run.failure]
    curves = [curve for curve in curves if curve and None not in curve]
    if not curves:
        return None
    length = min(map(len, curves))
    rise, fall = last_rise(np.mean([curve[:length] for curve in curves], axis=0))
    return rise if is_improving(rise, fall) else None


def _disagreements(grid: Grid, scored: Sequence[Run]) -> list[Disagreement]:
    """The images whose absolute error changed most from baseline to full variant on the first backbone."""
    before, after = (
        [run.predictions.scores for run in scored if run.variant == grid.families[0].log_name(ending)]
        for ending in (BASELINE, FULL)
    )
    if not before or not after:
        return []
    names, mos = scored[0].predictions.names, scored[0].predictions.mos
    baseline, full = np.mean(before, axis=0), np.mean(after, axis=0)
    change = np.abs(full - mos) - np.abs(baseline - mos)
    order = np.argsort(-np.abs(change), kind="stable")[:DISAGREEMENTS]
    return [
        Disagreement(names[i], *(float(values[i]) for values in (mos, baseline, full, change)))
        for i in order
        if change[i] != 0
    ]


def _setup(runs: Sequence[Run]) -> Setup:
    flags = [run.config["flags"] for run in runs]
    shared = {
        name: value
        for name, value in flags[0].items()
        if name not in FREE_FLAGS and value not in (None, False) and all(other.get(name) == value for other in flags)
    }
    config = runs[0].config
    return Setup(
        **{name: config.get(name) for name in ("commit", "device", "precision", "split")},
        versions=config.get("versions") or {},
        flags=shared,
        seeds=tuple(sorted({run.seed for run in runs})),
    )
