"""Rows of the report: the backbones and published models of a log folder, and their titles.

A *family* is the three variants on one backbone. Their log names are those of iqa/models/variants.py behind the prefix
of the backbone: `exp` for ResNet50, `swin` for Swin-B. A prefix that the table of backbones lacks counts if config.json
of a run names that variant; title and kind are then those of `backbone_title` and `backbone_kind` there. Rows that
the runner was to train (`ablation_flags`) count like existing ones, so that missing rows can be named.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from iqa.json_files import read_json
from iqa.models.backbones import BACKBONES, CNN, OTHER, TIMM, TRANSFORMER, find_backbone
from iqa.models.published import PUBLISHED
from iqa.models.variants import FUSIONS

ENDINGS = BASELINE, MULTISCALE, FULL = tuple(name for name, *_ in FUSIONS)
KINDS = (CNN, TRANSFORMER, OTHER)
TRANSFORMER_NAMES = ("swin", "vit", "deit", "former")
VARIANT_NAME = re.compile(rf"([\w.-]+)({'|'.join(ENDINGS)})")
HYPERIQA, SMART_IQA = (PUBLISHED[name].variant.log_name for name in ("hyperiqa", "smart_iqa"))
TITLES = {BASELINE: "{} baseline", MULTISCALE: "+ Multi-scale", FULL: "+ Multi-scale + attention"}


@dataclass(frozen=True)
class Row:
    """One variant or published model."""

    log_name: str
    title: str  # in tables
    backbone: str  # title of the backbone
    kind: str  # one of KINDS


@dataclass(frozen=True)
class Family:
    """The three variants on one backbone."""

    backbone: str  # value of --backbone
    title: str
    prefix: str  # prefix of its log names
    kind: str

    def log_name(self, ending: str) -> str:
        return self.prefix + ending

    def rows(self) -> list[Row]:
        return [
            Row(self.log_name(ending), TITLES[ending].format(self.title), self.title, self.kind) for ending in ENDINGS
        ]


@dataclass(frozen=True)
class Grid:
    """The rows of a report: one or more backbones, and the published models if one was run."""

    families: list[Family]
    published: dict[str, str]  # log name -> name in iqa/models/published.py

    def rows(self) -> list[Row]:
        rows = [row for family in self.families for row in family.rows()]
        for log_name, name in self.published.items():
            backbone = BACKBONES[PUBLISHED[name].variant.backbone]
            rows.append(Row(log_name, f"{PUBLISHED[name].title} (trained here)", backbone.title, backbone.kind))
        return rows


def find_grid(log_folder: Path) -> Grid:
    """Return the rows with a run in the folder, finished or not, and those that the runner was to train."""
    if not log_folder.is_dir():
        raise FileNotFoundError(f"{log_folder}: no such folder; give a log folder such as logs/resnet_ablation_...")
    asked = _asked_for(log_folder)
    published = {entry.variant.log_name: name for name, entry in PUBLISHED.items()}
    wanted = "--with_published" in asked or not published.keys().isdisjoint(run_folders(log_folder))
    return Grid(_find_families(log_folder, asked), published if wanted else {})


def run_folders(log_folder: Path) -> dict[str, list[Path]]:
    """Log name -> folders of that name, one for each seed."""
    folders: dict[str, list[Path]] = {}
    for path in sorted(log_folder.iterdir()):
        if path.is_dir():
            folders.setdefault(re.sub(r"_seed\d+$", "", path.name), []).append(path)
    return folders


def refuse_duplicates(found: Iterable[tuple[Path, str]]) -> None:
    """Raise a ValueError if two of these files or folders have one description."""
    known: dict[str, Path] = {}
    for path, description in found:
        if known.setdefault(description, path) != path:
            raise ValueError(
                f"{known[description]} and {path}: both are {description}; move one of them to another folder"
            )


def is_backbone(name: str) -> bool:
    """Whether this program knows the backbone; others are read from config.json alone."""
    return name in BACKBONES or name.startswith(TIMM)


def kind_of(backbone: str) -> str:
    """The kind in the table of backbones; for an unknown name, CNN or Transformer by parts of the name."""
    if backbone in BACKBONES:
        return BACKBONES[backbone].kind
    return TRANSFORMER if any(name in backbone.lower() for name in TRANSFORMER_NAMES) else CNN


def _asked_for(log_folder: Path) -> list[str]:
    """The words of `ablation_flags`, which the runner writes; empty without that file."""
    path = log_folder / "ablation_flags"
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return text.replace("BACKBONES=", " ").split()


def _find_families(log_folder: Path, asked: list[str]) -> list[Family]:
    """Families in the order of the report: CNNs first, then in the order of the table; ResNet50's if there is none."""
    known = {find_backbone(name).log_name: name for name in (*BACKBONES, *asked) if is_backbone(name)}
    configs = {prefix: [] for prefix, name in known.items() if name in asked}
    for log_name, folders in run_folders(log_folder).items():
        match = VARIANT_NAME.fullmatch(log_name)
        for config in map(_read_config, folders) if match else ():
            if match[1] in known or config.get("variant") == log_name:
                configs.setdefault(match[1], []).append(config)
    order = [*known, *sorted(set(configs) - set(known))]
    families = [_family(prefix, known.get(prefix), configs[prefix]) for prefix in order if prefix in configs]
    families.sort(key=lambda family: KINDS.index(family.kind))
    refuse_duplicates((log_folder / f"{family.prefix}*", f"of {family.backbone}") for family in families)
    return families or [_family(BACKBONES["resnet50"].log_name, "resnet50", [])]


def _family(prefix: str, backbone: str | None, configs: list[dict]) -> Family:
    """The family of a prefix; `backbone` is None for one that this program does not know."""
    backbone = backbone or _first([config.get("flags") or {} for config in configs], "backbone") or prefix
    title = find_backbone(backbone).title if is_backbone(backbone) else _first(configs, "backbone_title") or backbone
    kind = _first(configs, "backbone_kind")
    return Family(backbone, title, prefix, kind if kind in KINDS else kind_of(backbone))


def _first(contents: list[dict], key: str) -> str | None:
    return next((item[key] for item in contents if item.get(key)), None)


def _read_config(folder: Path) -> dict:
    """The content of config.json, empty if it cannot be read; the error is reported when the run is read."""
    try:
        return read_json(folder / "config.json")
    except (OSError, ValueError):
        return {}
