"""The style and the script of the page of scores: fixed texts, which its Content-Security-Policy allows by their hashes."""

# Viridis (van der Walt & Smith, 2015), in fifths from low to high: even in lightness, and told apart without red and green.
COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))

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
th button, .picture { font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: .25rem 0; }
.picture { display: block; padding: 0; }
button { cursor: pointer; }
th button:hover { color: var(--mark); }
:focus-visible { outline: 2px solid var(--mark); outline-offset: 2px; }
th[aria-sort=none] button::after { content: " \\2195"; color: var(--quiet); font-weight: 400; }
th[aria-sort=ascending] button::after { content: " \\25B2"; color: var(--mark); }
th[aria-sort=descending] button::after { content: " \\25BC"; color: var(--mark); }
tbody th { font-weight: 400; overflow-wrap: anywhere; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.score { font-size: 1.125rem; font-weight: 600; }
td.thumbnail { width: 192px; }
td.thumbnail img { display: block; max-width: 192px; max-height: 144px; width: auto; height: auto; border-radius: 4px; }
.error { color: var(--bad); overflow-wrap: anywhere; }
.orders, dialog menu { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: 0 0 1rem; padding: 0; }
.orders button, dialog button { font: inherit; padding: .25rem .75rem; border: 1px solid var(--line); border-radius: 4px; }
.orders button[aria-pressed=true] { border-color: var(--mark); color: var(--mark); }
dialog { box-sizing: border-box; width: min(60rem, 94vw); border: 1px solid var(--line); border-radius: 8px; padding: 1rem; }
dialog::backdrop { background: #000b; }
dialog h2 { font-size: 1.125rem; margin: 0 0 .5rem; overflow-wrap: anywhere; }
dialog p { margin: .5rem 0 0; }
dialog label { white-space: nowrap; }
.view { position: relative; width: min(100%, calc(min(60vh, 36rem) * var(--aspect, 1))); margin: 0 auto; }
.view img { display: block; width: 100%; height: auto; }
.view svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.scale { display: flex; gap: .5rem; align-items: center; margin-top: .75rem; font-variant-numeric: tabular-nums; }
.scale i { flex: 1; height: .75rem; background: linear-gradient(to right, $stops); }
@media (max-width: 40rem) { td.thumbnail { width: 96px; } td.thumbnail img { max-width: 96px; } th, td { padding: .375rem; } }
""".replace("$stops", ", ".join(f"rgb({r} {g} {b})" for r, g, b in COLOURS))

SCRIPT = """
"use strict";
const body = document.querySelector("tbody");
const orders = document.querySelectorAll(".orders button");
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
  for (const button of orders)
    button.setAttribute("aria-pressed", key === "score" && button.dataset.order === direction);
}
for (const button of orders)
  button.addEventListener("click", () => sortBy("score", button.dataset.order));
for (const head of document.querySelectorAll("th[data-key]"))
  head.querySelector("button").addEventListener("click", () => {
    const first = head.dataset.first;
    const other = first === "ascending" ? "descending" : "ascending";
    sortBy(head.dataset.key, head.getAttribute("aria-sort") === first ? other : first);
  });
const wanted = /^#(image|score)-(ascending|descending)$/.exec(location.hash);
if (wanted) sortBy(wanted[1], wanted[2]);

// The heat map: where patches overlap, a place has the mean of the scores of those that cover it.
const viewer = document.querySelector("dialog");
const part = name => viewer.querySelector("." + name);
const table = document.querySelector("table");
const colours = $colours;
let shown = null;
function colourOf(score, low, high) {
  const place = Math.min(Math.max((score - low) / (high - low || 1), 0), 1) * (colours.length - 1);
  const below = Math.min(Math.floor(place), colours.length - 2);
  const mixed = colours[below].map((from, i) => Math.round(from + (place - below) * (colours[below + 1][i] - from)));
  return `rgb(${mixed.join(", ")})`;
}
function mapOf(row) {
  const [[width, height, size], ...patches] = row.dataset.patches.split(";").map(group => group.split(" ").map(Number));
  return {width, height, size, patches};  // a patch: its left, top and score
}
function cellsOf({width, height, size, patches}) {
  const edges = (place, end) =>
    [...new Set([0, end, ...patches.flatMap(patch => [patch[place], patch[place] + size])])].sort((a, b) => a - b);
  const across = edges(0, width), down = edges(1, height), cells = [];
  for (let i = 0; i + 1 < down.length; i++)
    for (let j = 0; j + 1 < across.length; j++) {
      const [x, y] = [across[j], down[i]];
      const over = patches.filter(([left, top]) => left <= x && x < left + size && top <= y && y < top + size);
      if (over.length)  // a place that no patch covers has no colour
        cells.push({x, y, width: across[j + 1] - x, height: down[i + 1] - y, patches: over.length,
                    score: over.reduce((sum, patch) => sum + patch[2], 0) / over.length});
    }
  return cells;
}
function draw() {
  const map = mapOf(shown), scores = map.patches.map(patch => patch[2]);
  const ends = [Math.min(...scores), Math.max(...scores)];
  const own = part("own").checked;
  const [low, high] = own ? ends : [Number(table.dataset.low), Number(table.dataset.high)];
  const svg = part("map");
  svg.setAttribute("viewBox", `0 0 ${map.width} ${map.height}`);
  svg.replaceChildren();
  for (const cell of part("heat").checked ? cellsOf(map) : []) {
    const rect = document.createElementNS(svg.namespaceURI, "rect"), title = document.createElementNS(svg.namespaceURI, "title");
    for (const key of ["x", "y", "width", "height"]) rect.setAttribute(key, cell[key]);
    rect.setAttribute("fill", colourOf(cell.score, low, high));
    rect.setAttribute("fill-opacity", "0.55");
    title.textContent = `${cell.score.toFixed(2)}, the mean of ${cell.patches} ${cell.patches === 1 ? "patch" : "patches"}`;
    rect.append(title);
    svg.append(rect);
  }
  part("low").textContent = low.toFixed(2);
  part("high").textContent = high.toFixed(2);
  part("range").textContent = own ? "Colours from the lowest to the highest patch of this picture."
    : "Colours alike for all pictures: the middle nine tenths of all patches on this page.";
  part("about").textContent = `Score ${Number(shown.dataset.score).toFixed(2)}, the mean of ${scores.length} patches ` +
    `from ${ends[0].toFixed(2)} to ${ends[1].toFixed(2)}.`;
}
function show(row) {
  shown = row;
  part("name").textContent = row.dataset.image;
  const image = row.querySelector("img"), large = part("view").querySelector("img");
  for (const key of ["src", "width", "height"]) large.setAttribute(key, image.getAttribute(key));
  part("view").style.setProperty("--aspect", image.getAttribute("width") / image.getAttribute("height"));
  draw();
  if (!viewer.open) viewer.showModal();
}
function step(by) {
  const rows = Array.from(body.rows).filter(row => row.dataset.patches);
  const next = rows[rows.indexOf(shown) + by];
  if (next) show(next);
}
body.addEventListener("click", event => {
  const button = event.target.closest(".picture");
  if (button) show(button.closest("tr"));
});
viewer.addEventListener("click", event => { if (event.target === viewer) viewer.close(); });
viewer.addEventListener("keydown", event => {
  const by = {ArrowLeft: -1, ArrowRight: 1}[event.key];
  if (by) { event.preventDefault(); step(by); }
});
viewer.addEventListener("close", () => shown.querySelector(".picture").focus());
for (const [name, act] of [["previous", () => step(-1)], ["next", () => step(1)], ["close", () => viewer.close()]])
  part(name).addEventListener("click", act);
for (const name of ["heat", "own"])
  part(name).addEventListener("change", draw);
""".replace("$colours", str([list(colour) for colour in COLOURS]))
