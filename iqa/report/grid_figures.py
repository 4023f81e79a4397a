"""Runs and numbers of a grid -> figures, PNG and PDF, 17.6 cm wide: a panel or a row for each backbone."""

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from iqa.report import grid_words as grid_words
from iqa.report.figures import (
    COMPARISON_LOOK,
    VARIANT_LOOK,
    Figures,
    attention_lines,
    band,
    by_variant,
    ends_of,
    intervals,
    scatter,
    series,
    short_name,
)
from iqa.report.numbers import COMPARISONS, attention_views, views
from iqa.report.rows import ENDINGS
from iqa.report.runs import Run

WIDTH = 17.6 / 2.54  # inches
CONTRAST_LOOK = ("#000000", "s", "-")
PUBLISHED_LOOK = {"published_hyperiqa": ("#56B4E9", "v", "-"), "published_smart_iqa": ("#D55E00", "P", "--")}

Shown = list[tuple[str, list[Run], tuple[str, str, str]]]  # label, runs and look


def panels_of(runs: list[Run], numbers: dict) -> list[tuple[str, Shown]]:
    """A title for each backbone and its variants; a last panel for the published models where one was run."""
    panels = [
        (
            view["family"]["title"],
            [(short_name(ending), found, VARIANT_LOOK[ending]) for ending, found in by_variant(runs, view)],
        )
        for view in views(numbers)
    ]
    published = [
        (numbers["rows"][row]["title"], found, look)
        for row, look in PUBLISHED_LOOK.items()
        if (found := [run for run in runs if run.variant == row])
    ]
    return [panel for panel in [*panels, ("Published models", published)] if panel[1]]


def training_curves(runs: list[Run], numbers: dict) -> Figure | None:
    """Validation SRCC (test where there is no validation set) and training loss per epoch, a column for each backbone."""
    if not any(run.epochs for run in runs):
        return None
    split = "val" if any(line.get("val_srcc") is not None for run in runs for line in run.epochs) else "test"
    shown = panels_of(runs, numbers)
    figure, panels = plt.subplots(
        2, len(shown), figsize=(WIDTH, WIDTH * 0.5), sharex="col", sharey="row", squeeze=False
    )
    labels = {f"{split}_srcc": f"{'Validation' if split == 'val' else 'Test'} SRCC", "train_loss": "Training loss"}
    for line, (key, label) in zip(panels, labels.items(), strict=True):
        line[0].set_ylabel(label)
        for panel, (_, variants) in zip(line, shown, strict=True):
            for name, found, look in variants:
                band(panel, [series(run, key) for run in found], look, name)
    for top, bottom, (title, _) in zip(*panels, shown, strict=True):
        top.set_title(title)
        bottom.set_xlabel("Epoch")
        bottom.xaxis.get_major_locator().set_params(integer=True)
    _legend(figure, panels[0])
    return figure


def _legend(figure: Figure, panels) -> None:
    """One for all panels: each label once."""
    found = {
        label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend(found.values(), found.keys(), loc="outside upper center", ncols=len(found), columnspacing=1.0)


def predicted_against_true(runs: list[Run], numbers: dict) -> Figure:
    """Predicted score over MOS for every test image, the first seed of each row; a line for each backbone."""
    shown = panels_of(runs, numbers)
    ends = ends_of([found[0] for _, variants in shown for _, found, _ in variants], numbers)
    side = WIDTH / 3.2
    figure, panels = plt.subplots(
        len(shown), len(ENDINGS), figsize=(WIDTH * 0.75, side * 0.75 * len(shown)), squeeze=False
    )
    for line, (title, variants) in zip(panels, shown, strict=True):
        line[0].set_ylabel("Predicted score")
        for panel in line[len(variants) :]:
            panel.set_visible(False)
        for panel, (name, found, look) in zip(line, variants, strict=False):
            panel.set_title(name if title == "Published models" else f"{title}:\n{name[:1].lower()}{name[1:]}")
            panel.set_xlabel("True score (MOS)")
            scatter(panel, found[:1], look, ends)
    return figure


def delta_srcc(runs: list[Run], numbers: dict) -> Figure | None:
    """All differences in SRCC with their 95% intervals: within each backbone, and between backbones."""
    looks = [COMPARISON_LOOK[name] for _ in views(numbers) for name in COMPARISONS]
    within = [(label, found, look) for (label, found), look in zip(grid_words.labelled(numbers), looks, strict=True)]
    between = [(label, found, CONTRAST_LOOK) for label, found in grid_words.contrasts(numbers)]
    return intervals([line for line in within + between if line[1]], WIDTH)


def attention_by_mos(runs: list[Run], numbers: dict) -> Figure | None:
    """Mean attention per stage by decile of MOS, the backbones and SMART-IQA side by side."""
    found = attention_views(numbers)
    if not found:
        return None
    figure, panels = plt.subplots(1, len(found), figsize=(WIDTH, WIDTH * 0.34), sharey=True, squeeze=False)
    for panel, view in zip(panels[0], found, strict=True):
        attention_lines(panel, view["attention_by_mos"])
        panel.set_title(view["family"]["title"])
    for panel in panels[0][1:]:
        panel.set_ylabel("")
    _legend(figure, panels[0])
    return figure


FIGURES: Figures = {
    "training_curves": (training_curves, "SRCC and loss per epoch; mean over seeds, with their range"),
    "predicted_against_true": (predicted_against_true, "Predicted against true score, first seed of each row"),
    "delta_srcc": (delta_srcc, "Differences in SRCC with 95% intervals; small ticks are single seeds"),
    "attention_by_mos": (attention_by_mos, "Mean attention per scale by decile of MOS"),
}
