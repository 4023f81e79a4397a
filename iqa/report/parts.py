"""The same runs on other sets of images: groups of the test images, the test images without some, other data sets.

The results are exploratory estimates with intervals. Only the difference between the groups is tested.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from iqa.metrics import plcc, srcc, srcc_and_plcc
from iqa.report.comparisons import Comparison, Difference, differences_of, levels_of, measure
from iqa.report.rows import Grid
from iqa.report.runs import Run, on_images
from iqa.report.statistics import Estimate, Measured, heterogeneity_p

FEWEST = 20  # fewest images of a part that has numbers
MOST_GROUPS = 30
UNMATCHED = "no match"


@dataclass(frozen=True)
class Plan:
    """The numbers that every set of images gets."""

    grid: Grid
    comparisons: list[Comparison]
    draws: int  # number of bootstrap resamples
    seed: int


@dataclass(frozen=True)
class Part:
    """Levels and differences of the runs on a set of images."""

    name: str
    images: int
    levels: dict[str, dict[str, Estimate] | None]  # log name -> "srcc" and "plcc"
    differences: list[Difference]
    error: str | None = None  # why there are no numbers


@dataclass(frozen=True)
class Heterogeneity:
    """Test whether the gain of both ideas is the same in all groups."""

    key: str  # key of the comparison
    title: str
    p_value: float


@dataclass(frozen=True)
class Groups:
    pattern: str
    parts: list[Part]
    within: Part | None  # mean over the groups, weighted by their numbers of images
    mean_mos: dict[str, float]
    between_srcc: float  # SRCC of a model that gives each image the mean MOS of its group
    between_plcc: float
    heterogeneity: list[Heterogeneity]


@dataclass(frozen=True)
class Without:
    file: str
    left_out: int
    of: int
    unknown: int  # number of names that are not test images
    part: Part


def measure_part(name: str, runs: Sequence[Run], plan: Plan) -> tuple[Part, dict[str, Measured] | None]:
    """Numbers of runs that are restricted to the images of a part; None beside a part that has no numbers."""
    images = len(runs[0].predictions.names)
    errors = [f"fewer than {FEWEST} images"] if images < FEWEST else []
    for run in runs:
        _, _, reason = srcc_and_plcc(run.predictions.scores, run.predictions.mos)
        errors += [f"{run.name}: {reason}"] if reason else []
    if errors:
        return Part(name, images, {}, [], errors[0]), None
    measured = measure(runs, plan.draws, plan.seed)
    return part_of(name, images, runs, plan, measured), measured


def part_of(name: str, images: int, runs: Sequence[Run], plan: Plan, measured: dict[str, Measured]) -> Part:
    levels = levels_of(plan.grid, runs, measured)
    return Part(name, images, levels, differences_of(plan.comparisons, runs, measured))


# ---- groups of the test images -------------------------------------------------------------------------------


def group_names(pattern: str, names: Sequence[str]) -> list[str]:
    """The group of every image: the first bracket of the pattern if it has one, else all that it matches."""
    compiled = re.compile(pattern)
    bracket = 1 if compiled.groups else 0
    groups = [match[bracket] or UNMATCHED if match else UNMATCHED for match in map(compiled.search, names)]
    count = len(set(groups))
    if count < 2:
        what = "matches no image name" if groups[0] == UNMATCHED else f"puts all images into one group, {groups[0]!r}"
        raise ValueError(f"--groups {pattern!r}: {what}, such as {names[0]!r}; give a pattern that tells groups apart")
    if count > MOST_GROUPS:
        raise ValueError(
            f"--groups {pattern!r}: makes {count:,} groups, over {MOST_GROUPS}, such as {groups[0]!r} of {names[0]!r}; "
            "give what the names of a group share"
        )
    return groups


def measure_groups(runs: Sequence[Run], plan: Plan, pattern: str | None) -> Groups | None:
    """Numbers of each group and the mean over the groups. Groups are resampled independently of each other.

    Args:
        pattern: by which an image's name tells its group; None for that of the data set in config.json, if it has one.
    """
    pattern = pattern or next((found for run in runs if isinstance(found := run.config.get("groups"), str)), None)
    if not pattern:
        return None
    mos = runs[0].predictions.mos
    groups = np.array(group_names(pattern, runs[0].predictions.names))
    plan = replace(plan, comparisons=[comparison for comparison in plan.comparisons if comparison.backbone])
    parts, known, mean_mos = [], [], {}
    for number, group in enumerate(sorted(set(groups.tolist()))):
        members = groups == group
        mean_mos[group] = float(mos[members].mean())
        cut = [run.on(run.predictions.select(np.flatnonzero(members))) for run in runs]
        part, measured = measure_part(group, cut, replace(plan, seed=plan.seed + number))
        parts.append(part)
        known += [(part.images, measured)] if measured else []
    images = sum(images for images, _ in known)
    within = part_of("within groups", images, runs, plan, _weighted_mean(known)) if known else None
    between = np.array([mean_mos[group] for group in groups])
    scores = srcc(between, mos), plcc(between, mos)
    return Groups(pattern, parts, within, mean_mos, *scores, _heterogeneity(parts, plan.comparisons))


def _weighted_mean(known: Sequence[tuple[int, dict[str, Measured]]]) -> dict[str, Measured]:
    """Mean of the groups' correlations, weighted by their numbers of images."""
    images = sum(images for images, _ in known)
    weighted = [(count / images, measured) for count, measured in known]
    return {
        metric: Measured(
            sum(share * measured[metric].values for share, measured in weighted),
            sum(share * measured[metric].resamples for share, measured in weighted),
        )
        for metric in ("srcc", "plcc")
    }


def _heterogeneity(parts: Sequence[Part], comparisons: Sequence[Comparison]) -> list[Heterogeneity]:
    found = []
    for comparison in comparisons:
        estimates = [d.srcc for part in parts for d in part.differences if d.key == comparison.key]
        if comparison.kind == "both" and len(estimates) > 1:
            found.append(Heterogeneity(comparison.key, comparison.title, heterogeneity_p(estimates)))
    return found


# ---- without some of the test images -------------------------------------------------------------------------


def read_names(path: Path) -> list[str]:
    """Image names of a text file, one a line, each up to a tab: a list, or what data_loader.py --near_copies wrote."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"--without {path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"--without {path}: not a text file in UTF-8 ({error}); give one name a line") from None
    return [name for line in lines if (name := line.partition("\t")[0].strip())]


def measure_without(runs: Sequence[Run], plan: Plan, path: Path | None) -> Without | None:
    """Numbers without the images that the file names."""
    if not path:
        return None
    names, test_images = read_names(path), runs[0].predictions.names
    kept = set(test_images) - set(names)
    left_out = len(test_images) - len(kept)
    if not left_out:
        first = f", such as {names[0]!r}" if names else ""
        raise ValueError(
            f"--without {path}: none of its {len(names):,} names{first} is one of the {len(test_images):,} test "
            f"images, such as {test_images[0]!r}; give one name a line"
        )
    cut = [on_images(run, kept) for run in runs]
    part, _ = measure_part(f"without {path.name}", cut, plan)
    if part.error:
        raise ValueError(
            f"--without {path}: {len(kept):,} of {len(test_images):,} test images remain; {part.error}; leave out fewer"
        )
    return Without(str(path), left_out, len(test_images), len(set(names)) - left_out, part)
