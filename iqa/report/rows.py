"""A log folder -> the rows of the report: which backbones and published models were trained, and what they are called.

A *family* is the three variants on one backbone. Their log names are those of iqa/models/variants.py behind the prefix
of their backbone: `exp` for ResNet50, `swin` for Swin-B. A prefix that the table of backbones lacks, such as `lite`, is
one that somebody else added: it counts where the config.json of a run names that variant, and the family's backbone
and title are taken from there.

The *grid* is all families and, where a published model was run, both of them. What the runner was asked for
(`ablation_flags`) counts like what is there, so that missing rows can be named. One family alone is no grid.

* Title: that of the table of backbones; else `backbone_title` of config.json; else the value of its --backbone.
* Kind, CNN or Transformer: `backbone_kind` of config.json; else Transformer where the backbone's name has one of
  TRANSFORMER_NAMES in it, and CNN for all others.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from iqa.models.backbones import BACKBONES
from iqa.models.published import PUBLISHED
from iqa.models.variants import FUSIONS

ENDINGS = BASELINE, MULTISCALE, FULL = tuple(name for name, *_ in FUSIONS)
CNN, TRANSFORMER = "CNN", "Transformer"
TRANSFORMER_NAMES = ("swin", "vit", "deit", "former")
RUN_FOLDER = re.compile(r"(?P<variant>(?P<prefix>\w+?)(?P<ending>" + "|".join(ENDINGS) + r"))(_seed\d+)?")


class Family(NamedTuple):
    """One backbone's three variants."""

    backbone: str  # value of --backbone
    title: str  # in tables and sentences
    prefix: str  # of its log names
    kind: str  # CNN or TRANSFORMER

    @property
    def rows(self) -> dict[str, str]:
        """The ending of each variant's log name -> its log name."""
        return {ending: self.prefix + ending for ending in ENDINGS}

    def described(self) -> dict:
        return {**self._asdict(), "rows": self.rows}


class Grid(NamedTuple):
    """The rows of a report: of several backbones, or of one with the published models beside it."""

    families: list[Family]
    published: dict[str, str]  # log name -> name in iqa/models/published.py

    @property
    def variants(self) -> list[str]:
        """The log names of all rows, in the order of the report."""
        return [row for family in self.families for row in family.rows.values()] + list(self.published)

    @property
    def is_one_family(self) -> bool:
        return len(self.families) == 1 and not self.published


def find_grid(log_folder: Path) -> Grid:
    """The rows of which the folder holds a run, finished or not, or was to hold one."""
    families, asked = find_families(log_folder), _asked_for(log_folder)
    published = {row.variant.log_name: name for name, row in PUBLISHED.items()}
    wanted = "--with_published" in asked or any(folders_of(log_folder, row) for row in published)
    return Grid(families, published if wanted else {})


def _asked_for(log_folder: Path) -> list[str]:
    """The words of what the runner was asked for; none where it started nothing here."""
    path = log_folder / "ablation_flags"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return text.replace("BACKBONES=", " ").split()


def find_families(log_folder: Path) -> list[Family]:
    """The families of which the folder holds a run, finished or not: CNNs first, then in the order of the table.

    ResNet50's where there is none, so that what is missing can be named.
    """
    if not log_folder.is_dir():
        raise FileNotFoundError(f"{log_folder}: no such folder; give a log folder such as logs/resnet_ablation_...")
    known = {row.log_name: name for name, row in BACKBONES.items()}
    configs: dict[str, list[dict]] = {}
    for found, folder in run_folders(log_folder):
        config = _config(folder)
        if found["prefix"] in known or config.get("variant") == found["variant"]:
            configs.setdefault(found["prefix"], []).append(config)
    for name in _asked_for(log_folder):
        if name in BACKBONES:
            configs.setdefault(BACKBONES[name].log_name, [])
    order = [*known, *sorted(set(configs) - set(known))]
    found = [_family(prefix, known.get(prefix), configs[prefix]) for prefix in order if prefix in configs]
    found.sort(key=lambda family: family.kind != CNN)  # the reference of a grid is a CNN where there is one
    for first, second in zip(found, found[1:], strict=False):
        if first.backbone == second.backbone:
            raise ValueError(
                f"{log_folder}: runs named {first.prefix}* and {second.prefix}* are both of "
                f"{first.backbone}; move one of them elsewhere"
            )
    return found or [_family(BACKBONES["resnet50"].log_name, "resnet50", [])]


def run_folders(log_folder: Path) -> Iterator[tuple[re.Match, Path]]:
    """The folders that have the name of a variant's run, in the order of their names."""
    for path in sorted(log_folder.iterdir()):
        found = RUN_FOLDER.fullmatch(path.name)
        if found and path.is_dir():
            yield found, path


def folders_of(log_folder: Path, variant: str) -> list[Path]:
    """Those of one row: one for each seed."""
    pattern = re.compile(rf"{re.escape(variant)}(_seed\d+)?")
    return sorted(path for path in log_folder.iterdir() if path.is_dir() and pattern.fullmatch(path.name))


def _family(prefix: str, backbone: str | None, configs: list[dict]) -> Family:
    flags = [config["flags"] for config in configs if isinstance(config.get("flags"), dict)]
    backbone = backbone or _first(flags, "backbone") or prefix
    title = BACKBONES[backbone].title if backbone in BACKBONES else _first(configs, "backbone_title") or backbone
    kind = {name.lower(): name for name in (CNN, TRANSFORMER)}.get(str(_first(configs, "backbone_kind")).lower())
    return Family(backbone, title, prefix, kind or kind_of(backbone))


def kind_of(backbone: str) -> str:
    """CNN or TRANSFORMER, by the name of a backbone."""
    return TRANSFORMER if any(name in backbone.lower() for name in TRANSFORMER_NAMES) else CNN


def _first(contents: list[dict], key: str) -> str | None:
    return next((item[key] for item in contents if isinstance(item.get(key), str)), None)


def _config(folder: Path) -> dict:
    """What config.json holds, as far as it can be read: a fault in it is told when the run is."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


# ---- what a row is called ------------------------------------------------------------------------------------

RUN_HERE = "run here"  # of a published model
SMART_IQA = PUBLISHED["smart_iqa"].variant.log_name
IN_TABLES = {BASELINE: "{} baseline", MULTISCALE: "+ Multi-scale", FULL: "+ Multi-scale + attention"}
IN_SENTENCES = {
    BASELINE: "the {} baseline",
    MULTISCALE: "multi-scale fusion",
    FULL: "multi-scale fusion with attention",
}


def described_rows(grid: Grid) -> dict[str, dict[str, str]]:
    """log name -> its name in tables and in sentences, its backbone's title and kind."""
    rows = {
        log_name: {
            "title": IN_TABLES[ending].format(family.title),
            "sentence": _in_sentences(ending, family, grid),
            "backbone": family.title,
            "kind": family.kind,
        }
        for family in grid.families
        for ending, log_name in family.rows.items()
    }
    for log_name, name in grid.published.items():
        row = PUBLISHED[name]
        rows[log_name] = {
            "title": f"{row.title} ({RUN_HERE})",
            "sentence": f"{row.title} as it was published, trained here",
            "backbone": BACKBONES[row.variant.backbone].title,
            "kind": kind_of(row.variant.backbone),
        }
    return rows


def _in_sentences(ending: str, family: Family, grid: Grid) -> str:
    """Beside other backbones each variant says which is its own."""
    name = IN_SENTENCES[ending].format(family.title)
    return name if ending == BASELINE or grid.is_one_family else f"{name} on {family.title}"
