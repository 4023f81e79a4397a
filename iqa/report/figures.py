"""Runs and numbers of one backbone -> figures, PNG and PDF, 8.5 cm wide: told apart by colour (Okabe-Ito), marker and line style."""

from collections.abc import Callable, Iterable
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import MaxNLocator  # noqa: E402

from iqa.atomic_files import atomic_path  # noqa: E402
from iqa.report.numbers import COMPARISONS  # noqa: E402
from iqa.report.rows import ENDINGS, FULL, IN_TABLES, MULTISCALE  # noqa: E402
from iqa.report.runs import STAGES, Run  # noqa: E402

# file name -> (function, caption)
Figures = dict[str, tuple[Callable[[list[Run], dict], Figure | None], str]]

WIDTH = 8.5 / 2.54  # inches
STYLE = {
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "legend.fontsize": 6.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}

# Okabe & Ito (2008), Color universal design: (colour, marker, line style)
VARIANT_LOOK = dict(zip(ENDINGS, [("#0072B2", "o", "-"), ("#E69F00", "s", "--"), ("#009E73", "^", "-.")], strict=True))
COMPARISON_LOOK = dict(
    zip(COMPARISONS, [VARIANT_LOOK[MULTISCALE], ("#CC79A7", "D", ":"), VARIANT_LOOK[FULL]], strict=True)
)
STAGE_LOOK = [("#56B4E9", "o", "-"), ("#E69F00", "s", "--"), ("#CC79A7", "^", "-."), ("#000000", "D", ":")]


def write_figures(runs: list[Run], numbers: dict, folder: Path, figures: Figures) -> dict[str, str]:
    """Write every one of the figures that the numbers allow; its name and caption, in the order of the report."""
    folder.mkdir(exist_ok=True)
    captions = {}
    for name, (draw, caption) in figures.items():
        with plt.rc_context(STYLE):
            figure = draw(runs, numbers)
            if figure is not None:
                _save(figure, folder / name)
                captions[name] = caption
    return captions


def _save(figure: Figure, stem: Path) -> None:
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):  # the same bytes every time
        with atomic_path(stem.with_suffix(f".{kind}")) as path:
            figure.savefig(path, format=kind, metadata=metadata)
    plt.close(figure)


# ---- the figures ---------------------------------------------------------------------------------------------


def training_curves(runs: list[Run], numbers: dict) -> Figure | None:
    """Validation SRCC (test where there is no validation set) and training loss per epoch."""
    if not any(run.epochs for run in runs):
        return None
    split = "val" if any(line.get("val_srcc") is not None for run in runs for line in run.epochs) else "test"
    figure, panels = plt.subplots(2, 1, figsize=(WIDTH, WIDTH * 1.05), sharex=True)
    rows = {f"{split}_srcc": f"{'Validation' if split == 'val' else 'Test'} SRCC", "train_loss": "Training loss"}
    for panel, (key, label) in zip(panels, rows.items(), strict=True):
        for variant, found in by_variant(runs, numbers):
            band(panel, [series(run, key) for run in found], VARIANT_LOOK[variant], short_name(variant))
        panel.set_ylabel(label)
    panels[1].set_xlabel("Epoch")
    panels[1].xaxis.get_major_locator().set_params(integer=True)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, columnspacing=1.0)
    return figure


def series(run: Run, key: str) -> dict[int, float]:
    return {line["epoch"]: line[key] for line in run.epochs if line.get(key) is not None}


def band(panel: plt.Axes, series: list[dict[int, float]], look: tuple[str, str, str], label: str) -> None:
    """The mean over seeds as a line, and their range as a band."""
    epochs = sorted(set.intersection(*(set(values) for values in series)))
    values = np.array([[run[epoch] for epoch in epochs] for run in series])
    colour, marker, line = look
    panel.plot(epochs, values.mean(axis=0), line, color=colour, marker=marker, label=label)
    if len(series) > 1:
        panel.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)


def predicted_against_true(runs: list[Run], numbers: dict) -> Figure:
    """Predicted score over MOS for every test image, the first seed of each variant."""
    found = [(variant, members[0]) for variant, members in by_variant(runs, numbers)]
    figure, panels = plt.subplots(
        1, len(ENDINGS), figsize=(WIDTH, WIDTH * 0.48), sharex=True, sharey=True, squeeze=False
    )
    ends = ends_of([run for _, run in found], numbers)
    for panel, variant in zip(panels[0], ENDINGS, strict=True):
        panel.set_title(short_name(variant).replace(" + ", "\n+ "))
        scatter(panel, [run for name, run in found if name == variant], VARIANT_LOOK[variant], ends)
    panels[0][0].set_ylabel("Predicted score")
    panels[0][1].set_xlabel("True score (MOS)")
    return figure


def ends_of(runs: list[Run], numbers: dict) -> list[float]:
    """Of both axes, so that all scores and MOS are in."""
    values = np.concatenate([np.concatenate([run.mos, run.scores]) for run in runs])
    margin = 0.02 * (numbers["mos_range"][1] - numbers["mos_range"][0])
    return [values.min() - margin, values.max() + margin]


def scatter(panel: plt.Axes, runs: list[Run], look: tuple[str, str, str], ends: list[float]) -> None:
    panel.plot(ends, ends, color="black", linewidth=0.6, linestyle=":")
    for run in runs:
        colour, marker, _ = look
        dots = {"s": 3, "alpha": 0.2 if len(run.mos) > 300 else 0.7, "linewidths": 0, "rasterized": True}
        panel.scatter(run.mos, run.scores, color=colour, marker=marker, **dots)
    panel.set(xlim=ends, ylim=ends, aspect="equal")


def delta_srcc(runs: list[Run], numbers: dict) -> Figure | None:
    """The differences in SRCC with their 95% intervals; the differences of single seeds as small ticks."""
    return intervals(
        [
            (COMPARISONS[name][2], found, COMPARISON_LOOK[name])
            for name, found in numbers["comparisons"].items()
            if found
        ],
        WIDTH,
    )


def intervals(found: list[tuple[str, dict, tuple[str, str, str]]], width: float) -> Figure | None:
    """A line for each comparison: its name, its numbers and its look."""
    if not found:
        return None
    figure, panel = plt.subplots(figsize=(width, 0.55 + 0.32 * len(found)))
    for row, (_, comparison, (colour, marker, _)) in enumerate(found):
        interval = comparison["srcc"]
        panel.plot([interval["low"], interval["high"]], [row, row], color=colour, linewidth=1.6)
        panel.plot(interval["estimate"], row, marker, color=colour, markersize=5)
        if interval["seeds"] > 1:
            ticks = [numbers_of_seed["srcc"] for numbers_of_seed in comparison["per_seed"]]
            panel.plot(ticks, [row + 0.25] * len(ticks), "|", color="black")
    panel.axvline(0, color="black", linewidth=0.6, linestyle=":")
    panel.set_yticks(range(len(found)), [label for label, _, _ in found])
    panel.set(ylim=(len(found) - 0.5, -0.5), xlabel="Δ SRCC, 95% interval")
    panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return figure


def attention_by_mos(runs: list[Run], numbers: dict) -> Figure | None:
    """Mean attention per stage in groups of images of rising MOS."""
    groups = numbers["attention_by_mos"]
    if not groups:
        return None
    figure, panel = plt.subplots(figsize=(WIDTH, WIDTH * 0.62))
    attention_lines(panel, groups)
    figure.legend(*panel.get_legend_handles_labels(), loc="outside upper center", ncols=4, columnspacing=1.0)
    return figure


def attention_lines(panel: plt.Axes, groups: dict) -> None:
    for number, (stage, (colour, marker, line)) in enumerate(zip(STAGES, STAGE_LOOK, strict=True), start=1):
        panel.plot(groups["mos"], groups[stage], line, color=colour, marker=marker, label=f"Stage {number}")
    panel.axhline(0.25, color="grey", linewidth=0.6, zorder=0)
    panel.annotate(
        "uniform", (groups["mos"][-1], 0.25), (0, 1.5), textcoords="offset points", ha="right", color="grey", fontsize=6
    )
    panel.set(xlabel="Mean MOS of the decile", ylabel="Mean attention", ylim=(0, None))


def short_name(variant: str) -> str:
    """'Baseline', 'Multi-scale', 'Multi-scale + attention'"""
    name = IN_TABLES[variant].removeprefix("{} ").removeprefix("+ ")
    return name[:1].upper() + name[1:]


def by_variant(runs: list[Run], numbers: dict) -> Iterable[tuple[str, list[Run]]]:
    """The ending of each variant's log name, and its runs."""
    for ending, variant in numbers["family"]["rows"].items():
        found = [run for run in runs if run.variant == variant]
        if found:
            yield ending, found


FIGURES: Figures = {
    "training_curves": (training_curves, "SRCC and loss per epoch; mean over seeds, with their range"),
    "predicted_against_true": (predicted_against_true, "Predicted against true score, first seed of each variant"),
    "delta_srcc": (delta_srcc, "Differences in SRCC with 95% intervals; small ticks are single seeds"),
    "attention_by_mos": (attention_by_mos, "Mean attention per scale by decile of MOS"),
}
