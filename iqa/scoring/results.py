"""Scores and facts about their model, as lines on the terminal, as csv and as JSON."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from iqa.atomic_files import csv_text
from iqa.cli import printable, say
from iqa.data.images import with_progress
from iqa.health import findings
from iqa.predictions import ATTENTION_COLUMNS
from iqa.scoring.grid import Grid
from iqa.scoring.pixels import Picture, Pixels

STAGES = ("stage1", "stage2", "stage3", "stage4")
LEAST_SRCC = 0.5  # test SRCC below which the scores of a model have a warning


@dataclass
class ScoredImage:
    """A score on the scale of the training labels, or the reason why there is none."""

    image: str = ""  # the path, if it was given as one
    pixels: Pixels | None = None  # until it is scored
    grid: Grid | None = None  # positions of the patches
    patches: tuple[float, ...] | None = None  # their scores, whose mean is the score
    score: float | None = None
    attention: tuple[float, ...] | None = None  # weights of stages 1-4, if the model has attention
    error: str | None = None
    picture: Picture | None = None  # for the page

    name = property(lambda self: printable(self.image))
    reason = property(lambda self: printable(self.error or ""))
    coverage = property(lambda self: self.grid and self.grid.coverage)


@dataclass(frozen=True)
class ModelFacts:
    """Facts about a model from its checkpoint, and the settings of this scoring."""

    checkpoint: str
    variant: str
    epoch: int | None  # None for published weights
    dataset: str | None  # that the model was trained on
    test_srcc: float | None  # None if the checkpoint does not hold it
    date: str | None  # when the run ended
    problem: str | None  # why the run counts as failed, one sentence
    mos_range: tuple[float, float] | None  # None for published weights
    patch_size: int
    patches: int  # per image, as in the run's evaluation or as --patches says
    device: str
    precision: str

    @classmethod
    def of(cls, scorer, checkpoint: str) -> "ModelFacts":
        config, results = scorer.config, scorer.results
        found = findings(results["health"]) if results.get("health") else []
        is_selected = results.get("selected_epoch", scorer.epoch) == scorer.epoch  # else results of other weights
        bounds = config.get("mos_range", (0, 100))
        return cls(
            checkpoint=printable(checkpoint),
            variant=scorer.variant.log_name,
            epoch=scorer.epoch,
            dataset=config.get("dataset_note") or config["flags"].get("dataset"),
            test_srcc=results.get("selected_test_srcc") if is_selected else None,
            date=results.get("date"),
            problem=results.get("failure") or next((finding.sentence for finding in found if finding.failed), None),
            mos_range=bounds and tuple(bounds),
            patch_size=scorer.patch_size,
            patches=scorer.patches,
            device=scorer.device.type,
            precision=scorer.precision,
        )

    @property
    def model(self) -> str:
        return self.variant + (f", epoch {self.epoch}" if self.epoch else ", its published weights")

    @property
    def quality(self) -> str:
        """The test SRCC of the model, on which data, and when it was measured."""
        known = "unknown" if self.test_srcc is None else f"{self.test_srcc:.4f}"
        date = f" ({self.date})" if self.date else ""
        data = f"trained on {printable(self.dataset.rstrip('.'))}" if self.dataset else "data set unknown"
        return f"test SRCC {known}{date}, {data}"

    @property
    def warning(self) -> str | None:
        if self.test_srcc is not None and self.test_srcc < LEAST_SRCC:
            return f"This model was hardly trained (test SRCC {self.test_srcc:.2f}): its scores mean little."
        return self.problem and f"The run of this model failed; its scores may be misleading. {self.problem}"

    @property
    def scale(self) -> str:
        if self.mos_range is None:
            return "the MOS scale of its training"
        return "the MOS scale {:g} to {:g}".format(*self.mos_range)

    @property
    def decimals(self) -> int:
        low, high = self.mos_range or (0, 100)
        return 4 if high - low <= 1 else 3 if high - low <= 10 else 2

    def number(self, score: float) -> str:
        return f"{score:.{self.decimals}f}"

    def is_outside(self, score: float | None) -> bool:
        return score is not None and self.mos_range is not None and not self.mos_range[0] <= score <= self.mos_range[1]

    def coverage(self, images: list[ScoredImage]) -> str:
        """The share of the pictures that the patches cover, and a note if the evaluation's were too few."""
        grids = [image.grid for image in images if image.grid]
        if not grids:
            return "no picture was scored"
        share, count = span([grid.coverage for grid in grids], "{:.0%}"), span([len(grid) for grid in grids], "{}")
        unit = "patch" if count == "1" else "patches"
        text = f"{share} of each picture, by {count} {unit} of {self.patch_size}x{self.patch_size} pixels"
        replaced = [grid.replaced for grid in grids if grid.replaced is not None]
        if not replaced:
            return text
        few = f"the {self.patches} patches of the run's evaluation cover only {span(replaced, '{:.0%}')}"
        return f"{text}; {few} (--patches checkpoint uses these)"


def span(values: list[float], form: str) -> str:
    """'25', or '25 to 44'"""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def print_scores(results: Iterator[ScoredImage], total: int, facts: ModelFacts, attention: bool) -> list[ScoredImage]:
    """Print each score as soon as it is known, with a progress bar on a terminal; returns all results."""
    say(f"{facts.model}: {facts.quality}")
    if facts.warning:
        say(f"Warning: {facts.warning}")
    say(f"Scores: on {facts.scale}, higher is better; {facts.device}, {facts.precision}")
    say("   score  " + "".join(f"{name:<8}" for name in STAGES if attention) + "image")
    images = []
    with with_progress(results, "Scoring", total) as bar:
        for image in bar:
            images.append(image)
            with bar.external_write_mode():  # the line takes the place of the bar
                say(as_line(image, facts, attention))
    if any(facts.is_outside(image.score) for image in images):
        say(f"* outside {facts.scale}")
    say(f"Coverage: {facts.coverage(images)}")
    return images


def as_line(image: ScoredImage, facts: ModelFacts, attention: bool) -> str:
    if image.error is not None:
        return "   error  " + 8 * len(STAGES) * attention * " " + f"{image.name}: {image.reason}"
    weights = "".join(f"{weight:<8.4f}" for weight in image.attention or () if attention)
    return f"{facts.number(image.score):>8}{'*' if facts.is_outside(image.score) else ' '} {weights}{image.name}"


def as_csv(images: list[ScoredImage], attention: bool) -> str:
    """image, score, the four attention weights on request, error; numbers in full."""
    rows = [["image", "score", *(ATTENTION_COLUMNS if attention else ()), "error"]]
    for image in images:
        weights = (image.attention or (None,) * len(STAGES)) if attention else ()
        rows.append([image.image, image.score, *weights, image.error])
    return csv_text(rows)


def as_json(images: list[ScoredImage], facts: ModelFacts, attention: bool) -> str:
    """The facts, and under "images" one object per image; a score is null if there is an error."""
    rows = []
    for image in images:
        row = {key: getattr(image, key) for key in ("image", "score", "error", "coverage")}
        row["patches"] = len(image.patches or ())
        if attention and image.attention:
            row["attention"] = dict(zip(STAGES, image.attention, strict=True))
        rows.append(row)
    content = {**asdict(facts), "warning": facts.warning, "images": rows}
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
