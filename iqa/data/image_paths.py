"""The files of the labelled images: names -> paths, in the first layout that has them all."""

import functools
import os
import unicodedata
from pathlib import Path, PurePosixPath

from iqa.data.labels import FOLDER_OF_SET, Label

Layout = tuple[str, ...]  # folders that hold the images together


def locate_images(
    root: Path, labels: list[Label], layouts: tuple[Layout, ...], any_case: bool = False
) -> dict[str, Path]:
    """Name -> path, in the first layout that holds every image.

    Args:
        any_case: also accept a file whose name differs from the label's in case only.
    """
    finder = Finder(any_case)
    found = {layout: find_in_layout(root, layout, labels, finder) for layout in layouts}
    layout = max(layouts, key=lambda layout: len(found[layout]))  # the first of equal ones
    paths = found[layout]
    missing = [label.name for label in labels if label.name not in paths]
    if missing:
        looked = ", ".join("/ + ".join(names) + "/" for names in layouts)
        raise FileNotFoundError(
            f"--data_path {root}: {len(missing)} of {len(labels)} labelled images are missing, first "
            f"{', '.join(missing[:5])}; looked in {looked}" + f"; {'/ + '.join(layout)}/ has the most" * bool(paths)
        )
    return paths


def find_in_layout(root: Path, layout: Layout, labels: list[Label], finder: "Finder") -> dict[str, Path]:
    """Look for an image first in the folder of its set, if the layout has one."""
    folders = [name for name in layout if (root / name).is_dir()]
    found = {}
    for label in labels:
        own = FOLDER_OF_SET.get(label.set)
        for folder in sorted(folders, key=lambda name, own=own: name != own):
            if path := finder.find(root / folder, label.name):
                found[label.name] = path
                break
    return found


class Finder:
    """Finds the file of a name, also if Unicode form or letter case differs."""

    def __init__(self, any_case: bool):
        self.any_case = any_case
        self.entries = functools.cache(self.read_entries)

    def find(self, folder: Path, name: str) -> Path | None:
        if (folder / name).is_file():
            return folder / name
        for part in PurePosixPath(name).parts:
            alike = self.entries(folder).get(self.normal_form(part), [])
            if len(alike) > 1 and part not in alike:
                raise ValueError(f"{folder / part}: missing, and {' and '.join(alike)} both match; keep one")
            if not alike:
                return None
            folder /= part if part in alike else alike[0]
        return folder if folder.is_file() else None

    def read_entries(self, folder: Path) -> dict[str, list[str]]:
        """Normal form -> names in a folder."""
        entries: dict[str, list[str]] = {}
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            entries.setdefault(self.normal_form(name), []).append(name)
        return entries

    def normal_form(self, name: str) -> str:
        return unicodedata.normalize("NFC", name.casefold() if self.any_case else name)


def check_distinct(labels: list[Label], paths: dict[str, Path]) -> list[str]:
    """Refuse a file that is in two sets under several names or links; warn of one that is twice in a set."""
    first_of: dict[str, Label] = {}
    warnings = []
    for label in labels:
        first = first_of.setdefault(os.path.realpath(paths[label.name]), label)
        if first is label:
            continue
        same = f"{label.where}: {label.name} is the same file as {first.name} ({first.where})"
        if first.set != label.set:
            raise ValueError(f"{same}, and they are in two sets, {first.set} and {label.set}; remove one")
        warnings.append(f"{same}, twice in the {label.set} set")
    return warnings
