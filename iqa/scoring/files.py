"""The arguments of score_images.py, files, folders and patterns, -> paths of images."""

import glob
import os
from collections import Counter

from iqa.cli import printable, say

# Files of a folder that are scored; a file that is named, or matches a pattern, is tried whatever its ending.
ENDINGS = frozenset(
    ".avif .bmp .gif .heic .heif .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp".split()
)


def find_images(arguments: list[str]) -> list[str]:
    """Paths in the order of the arguments, sorted within a folder or pattern, none twice.

    Raises:
        FileNotFoundError: names an argument that leads to no image.
    """
    found = {}
    for argument in arguments:
        for match in matches(argument):
            for path in images_below(match) if os.path.isdir(match) else [match]:
                found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def matches(argument: str) -> list[str]:
    """The files and folders that an argument names."""
    if os.path.lexists(argument):
        return [argument]
    if not glob.has_magic(argument):
        raise FileNotFoundError(f"{argument}: no such file or folder")
    found = sorted(glob.glob(argument, recursive=True))
    if not found:
        raise FileNotFoundError(f"{argument}: no file matches this pattern")
    return found


def images_below(folder: str) -> list[str]:
    """The images in a folder and all below it; links to further folders are not followed."""
    images, others = [], Counter()
    for where, _, names in os.walk(folder, onerror=fail):
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if ending in ENDINGS and not name.startswith("."):  # macOS adds a `._photo.jpg` to each photo.jpg
                images.append(os.path.join(where, name))
            else:
                others[ending or "no ending"] += 1
    if not images:
        raise FileNotFoundError(f"{folder}: contains no image; looked for {' '.join(sorted(ENDINGS))}")
    if others:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(others.items()))
        say(f"Note: {printable(folder)}: skipped hidden files and files without the ending of an image: {counts}")
    return sorted(images)


def fail(error: OSError) -> None:
    raise error
