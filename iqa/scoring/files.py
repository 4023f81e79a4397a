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
        for path in expand(argument):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def expand(argument: str) -> list[str]:
    if os.path.isdir(argument):
        return search(argument)
    if os.path.lexists(argument):
        return [argument]
    if not glob.has_magic(argument):
        raise FileNotFoundError(f"{argument}: no such file or folder")
    matches = sorted(glob.glob(argument, recursive=True))
    if not matches:
        raise FileNotFoundError(f"{argument}: no file matches this pattern")
    return [path for match in matches for path in (search(match) if os.path.isdir(match) else [match])]


def search(folder: str) -> list[str]:
    """The images in a folder and all below it; links to further folders are not followed."""
    files = sorted(os.path.join(where, name) for where, _, names in os.walk(folder, onerror=fail) for name in names)
    images = [path for path in files if is_image_name(os.path.basename(path))]
    others = Counter(os.path.splitext(path)[1].lower() or "no ending" for path in set(files) - set(images))
    if not images:
        raise FileNotFoundError(f"{folder}: contains no image; looked for {' '.join(sorted(ENDINGS))}")
    if others:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(others.items()))
        say(f"Note: {printable(folder)}: skipped hidden files and files without the ending of an image: {counts}")
    return images


def is_image_name(name: str) -> bool:
    """Whether a file of a folder is scored; hidden files are not: macOS adds a `._photo.jpg` to each photo.jpg."""
    return not name.startswith(".") and os.path.splitext(name)[1].lower() in ENDINGS


def fail(error: OSError) -> None:
    raise error


def as_utf8(text: str) -> str:
    """The text with escapes for those bytes of a file name that are not UTF-8."""
    return text.encode(errors="backslashreplace").decode()
