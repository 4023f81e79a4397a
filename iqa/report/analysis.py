"""All numbers of a report, from checked runs: `analyse` returns them as one Analysis."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from iqa import metrics
from iqa.health import LIMITATIONS, is_improving, last_rise
from iqa.report.comparisons import Difference, comparisons_of, differences, level, measure, with_tests
from iqa.report.cross_dataset import CrossDataset, measure_data_sets, read_evaluations
from iqa.report.parts import Groups, Without, declared_groups, measure_groups, measure_without
from iqa.report.readings import Attention, Conclusion, Outcome, read_attention, read_conclusion, read_outcome
from iqa.report.rows import BASELINE, FULL, Grid, Row, find_grid
from iqa.report.runs import FREE_FLAGS, Run, comparable_runs, notes
from iqa.report.statistics import Estimate

KONIQ = "koniq-10k"
DISAGREEMENTS = 5  # images to name


@dataclass(frozen=True)
class Options:
    """Flags of report_ablation.py."""

    evaluations: Sequence[Path] = ()
    groups: str | None = None
    without: Path | None = None
    allow_mismatch: bool = False
    draws: int = metrics.DRAWS
    seed: int = 0


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

    def difference(self, key: str) -> Difference | None:
        return next((difference for difference in self.differences if difference.key == key), None)

    @property
    def primary(self) -> Difference | None:
        return self.difference("both")

    def difference_to_baseline(self, log_name: str) -> Difference | None:
        """The difference to the baseline on the same backbone, or of the published models, for the main table."""
        baselines = {family.log_name(BASELINE) for family in self.grid.families}
        for difference in self.differences:
            (sign, after), *others = difference.comparison.terms
            if after == log_name and len(others) == 1:
                if others[0][1] in baselines and difference.comparison.backbone or difference.key == "published":
                    return difference
        return None

    def limitations(self) -> dict[str, list[str]]:
        """Kind of a limitation -> runs."""
        runs = [run for level in self.levels for run in level.runs]
        found = {kind: [run.folder for run in runs if kind in run.limitations] for kind in LIMITATIONS}
        return {kind: folders for kind, folders in found.items() if folders}


def analyse(log_folder: Path, options: Options) -> tuple[Analysis, list[Run]]:
    """Read the runs of a log folder; returns their numbers and the runs on their common test images.

    Raises:
        FileNotFoundError, ValueError: names the file or flag, and the way out.
    """
    grid = find_grid(log_folder)
    runs, unfinished, found = comparable_runs(log_folder, grid.rows(), allow_mismatch=options.allow_mismatch)
    scored = [run for run in runs if run.predictions]
    comparisons = comparisons_of(grid)
    parts = _parts(log_folder, scored, grid, comparisons, options)
    measured = measure(scored, options.draws, options.seed)
    images = len(scored[0].predictions.names)
    tested = with_tests(differences(comparisons, scored, measured), images)
    levels = [_level(row, runs, scored, measured) for row in grid.rows()]
    outcomes = _outcomes(grid, tested, levels, images)
    analysis = Analysis(
        dataset=_dataset(runs),
        koniq=_is_koniq(runs),
        mos_range=tuple(scored[0].config.get("mos_range") or (0, 100)),
        test_images=images,
        select_on=" and ".join(sorted({run.select_on for run in scored})),
        grid=grid,
        levels=levels,
        differences=tested,
        outcomes=outcomes,
        conclusion=read_conclusion(grid, tested, outcomes),
        attention=_attention(grid, scored),
        disagreements=_disagreements(grid, scored),
        **parts,
        missing=[level.row.log_name for level in levels if not level.runs],
        unfinished=unfinished,
        mismatches=found,
        notes=notes(runs),
        undefined_resamples=int(np.isnan(measured["srcc"].resamples).any(axis=0).sum()),
        draws=options.draws,
        seed=options.seed,
        setup=_setup(runs),
    )
    return analysis, runs


def _parts(log_folder: Path, scored, grid: Grid, comparisons, options: Options) -> dict:
    """The runs on other sets of images, by the fields of Analysis."""
    evaluations, left_out = read_evaluations(log_folder, options.evaluations, scored)
    pattern, common = options.groups or declared_groups(scored), (scored, grid, comparisons)
    sampling = {"draws": options.draws, "seed": options.seed}
    cross_dataset = measure_data_sets(evaluations, left_out, *common, allow_mismatch=options.allow_mismatch, **sampling)
    return {
        "groups": measure_groups(*common, pattern, **sampling) if pattern else None,
        "without": measure_without(*common, options.without, **sampling) if options.without else None,
        "cross_dataset": cross_dataset,
    }


def _attention(grid: Grid, scored: Sequence[Run]) -> list[Attention]:
    found = [
        read_attention(f"{row.backbone}: {row.title}", [run for run in scored if run.variant == row.log_name])
        for row in grid.rows()
    ]
    return [attention for attention in found if attention]


def _is_koniq(runs: Sequence[Run]) -> bool:
    return all(
        not run.config.get("dataset_note") and run.config["flags"].get("dataset") in (None, KONIQ) for run in runs
    )


def _dataset(runs: Sequence[Run]) -> str:
    """The data set in words."""
    if _is_koniq(runs):
        return "KonIQ-10k"
    notes = [note.rstrip(".") for run in runs if (note := run.config.get("dataset_note"))]
    flags = [flag for run in runs if (flag := run.config["flags"].get("dataset")) not in (None, KONIQ)]
    return notes[0] if notes else f"--dataset {flags[0]}"


def _run_numbers(run: Run) -> RunNumbers:
    limitations = tuple(finding.kind for finding in run.findings if finding.kind in LIMITATIONS)
    numbers = RunNumbers(run.name, run.variant, run.seed, run.failure, limitations)
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


def _level(row: Row, runs: Sequence[Run], scored: Sequence[Run], measured: dict) -> Level:
    members = [run for run in runs if run.variant == row.log_name]
    config = members[0].config if members else {}
    gflop = config.get("gflop_per_patch")
    numbers = [_run_numbers(run) for run in members]
    values = {metric: [getattr(n, metric) for n in numbers if n.srcc is not None] for metric in ("srcc", "plcc")}
    deviation = {metric: float(np.std(v, ddof=1)) if len(v) > 1 else None for metric, v in values.items()}
    return Level(
        row,
        numbers,
        level(row.log_name, scored, measured["srcc"]),
        level(row.log_name, scored, measured["plcc"]),
        deviation["srcc"],
        deviation["plcc"],
        config.get("parameters"),
        float(gflop) if isinstance(gflop, int | float) else None,
        config.get("backbone_weights") or config.get("flags", {}).get("weights"),
        _mean_rise(members),
    )


def _mean_rise(runs: Sequence[Run]) -> float | None:
    """Rise of the mean validation curve of healthy runs in its last epoch, if it was still improving."""
    curves = []
    for run in runs:
        curve = [line.get(f"{run.select_on}_srcc") for line in run.epochs]
        if not run.failure and curve and None not in curve:
            curves.append(curve)
    length = min(map(len, curves), default=0)
    if not length:
        return None
    rise, fall = last_rise(np.mean([curve[:length] for curve in curves], axis=0))
    return rise if is_improving(rise, fall) else None


def _outcomes(grid: Grid, tested: Sequence[Difference], levels: Sequence[Level], images: int) -> list[Outcome]:
    by_row = {level.row.log_name: level.srcc for level in levels}
    found = []
    for family in grid.families:
        terms = ((1, family.log_name(FULL)), (-1, family.log_name(BASELINE)))
        for difference in tested:
            if difference.comparison.terms == terms:
                outcome = read_outcome(difference, by_row[family.log_name(BASELINE)], images)
                found += [outcome] if outcome else []
    return found


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
        config.get("commit"),
        config.get("versions") or {},
        config.get("device"),
        config.get("precision"),
        config["split"],
        shared,
        tuple(sorted({run.seed for run in runs})),
    )
