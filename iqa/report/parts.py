"""The same runs on other images than the whole test set: groups of it, and what remains without some of it.

A *part* is a set of images that all runs scored, with the numbers that follow from the scores alone: each variant's SRCC and
PLCC and the differences that the report makes, with intervals from a bootstrap of its own. It has the keys of the report's
numbers (`inside` puts it in their place), so that sentences and tables are made of it as of the whole.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from iqa import metrics
from iqa.health import is_sick
from iqa.report.decomposition import METRICS, decompose
from iqa.report.numbers import (
    COMPARISONS,
    Bootstrap,
    compare,
    compare_published,
    comparisons_of,
    correct,
    paired,
)
from iqa.report.rows import Grid
from iqa.report.runs import Run, on_images

FEWEST = 20  # images of a part that has numbers
MOST_GROUPS = 30  # more are hardly kinds of images; a pattern that tells every image from every other makes thousands
UNMATCHED = "no match"
LEFT_OUT = ("power", "disagreements")  # of a comparison: what a report says of its whole test set alone


def part_numbers(
    name: str, runs: list[Run], grid: Grid, sick: set[str], bootstrap: Bootstrap, *, contrasts: bool = True
) -> dict:
    """Levels and comparisons of the runs, which are cut to the images of a part.

    Args:
        sick: the folders of the runs that are not sound.
        bootstrap: of these runs on these images.
        contrasts: compare backbones, too.

    The comparisons have no corrected p-values yet: `correct` is over all that are claimed together.
    """
    by_variant = {variant: [run for run in runs if run.variant == variant] for variant in grid.variants}
    backbones = {
        family.backbone: {"family": family.described(), "comparisons": compare(family, by_variant, bootstrap, sick)}
        for family in grid.families
    }
    apart = {
        "decomposition": decompose(grid.families, by_variant, bootstrap, sick) if contrasts else [],
        "published_models": compare_published(grid, by_variant, bootstrap, sick) if contrasts else None,
    }
    for comparison in comparisons_of(backbones.values(), apart):
        for key in LEFT_OUT:
            comparison.pop(key, None)
    return {
        "name": name,
        "test_images": len(runs[0].names),
        "error": None,
        "variants": {variant: levels(found, bootstrap) if found else None for variant, found in by_variant.items()},
        "missing": [variant for variant, found in by_variant.items() if not found],
        **(backbones[grid.families[0].backbone] if grid.is_one_family else {"backbones": backbones, **apart}),
    }


def levels(runs: list[Run], bootstrap: Bootstrap) -> dict:
    """SRCC and PLCC of one variant, over its seeds."""
    return {
        metric: asdict(
            metrics.level_interval(
                [getattr(metrics, metric)(run.scores, run.mos) for run in runs], bootstrap.of(metric, runs)
            )
        )
        for metric in METRICS
    }


def inside(numbers: dict, part: dict) -> dict:
    """The numbers of a report as though it were on the images of the part alone."""
    return {**numbers, **part}


def comparisons_in(part: dict) -> list[dict]:
    """Every comparison that could be made there."""
    if "comparisons" in part:
        return [comparison for comparison in part["comparisons"].values() if comparison]
    return comparisons_of(part["backbones"].values(), part) if "backbones" in part else []


def correct_together(parts: Iterable[dict]) -> None:
    """Holm's correction over the comparisons of all the parts."""
    found = [comparison for part in parts for comparison in comparisons_in(part)]
    if found:
        correct(found)


def sick_folders(numbers: dict) -> set[str]:
    return {run["folder"] for run in numbers["health"] if is_sick(run["findings"])}


# ---- groups of the test images -------------------------------------------------------------------------------


def declared_groups(runs: list[Run]) -> str | None:
    """The pattern by which the runs' data set tells the group of an image, from config.json; None where it has none."""
    return next((groups for run in runs if isinstance(groups := run.config.get("groups"), str)), None)


def group_of(pattern: re.Pattern, name: str) -> str:
    """The first bracket of the pattern where it has one, else all that it matches; UNMATCHED where it matches nothing."""
    found = pattern.search(name)
    return (found[1] if pattern.groups else found[0]) or UNMATCHED if found else UNMATCHED


def group_names(pattern: re.Pattern, names: list[str]) -> list[str]:
    """The group of every image.

    Raises:
        ValueError: the pattern does not make two groups or more, up to MOST_GROUPS.
    """
    groups = [group_of(pattern, name) for name in names]
    count = len(set(groups))
    if count < 2:
        what = "matches no image name" if groups[0] == UNMATCHED else f"puts all images into one group, {groups[0]!r}"
        raise ValueError(
            f"--groups {pattern.pattern!r}: {what}, such as {names[0]!r}; give what tells the groups apart"
        )
    if count > MOST_GROUPS:
        raise ValueError(
            f"--groups {pattern.pattern!r}: makes {count:,} groups, over {MOST_GROUPS}, such as {groups[0]!r} of "
            f"{names[0]!r}; give what the names of a group share"
        )
    return groups


def group_numbers(runs: list[Run], grid: Grid, pattern: str, sick: set[str], draws: int, seed: int) -> dict:
    """Each group as a part, what telling the groups apart is worth alone, and what remains within them.

    Args:
        pattern: a regular expression for `group_of`.
    """
    names = group_names(re.compile(pattern), runs[0].names)
    members = {group: [place for place, name in enumerate(names) if name == group] for group in sorted(set(names))}
    parts, known = [], []
    for number, (group, places) in enumerate(members.items()):
        chosen = [on_images(run, places) for run in runs]
        why = without_numbers(chosen)
        if why:
            parts.append({"name": group, "test_images": len(places), "error": why})
            continue
        known.append((chosen, Bootstrap(chosen, draws, seed + number)))  # groups are drawn apart from each other
        parts.append(part_numbers(group, chosen, grid, sick, known[-1][1], contrasts=False))
    within = within_groups(known, grid, sick) if known else None
    correct_together([*parts, within] if within else parts)
    mos, of_group = runs[0].mos, {group: float(runs[0].mos[places].mean()) for group, places in members.items()}
    between = np.array([of_group[name] for name in names])
    return {
        "pattern": pattern,
        "parts": parts,
        "within": within,
        "mean_mos": of_group,
        "between": {metric: getattr(metrics, metric)(between, mos) for metric in METRICS},
    }


def without_numbers(runs: list[Run]) -> str | None:
    """Why these runs, cut to some images, have no numbers; None where they do."""
    if len(runs[0].names) < FEWEST:
        return f"fewer than {FEWEST} images"
    for run in runs:
        try:
            metrics.checked_pair(run.scores, run.mos)
        except ValueError as error:
            return f"{run.name}: {error}"
    return None


class WithinGroups:
    """Correlations within groups, averaged by their numbers of images, in the draws of each: as numbers.Bootstrap."""

    def __init__(self, known: list[tuple[list[Run], Bootstrap]]) -> None:
        self.known = known
        images = np.array([len(runs[0].names) for runs, _ in known])
        self.weights = images / images.sum()

    def of(self, metric: str, runs: list[Run]) -> np.ndarray:
        """The draws (seeds, B) of some runs."""
        return sum(
            weight * bootstrap.of(metric, runs) for weight, (_, bootstrap) in zip(self.weights, self.known, strict=True)
        )

    def estimates(self, metric: str, runs: list[Run]) -> np.ndarray:
        """(seeds,)"""
        wanted, found = [run.folder for run in runs], []
        for members, _ in self.known:
            by_folder = {run.folder: run for run in members}
            found.append(
                [getattr(metrics, metric)(by_folder[folder].scores, by_folder[folder].mos) for folder in wanted]
            )
        return self.weights @ np.array(found)


def within_groups(known: list[tuple[list[Run], Bootstrap]], grid: Grid, sick: set[str]) -> dict:
    """A part of the averages over the groups that have numbers; its comparisons are those of each backbone's variants."""
    pooled, runs = WithinGroups(known), known[0][0]
    by_variant = {variant: [run for run in runs if run.variant == variant] for variant in grid.variants}

    def interval(metric: str, second: list[Run], first: list[Run] | None = None) -> dict:
        sides = [(1, second)] + ([(-1, first)] if first else [])
        return asdict(
            metrics.crossed_interval(
                sum(sign * pooled.estimates(metric, side) for sign, side in sides),
                sum(sign * pooled.of(metric, side) for sign, side in sides),
            )
        )

    def comparison(first: list[Run], second: list[Run]) -> dict | None:
        if not (first and second):
            return None
        firsts, seconds = (list(side) for side in zip(*paired(first, second), strict=True))
        found = {metric: interval(metric, seconds, firsts) for metric in METRICS}
        return {
            **found,
            "sick": [run.name for run in firsts + seconds if run.name in sick],
            "identical": all(np.array_equal(a.scores, b.scores) for a, b in zip(firsts, seconds, strict=True)),
        }

    backbones = {
        family.backbone: {
            "family": family.described(),
            "comparisons": {
                name: comparison(by_variant[family.rows[before]], by_variant[family.rows[after]])
                for name, (before, after, _) in COMPARISONS.items()
            },
        }
        for family in grid.families
    }
    return {
        "name": "within groups",
        "test_images": sum(len(members[0].names) for members, _ in known),
        "error": None,
        "variants": {
            variant: {metric: interval(metric, found) for metric in METRICS} if found else None
            for variant, found in by_variant.items()
        },
        "missing": [variant for variant, found in by_variant.items() if not found],
        **(
            backbones[grid.families[0].backbone]
            if grid.is_one_family
            else {"backbones": backbones, "decomposition": [], "published_models": None}
        ),
    }


# ---- without some of the test images -------------------------------------------------------------------------


def read_names(path: Path) -> list[str]:
    """The image names of a text file, one a line, each up to a tab: a list, or what data_loader.py --near_copies wrote.

    Raises:
        FileNotFoundError, ValueError: names the file.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"--without {path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"--without {path}: not a text file in UTF-8 ({error})") from None
    names = [line.partition("\t")[0].strip() for line in lines]
    return [name for name in names if name]


def without_images(
    runs: list[Run], grid: Grid, names: list[str], path: Path, sick: set[str], draws: int, seed: int
) -> dict:
    """The runs without the images of these names, as a part.

    Raises:
        ValueError: none of them is a test image, or too few images remain.
    """
    unwanted = set(names)
    places = [place for place, name in enumerate(runs[0].names) if name not in unwanted]
    left_out = len(runs[0].names) - len(places)
    if not left_out:
        first = f", such as {names[0]!r}" if names else ""
        raise ValueError(
            f"--without {path}: none of its {len(names):,} names{first} is one of the {len(places):,} test images, such "
            f"as {runs[0].names[0]!r}; give one name a line"
        )
    chosen = [on_images(run, places) for run in runs]
    why = without_numbers(chosen)
    if why:
        raise ValueError(
            f"--without {path}: {len(places):,} of {len(runs[0].names):,} test images remain; {why}; leave out fewer"
        )
    part = part_numbers(f"without {path.name}", chosen, grid, sick, Bootstrap(chosen, draws, seed))
    correct_together([part])
    return {
        "file": str(path),
        "left_out": left_out,
        "of": len(runs[0].names),
        "unknown": len(unwanted) - left_out,
        "part": part,
    }
