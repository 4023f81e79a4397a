"""Scores -> one HTML page that needs no other file, no network and no server.

The page holds a table that reads without scripts; a script sorts it. Its Content-Security-Policy allows the one style
and the one script, by their hashes, and images from data URIs: nothing else can be loaded or run, whatever a file name
holds. A link to the page with #score-descending, #image-ascending and so on opens it sorted.
"""

import base64
import hashlib
import io
from html import escape

import numpy as np
from PIL import Image

from iqa.scoring.table import scale, whose

THUMBNAIL = (192, 144)  # width and height in pixels, at most

STYLE = """
:root { color-scheme: light dark; --line: #8884; --quiet: #6b7280; --mark: #2563eb; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --quiet: #9ca3af; --mark: #60a5fa; --bad: #f87171; } }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; }
p { margin: .25rem 0 1.5rem; color: var(--quiet); }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; padding-bottom: .5rem; color: var(--quiet); }
th, td { padding: .5rem .75rem; border-bottom: 1px solid var(--line); text-align: left; vertical-align: middle; }
thead th { position: sticky; top: 0; background: Canvas; z-index: 1; }
th button { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: .25rem 0; }
th button { cursor: pointer; }
th button:hover { color: var(--mark); }
th button:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
th[aria-sort=none] button::after { content: " \\2195"; color: var(--quiet); font-weight: 400; }
th[aria-sort=ascending] button::after { content: " \\25B2"; color: var(--mark); }
th[aria-sort=descending] button::after { content: " \\25BC"; color: var(--mark); }
tbody th { font-weight: 400; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.score { font-size: 1.125rem; font-weight: 600; }
td.thumbnail { width: 192px; }
td.thumbnail img { display: block; max-width: 100%; height: auto; border-radius: 4px; }
.error { color: var(--bad); overflow-wrap: anywhere; }
@media (max-width: 40rem) { td.thumbnail { width: 96px; } th, td { padding: .375rem; } }
"""

SCRIPT = """
"use strict";
const body = document.querySelector("tbody");
const compareNames = new Intl.Collator("en", {numeric: true}).compare;
const keys = {
  image: (a, b) => compareNames(a.dataset.image, b.dataset.image),
  score: (a, b) => a.dataset.score - b.dataset.score,
};
function sortBy(key, direction) {
  const sign = direction === "descending" ? -1 : 1;
  const rows = Array.from(body.rows);
  const last = row => key === "score" && row.dataset.score === "";  // without a score: at the end, either way
  rows.sort((a, b) => last(a) - last(b) || sign * keys[key](a, b) || keys.image(a, b));
  body.append(...rows);
  for (const head of document.querySelectorAll("th[data-key]"))
    head.setAttribute("aria-sort", head.dataset.key === key ? direction : "none");
}
for (const head of document.querySelectorAll("th[data-key]"))
  head.querySelector("button").addEventListener("click", () => {
    const first = head.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    sortBy(head.dataset.key, head.getAttribute("aria-sort") === first ? other : first);
  });
const wanted = /^#(image|score)-(ascending|descending)$/.exec(location.hash);
if (wanted) sortBy(wanted[1], wanted[2]);
"""

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
<table>
<caption>Select a column heading to sort by it. Higher scores are better.</caption>
<thead>
<tr><th scope="col">Thumbnail</th>
<th scope="col" aria-sort="none" data-key="image" data-first="ascending"><button type="button">Image</button></th>
<th scope="col" aria-sort="none" data-key="score" data-first="descending" class="number">
<button type="button">Score</button></th>
{heads}</tr>
</thead>
<tbody>
{rows}
</tbody>
</table>
</main>
<script>{script}</script>
</body>
</html>
"""


def thumbnail(pixels: np.ndarray) -> bytes:
    """Resized pixels [H, W, 3] uint8 -> a small JPEG."""
    image, file = Image.fromarray(pixels), io.BytesIO()
    image.thumbnail(THUMBNAIL, Image.Resampling.BILINEAR)
    image.save(file, "JPEG", quality=80)
    return file.getvalue()


def page(rows: list, about: dict, stages: tuple[str, ...]) -> str:
    """The page of iqa.scoring.table.Row; `stages` names the columns of attention, none where it is not shown."""
    return PAGE.format(
        policy="default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
               f"style-src '{fingerprint(STYLE)}'; script-src '{fingerprint(SCRIPT)}'",
        style=STYLE,
        script=SCRIPT,
        summary=summary(rows, about),
        heads="".join(f'<th scope="col" class="number">{escape(name)}</th>\n' for name in stages),
        rows="\n".join(table_row(row, len(stages)) for row in rows),
    )  # fmt: skip


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


def table_row(row, stages: int) -> str:
    """One image: thumbnail, name, score or error, attention."""
    name, score = escape(row.name), "" if row.score is None else repr(row.score)
    cells = [f'<td class="thumbnail">{picture(row)}</td>', f'<th scope="row">{name}</th>']
    if row.error is not None:
        cells += [f'<td class="error" colspan="{1 + stages}">error: {escape(row.reason)}</td>']
    else:
        cells += [f'<td class="number score">{row.score:.2f}</td>']
        cells += [f'<td class="number">{weight:.4f}</td>' for weight in (row.attention or ())[:stages]]
    return f'<tr data-image="{name}" data-score="{score}">{"".join(cells)}</tr>'


def picture(row) -> str:
    """The name stands beside it, so the text for those who do not see it is empty."""
    if row.thumbnail is None:
        return ""
    width, height = Image.open(io.BytesIO(row.thumbnail)).size
    data = base64.b64encode(row.thumbnail).decode()
    return f'<img alt="" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'
