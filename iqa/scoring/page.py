"""Scores -> one HTML page that needs no other file, no network and no server.

The page holds a table that reads without scripts, best first; a script sorts it, and shows the scores of a picture's patches
over it. Its Content-Security-Policy allows the one style and the one script, by their hashes, and images from data URIs:
nothing else can be loaded or run, whatever a file name holds. A link to the page with #score-ascending, #image-ascending and
so on opens it sorted.
"""

import base64
import hashlib
import io
from html import escape
from typing import NamedTuple

import numpy as np
from PIL import Image

from iqa.scoring.page_parts import SCRIPT, STYLE
from iqa.scoring.table import scale, whose

PICTURE = (384, 288)  # width and height in pixels, at most: sharp in the table, enough under a heat map
MIDDLE = (5, 95)  # percentiles of all patches, between which the colours of all pictures lie

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Image quality scores</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Image quality scores</h1>
<p>{summary}</p>
<p class="orders">
<button type="button" data-order="descending" aria-pressed="true">Best first</button>
<button type="button" data-order="ascending" aria-pressed="false">Worst first</button>
</p>
<table data-low="{low}" data-high="{high}">
<caption>{scale} Select a column heading to sort by it, a picture to see which places of it score high and low.</caption>
<thead>
<tr><th scope="col">Picture</th>
<th scope="col" aria-sort="none" data-key="image" data-first="ascending"><button type="button">Image</button></th>
<th scope="col" aria-sort="descending" data-key="score" data-first="descending" class="number">
<button type="button">Score</button></th>
{heads}</tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</main>
<dialog aria-labelledby="name">
<menu>
<button type="button" class="previous" aria-keyshortcuts="ArrowLeft">← Previous</button>
<button type="button" class="next" aria-keyshortcuts="ArrowRight">Next →</button>
<label><input type="checkbox" class="heat" checked> Heat map</label>
<label><input type="checkbox" class="own"> Colours of this picture alone</label>
<button type="button" class="close" aria-keyshortcuts="Escape">Close</button>
</menu>
<h2 class="name" id="name"></h2>
<div class="view"><img alt=""><svg class="map" preserveAspectRatio="none" aria-hidden="true"></svg></div>
<div class="scale"><span class="low"></span><i></i><span class="high"></span></div>
<p><span class="about" role="status"></span> <span class="range"></span> Each patch is scored as though it were a picture of
its own; a place has the mean of the patches that cover it, and none where no patch does. {scale}</p>
</dialog>
<script>{script}</script>
</body>
</html>
"""


class Picture(NamedTuple):
    """A small JPEG of an image, and the size that its patches were cut from."""

    jpeg: bytes
    height: int  # pixels after the resize
    width: int
    corners: list[tuple[int, int]]  # row and column of the first pixel of each patch


def picture_of(pixels: np.ndarray, corners: list[tuple[int, int]]) -> Picture:
    """Resized pixels [H, W, 3] uint8 -> what the page shows of them."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail(PICTURE, Image.Resampling.BILINEAR)
    image.save(file, "JPEG", quality=80)
    return Picture(file.getvalue(), *pixels.shape[:2], corners)


def page(rows: list, about: dict, stages: tuple[str, ...]) -> str:
    """The page of iqa.scoring.table.Row; `stages` names the columns of attention, none where it is not shown."""
    low, high = colour_range(rows)
    best_first = sorted(rows, key=lambda row: (row.score is None, -(row.score or 0)))
    return PAGE.format(
        policy="default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src '{fingerprint(STYLE)}'; script-src '{fingerprint(SCRIPT)}'",
        style=STYLE,
        script=SCRIPT,
        summary=summary(rows, about),
        scale=escape(f"Scores are on the {scale(about, '–')}; higher is better."),
        low=f"{low:.4f}",
        high=f"{high:.4f}",
        heads="".join(f'<th scope="col" class="number">{escape(name)}</th>\n' for name in stages),
        rows="\n".join(table_row(row, len(stages), about["patch_size"]) for row in best_first),
    )


def colour_range(rows: list) -> tuple[float, float]:
    """The lowest and highest score of the colours that all pictures share."""
    patches = [score for row in rows for score in row.patches or ()]
    return tuple(np.percentile(patches, MIDDLE).tolist()) if patches else (0, 1)


def fingerprint(text: str) -> str:
    """As a Content-Security-Policy names a style or a script."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def summary(rows: list, about: dict) -> str:
    scores = [row.score for row in rows if row.error is None]
    counts = f"{len(scores):,} of {len(rows):,} images scored"
    spread = f", {min(scores):.2f} to {max(scores):.2f}, mean {sum(scores) / len(scores):.2f}" if scores else ""
    how = "the mean of {patches} patches of {patch_size}×{patch_size} pixels on a fixed grid".format(**about)
    how = f"{whose(about)} ({about['checkpoint']}): {how}, on the {scale(about, '–')}; {about['device']}, {about['precision']}"
    return escape(f"{counts}{spread}.") + "<br>" + escape(how)


def table_row(row, stages: int, patch_size: int) -> str:
    """One image: picture, name, score or error, attention."""
    name, score = escape(row.name), "" if row.score is None else repr(row.score)
    cells = [f'<td class="thumbnail">{button(row)}</td>', f'<th scope="row">{name}</th>']
    if row.error is not None:
        cells += [f'<td class="error" colspan="{1 + stages}">error: {escape(row.reason)}</td>']
    else:
        cells += [f'<td class="number score">{row.score:.2f}</td>']
        cells += [f'<td class="number">{weight:.4f}</td>' for weight in (row.attention or ())[:stages]]
    patches = f' data-patches="{patch_map(row, patch_size)}"' if row.picture else ""
    return f'<tr data-image="{name}" data-score="{score}"{patches}>{"".join(cells)}</tr>'


def patch_map(row, patch_size: int) -> str:
    """'width height patch size;left top score;...', in pixels of the resized image, as the script reads it."""
    groups = [
        (row.picture.width, row.picture.height, patch_size),
        *((left, top, f"{score:.2f}") for (top, left), score in zip(row.picture.corners, row.patches, strict=True)),
    ]
    return ";".join(" ".join(map(str, group)) for group in groups)


def button(row) -> str:
    """The picture, which opens its heat map. The name stands beside it, so the text of the image itself is empty."""
    if row.picture is None:
        return ""
    width, height = Image.open(io.BytesIO(row.picture.jpeg)).size
    data = base64.b64encode(row.picture.jpeg).decode()
    image = f'<img alt="" width="{width}" height="{height}" decoding="async" src="data:image/jpeg;base64,{data}">'
    return f'<button type="button" class="picture" aria-label="Patch scores of {escape(row.name)}">{image}</button>'
