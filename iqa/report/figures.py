"""Figures of a report, as PNG and PDF: 8.5 cm wide, or 17.6 cm with several backbones."""

import os
from collections.abc import Sequence
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"  # figures are files, whatever the user's choice for windows

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from iqa.atomic_files import atomic_path
from iqa.report.analysis import Analysis
from iqa.report.comparisons import Difference
from iqa.report.rows import BASELINE, ENDINGS, FULL, HYPERIQA, MULTISCALE, SMART_IQA
from iqa.report.runs import Run

WIDTH, WIDE = 8.5 / 2.54, 17.6 / 2.54  # inches
STYLE = {
    **dict.fromkeys(("font.size", "axes.titlesize", "axes.labelsize"), 7),
    **dict.fromkeys(("legend.fontsize", "xtick.labelsize", "ytick.labelsize"), 6.5),
    **dict.fromkeys(("axes.spines.top", "axes.spines.right", "legend.frameon"), False),
    "lines.linewidth": 1.1,
    "lines.markersize": 3.5,
    "axes.linewidth": 0.6,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
}
# Colour, marker and line style; colours of Okabe and Ito (2008), Color universal design.
LOOKS = [("#0072B2", "o", "-"), ("#E69F00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":")]
# End of a row's log name -> label (None: the row's title) and look.
ROW_LOOKS = {
    BASELINE: ("Baseline", LOOKS[0]),
    MULTISCALE: ("Multi-scale", LOOKS[1]),
    FULL: ("Multi-scale + attention", LOOKS[2]),
    HYPERIQA: (None, ("#56B4E9", "v", "-")),
    SMART_IQA: (None, ("#D55E00", "P", "--")),
}
DIFFERENCE_LOOK = {"both": LOOKS[2], "multiscale": LOOKS[1], "attention": LOOKS[3]}
OTHER_LOOK = ("#000000", "s", "-")
STAGE_LOOK = [("#56B4E9", "o", "-"), LOOKS[1], ("#CC79A7", "^", "-."), ("#000000", "D", ":")]

Look = tuple[str, str, str]
Panel = tuple[str, list[tuple[str, list[Run], Look]]]  # title, and for each row its label, runs with scores and look


def write_figures(analysis: Analysis, runs: Sequence[Run], folder: Path) -> dict[str, str]:
    """Write every figure that the numbers allow; returns their names and captions in the order of the report."""
    folder.mkdir(exist_ok=True)
    panels = panels_of(analysis, runs)
    gains = [difference for difference in analysis.differences if difference.comparison.kind == "both"]
    captions = {}
    with matplotlib.rc_context(STYLE):
        for name, figure, caption in (
            ("delta_srcc", interval_lines(analysis.differences, analysis), "Δ SRCC with 95% intervals"),
            (
                "gain_by_backbone",
                interval_lines(gains, analysis) if len(gains) > 1 else None,
                "Gain of both ideas in SRCC on each backbone, with 95% intervals",
            ),
            ("training_curves", training_curves(panels), "SRCC and loss by epoch: mean over runs, with their range"),
            ("predicted_against_true", predicted_against_true(panels), "Predicted against true score, first run"),
            ("attention_by_mos", attention_by_mos(analysis), "Mean attention of each stage by tenth of MOS"),
        ):
            if figure:
                save(figure, folder / name)
                captions[name] = caption
    return captions


def save(figure: Figure, stem: Path) -> None:
    for kind, metadata in (("png", {"Software": None}), ("pdf", {"CreationDate": None})):  # reproducible bytes
        with atomic_path(stem.with_suffix(f".{kind}")) as path:
            figure.savefig(path, format=kind, metadata=metadata)


def panels_of(analysis: Analysis, runs: Sequence[Run]) -> list[Panel]:
    """A panel for each backbone, and one for the published models."""
    panels: dict[str, list[tuple[str, list[Run], Look]]] = {}
    for row in analysis.grid.rows():
        members = [run for run in runs if run.variant == row.log_name and run.predictions]
        if members:
            label, look = next(found for ending, found in ROW_LOOKS.items() if row.log_name.endswith(ending))
            title = "Published models" if row.log_name in analysis.grid.published else row.backbone
            panels.setdefault(title, []).append((label or row.title, members, look))
    return list(panels.items())


def training_curves(panels: Sequence[Panel]) -> Figure | None:
    """Validation SRCC (test SRCC without a validation set) and training loss by epoch."""
    lines = [line for _, rows in panels for _, runs, _ in rows for run in runs for line in run.epochs]
    if not lines:
        return None
    split = "val" if any(line.get("val_srcc") is not None for line in lines) else "test"
    figure = Figure(figsize=(WIDTH, WIDTH * 1.05) if len(panels) == 1 else (WIDE, WIDE * 0.5))
    axes = figure.subplots(2, len(panels), sharex="col", sharey="row", squeeze=False)
    labels = {f"{split}_srcc": f"{'Validation' if split == 'val' else 'Test'} SRCC", "train_loss": "Training loss"}
    for axes_row, (key, label) in zip(axes, labels.items(), strict=True):
        axes_row[0].set_ylabel(label)
        for axis, (_, rows) in zip(axes_row, panels, strict=True):
            for name, runs, look in rows:
                curve_with_range(axis, runs, key, name, look)
    for upper, lower, (title, _) in zip(*axes, panels, strict=True):
        upper.set_title(title if len(panels) > 1 else "")
        lower.set_xlabel("Epoch")
        lower.xaxis.get_major_locator().set_params(integer=True)
    add_legend(figure, axes[0])
    return figure


def curve_with_range(axis: Axes, runs: Sequence[Run], key: str, label: str, look: Look) -> None:
    series = [{line["epoch"]: line[key] for line in run.epochs if line.get(key) is not None} for run in runs]
    epochs = sorted(set.intersection(*(set(values) for values in series)))
    values = np.array([[run[epoch] for epoch in epochs] for run in series])
    colour, marker, line = look
    axis.plot(epochs, values.mean(axis=0), line, color=colour, marker=marker, label=label)
    if len(runs) > 1:
        axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)


def add_legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend for all axes, with each label once."""
    entries = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    columns = min(len(entries), 3 if len(axes) == 1 and len(entries) == 3 else 6)
    figure.legend(entries.values(), entries.keys(), loc="outside upper center", ncols=columns, columnspacing=1.0)


def predicted_against_true(panels: Sequence[Panel]) -> Figure:
    """Predicted score by MOS for every test image, the first run of each row; a line of plots for each backbone."""
    first = [runs[0].predictions for _, rows in panels for _, runs, _ in rows]
    values = np.concatenate([np.concatenate([found.mos, found.scores]) for found in first])
    margin = 0.02 * np.ptp(values)
    ends = [values.min() - margin, values.max() + margin]
    width = WIDTH if len(panels) == 1 else WIDE
    height = width / len(ENDINGS) * (1.45 if len(panels) == 1 else 1.1) * len(panels)
    figure = Figure(figsize=(width, height))
    axes = figure.subplots(len(panels), len(ENDINGS), squeeze=False)
    for axes_row, (title, rows) in zip(axes, panels, strict=True):
        axes_row[0].set_ylabel("Predicted score")
        for axis in axes_row[len(rows) :]:
            axis.set_visible(False)
        for axis, (label, runs, (colour, marker, _)) in zip(axes_row, rows, strict=False):
            label = label.replace(" + ", "\n+ ")
            axis.set_title(label if len(panels) == 1 else f"{title}:\n{label}")
            axis.plot(ends, ends, color="black", linewidth=0.6, linestyle=":")
            mos, scores = runs[0].predictions.mos, runs[0].predictions.scores
            alpha = 0.2 if len(mos) > 300 else 0.7
            axis.scatter(mos, scores, s=3, alpha=alpha, linewidths=0, rasterized=True, color=colour, marker=marker)
            axis.set(xlabel="MOS", xlim=ends, ylim=ends, aspect="equal")
    return figure


def interval_lines(differences: Sequence[Difference], analysis: Analysis) -> Figure | None:
    """A line with a 95% interval for each difference."""
    if not differences:
        return None
    wide = len(analysis.grid.families) > 1 or bool(analysis.grid.published)
    figure = Figure(figsize=(WIDE if wide else WIDTH, 0.55 + 0.32 * len(differences)))
    axis = figure.subplots()
    for place, difference in enumerate(differences):
        colour, marker, _ = DIFFERENCE_LOOK.get(difference.comparison.kind, OTHER_LOOK)
        estimate = difference.srcc
        axis.plot([estimate.low, estimate.high], [place, place], color=colour, linewidth=1.6)
        axis.plot(estimate.value, place, marker, color=colour, markersize=5)
    axis.axvline(0, color="black", linewidth=0.6, linestyle=":")
    axis.set_yticks(range(len(differences)), [difference.title for difference in differences])
    axis.set(ylim=(len(differences) - 0.5, -0.5), xlabel="Δ SRCC, 95% interval")
    axis.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    return figure


def attention_by_mos(analysis: Analysis) -> Figure | None:
    """Mean attention of each stage in tenths of the test images by MOS, a panel for each row with attention."""
    found = analysis.attention
    if not found:
        return None
    figure = Figure(figsize=(WIDTH, WIDTH * 0.62) if len(found) == 1 else (WIDE, WIDE * 0.34))
    axes = figure.subplots(1, len(found), sharey=True, squeeze=False)
    top = max(0.5, 1.05 * max(attention.weights.max() for attention in found))
    for axis, attention in zip(axes[0], found, strict=True):
        for stage, (weights, (colour, marker, line)) in enumerate(zip(attention.weights.T, STAGE_LOOK, strict=True), 1):
            axis.plot(attention.mos, weights, line, color=colour, marker=marker, label=f"Stage {stage}")
        axis.axhline(0.25, color="grey", linewidth=0.6, zorder=0)
        axis.set(xlabel="Mean MOS of a tenth of the images", ylim=(0, top))
        axis.set_title(attention.title if len(found) > 1 else "")
    axes[0][0].set_ylabel("Mean attention")
    add_legend(figure, axes[0])
    return figure
