"""Where the images of a data set lie: label names -> files, in the first layout that holds them all."""

from collections.abc import Callable
from pathlib import Path, PurePosixPath

from iqa.data.labels import FOLDER_OF_SET, Label

Layout = tuple[str, ...]  # folders that hold the images together


def locate_images(
    root: Path, labels: list[Label], layouts: tuple[Layout, ...], any_case: bool = False
) -> dict[str, Path]:
    """Name -> path, in the first layout that holds every image.

    Args:
        any_case: a file whose name differs from the label's in capitals alone is the image, too.
    """
    find = CaseBlindFinder() if any_case else find_exactly
    found = {layout: find_in_layout(root, layout, labels, find) for layout in layouts}
    layout = max(layouts, key=lambda layout: len(found[layout]))  # the first, where several hold as many
    paths = found[layout]
    missing = [label.name for label in labels if label.name not in paths]
    if missing:
        looked = ", ".join("/ + ".join(names) + "/" for names in layouts)
        raise FileNotFoundError(
            f"--data_path {root}: {len(missing)} of {len(labels)} labelled images are missing, first "
            f"{', '.join(missing[:5])}; looked in {looked}" + f"; {'/ + '.join(layout)}/ holds the most" * bool(paths)
        )
    for label in labels:
        check_stays_inside(paths[label.name], root, layout, label)
    return paths


def find_in_layout(
    root: Path, layout: Layout, labels: list[Label], find: Callable[[Path], Path | None]
) -> dict[str, Path]:
    """An image is looked for in the folder of its own set first, where the layout has one."""
    folders = [name for name in layout if (root / name).is_dir()]
    found = {}
    for label in labels:
        own = FOLDER_OF_SET.get(label.set)
        for folder in sorted(folders, key=lambda name, own=own: name != own):
            path = find(root / folder / label.name)
            if path:
                found[label.name] = path
                break
    return found


def find_exactly(path: Path) -> Path | None:
    return path if path.is_file() else None


class CaseBlindFinder:
    """The file of a path, or the one whose name differs from it in capitals alone; reads each folder once."""

    def __init__(self):
        self.folders: dict[Path, dict[str, list[Path]]] = {}

    def __call__(self, path: Path) -> Path | None:
        if path.is_file():
            return path
        alike = self.files_in(path.parent).get(path.name.casefold(), [])
        if len(alike) > 1:
            raise ValueError(f"{path}: missing, and {' and '.join(x.name for x in alike)} are both like it; keep one")
        return alike[0] if alike else None

    def files_in(self, folder: Path) -> dict[str, list[Path]]:
        if folder not in self.folders:
            names: dict[str, list[Path]] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                if path.is_file():
                    names.setdefault(path.name.casefold(), []).append(path)
            self.folders[folder] = names
        return self.folders[folder]


def check_stays_inside(path: Path, root: Path, layout: Layout, label: Label) -> None:
    """A link to a whole image folder is the user's own; an image that a link takes elsewhere is refused."""
    if path.is_symlink() or len(PurePosixPath(label.name).parts) > 1:
        allowed = [root.resolve(), *((root / folder).resolve() for folder in layout)]
        real = path.resolve()
        if not any(real.is_relative_to(folder) for folder in allowed):
            raise ValueError(f"{label.where}: {label.name} is a link out of the data folder, to {real}")
