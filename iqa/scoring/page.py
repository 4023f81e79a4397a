"""Scores -> one HTML page that needs no other file, no network and no server.

The table can be read without scripts, best first. The script sorts it and shows the scores of patches over a picture.
The Content-Security-Policy allows this one style and script, by their hashes, and images from data URIs: nothing else
is loaded or run, whatever a file name contains.
"""

import base64
import hashlib
import os
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from iqa.cli import printable
from iqa.scoring.results import STAGES, ModelFacts, ScoredImage

HERE = Path(__file__).parent
COLOUR_RANGE = (5, 95)  # percentiles of all patches: the scores of the darkest and of the lightest colour


def page(images: list[ScoredImage], facts: ModelFacts, attention: bool) -> str:
    """The page; each image that has a score has a picture."""
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    style, script = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("page.css", "page.js"))
    patches = [score for image in images for score in image.patches or ()]
    scores = [image.score for image in images if image.error is None]
    folder = common_folder([image.image for image in images])
    return environment.get_template("page.html.j2").render(
        policy="default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{fingerprint(style)}'; script-src '{fingerprint(script)}'",
        style=style,
        script=script,
        images=sorted(images, key=lambda image: (image.score is None, -(image.score or 0))),
        facts=facts,
        stages=STAGES if attention else (),
        folder=printable(folder),
        below_folder=lambda image: printable(image.image[len(folder) :]),
        scores=scores,
        colour_range=np.percentile(patches, COLOUR_RANGE).tolist() if patches else (0, 1),
        patch_map=patch_map,
    )


def common_folder(paths: list[str]) -> str:
    """The folder that all paths have in common, with a slash at its end; "" if there is none."""
    folder = os.path.dirname(os.path.commonprefix([os.path.join(os.path.dirname(path), "") for path in paths]))
    return os.path.join(folder, "") if folder else ""


def fingerprint(text: str) -> str:
    """The hash of a style or a script in a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def patch_map(image: ScoredImage, facts: ModelFacts) -> str:
    """'width height patch size;left top score;...' in pixels of the resized image, as the script reads it."""
    height, width = image.grid.size
    places = zip(image.grid.lefts, image.grid.tops, image.patches, strict=True)
    groups = [f"{left} {top} {facts.number(score)}" for left, top, score in places]
    return ";".join([f"{width} {height} {facts.patch_size}", *groups])
