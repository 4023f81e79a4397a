"use strict";
const table = document.querySelector("table");
const body = table.tBodies[0];
const viewer = document.querySelector("dialog");
const part = name => viewer.querySelector("." + name);
const orders = document.querySelectorAll(".orders button");
// Viridis (van der Walt and Smith, 2015) from low to high: even in lightness, and readable without red and green.
const colours = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const compareNames = new Intl.Collator("en", {numeric: true}).compare;
const keys = {
  image: (a, b) => compareNames(a.dataset.image, b.dataset.image),
  score: (a, b) => a.dataset.score - b.dataset.score,
};
const number = value => value.toFixed(table.dataset.decimals);
let shown = null;  // the row that the dialog shows

function sortBy(key, direction) {
  const sign = direction === "descending" ? -1 : 1;
  const last = row => key === "score" && row.dataset.score === "";  // images without a score are at the end
  const rows = Array.from(body.rows);
  rows.sort((a, b) => last(a) - last(b) || sign * keys[key](a, b) || keys.image(a, b));
  body.append(...rows);
  for (const button of orders)
    button.setAttribute("aria-pressed", button.dataset.key === key && button.dataset.order === direction);
}

function colourOf(score, low, high) {
  const place = Math.min(Math.max((score - low) / (high - low || 1), 0), 1) * (colours.length - 1);
  const below = Math.min(Math.floor(place), colours.length - 2);
  const mixed = colours[below].map((from, i) => Math.round(from + (place - below) * (colours[below + 1][i] - from)));
  return `rgb(${mixed.join(", ")})`;
}

function mapOf(row) {
  const [[width, height, size], ...patches] = row.dataset.patches.split(";").map(group => group.split(" ").map(Number));
  return {width, height, size, patches};  // each patch: left, top, score
}

// Rectangles between the edges of the patches; each has the mean of the scores of the patches that cover it.
function cellsOf({width, height, size, patches}) {
  const edges = (place, end) =>
    [...new Set([0, end, ...patches.flatMap(patch => [patch[place], patch[place] + size])])].sort((a, b) => a - b);
  const across = edges(0, width), down = edges(1, height), cells = [];
  for (let i = 0; i + 1 < down.length; i++)
    for (let j = 0; j + 1 < across.length; j++) {
      const [x, y] = [across[j], down[i]];
      const over = patches.filter(([left, top]) => left <= x && x < left + size && top <= y && y < top + size);
      if (over.length)
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
    const [rect, title] = ["rect", "title"].map(name => document.createElementNS(svg.namespaceURI, name));
    for (const key of ["x", "y", "width", "height"]) rect.setAttribute(key, cell[key]);
    rect.setAttribute("fill", colourOf(cell.score, low, high));
    rect.setAttribute("fill-opacity", "0.55");
    title.textContent = `${number(cell.score)}, the mean of ${cell.patches} ${cell.patches === 1 ? "patch" : "patches"}`;
    rect.append(title);
    svg.append(rect);
  }
  part("low").textContent = number(low);
  part("high").textContent = number(high);
  part("range").textContent = own ? "The colours run from the lowest to the highest patch of this picture."
    : "The colours are the same for all pictures of this page.";
  part("about").textContent = `Score ${number(Number(shown.dataset.score))}, the mean of ${scores.length} ` +
    `${scores.length === 1 ? "patch" : "patches"} from ${number(ends[0])} to ${number(ends[1])}.`;
}

function show(row) {
  shown = row;
  part("name").textContent = row.querySelector("th").textContent;
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

for (const button of orders)
  button.addEventListener("click", () => sortBy(button.dataset.key, button.dataset.order));
const wanted = /^#(image|score)-(ascending|descending)$/.exec(location.hash);
if (wanted) sortBy(wanted[1], wanted[2]);

part("scale").querySelector("i").style.background =
  `linear-gradient(to right, ${colours.map(colour => `rgb(${colour.join(", ")})`).join(", ")})`;
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
