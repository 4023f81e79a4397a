"""Write a KonIQ-shaped data set of procedural scenes with graded faults, for trying the program without KonIQ-10k.

    python3 demo_dataset.py --output demo-data --images 300
    python3 demo_dataset.py --output demo-koniq --metadata koniq10k_distributions_sets.csv      # all 10,073 names

The folder gets the official csv, 1024x768/<digits>.jpg, and DEMO_DATASET.txt, which says that these are no photographs.
A scene is a function of (seed, name), and its faults of (seed, name, MOS): the lower the MOS, the stronger the fault.
"""

import argparse
import colorsys
import csv
import hashlib
import io
import math
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageStat
from tqdm import tqdm

from iqa.atomic_files import write_atomically
from iqa.command_line import OneLineParser

WIDTH, HEIGHT = 1024, 768
CSV_NAME = "koniq10k_distributions_sets.csv"
MARKER_NAME = "DEMO_DATASET.txt"
COLUMNS = ("image_name", "c1", "c2", "c3", "c4", "c5", "c_total", "MOS", "SD", "set")
NOTE = "Demo images: procedural scenes with synthetic faults, not KonIQ-10k's photographs."
SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}  # KonIQ-10k: 7,058 / 1,000 / 2,015
BEST_MOS, WORST_MOS = 90.0, 5.0  # the faults' strength runs from 0 to 1 between them; KonIQ's MOS lie in 3.9 to 88.4
RATING_SPREAD = 0.57  # standard deviation of one image's ratings on the 1-5 scale; KonIQ's median SD

Color = tuple[int, int, int]


class Row(NamedTuple):
    """One image of the csv: its name, its MOS (0-100), its set, and its line in the file."""

    name: str
    mos: float
    set_name: str
    line: str


# ---------------------------------------------------------------------------------------------------------------------
# Scenes: full of edges and fine texture everywhere, so that a fault shows in any small crop


def random_generator(*key: object) -> np.random.Generator:
    """Random numbers that depend on `key` alone, so on no other image and no worker."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def draw_palette(rng: np.random.Generator) -> list[Color]:
    """Eight colours of different hues and brightness: one colour cast over all of them is no palette."""
    hues = (rng.random() + np.array([0, 0.06, 0.12, 0.3, 0.45, 0.55, 0.62, 0.8]) + rng.normal(0, 0.03, 8)) % 1
    saturations, values = rng.uniform(0.15, 0.55, 8), rng.permutation(np.linspace(0.3, 0.9, 8))
    hsv = zip(hues, saturations, values, strict=True)
    return [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(*color)) for color in hsv]


def pick(rng: np.random.Generator, palette: list[Color]) -> Color:
    """A colour of the palette with its brightness varied by up to a fifth, so that neighbours differ."""
    gain = rng.uniform(0.8, 1.2)
    return tuple(min(255, round(part * gain)) for part in palette[rng.integers(len(palette))])


def vertical_gradient(top: Color, bottom: Color) -> Image.Image:
    column = np.linspace(top, bottom, HEIGHT).astype(np.uint8)[:, None]
    return Image.fromarray(column).resize((WIDTH, HEIGHT))


def ridge(rng: np.random.Generator, level: float, height: float) -> list[tuple[float, float]]:
    """A mountain line across the image, by repeated halving with random displacement (units: pixels)."""
    line = np.array([level, level]) + rng.normal(0, height, 2)
    for _ in range(7):
        middles = (line[1:] + line[:-1]) / 2 + rng.normal(0, height, len(line) - 1)
        line = np.insert(line, np.arange(1, len(line)), middles)
        height *= 0.55
    return list(zip(np.linspace(0, WIDTH, len(line)), line, strict=True))


def landscape(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """A sky, four ranges of hills, and firs that grow towards the viewer."""
    scene = vertical_gradient(palette[0], palette[3])
    draw = ImageDraw.Draw(scene)
    for level in (0.3, 0.45, 0.6, 0.78):
        line = ridge(rng, level * HEIGHT, 45)
        color = pick(rng, palette)
        draw.polygon([(0, HEIGHT), *line, (WIDTH, HEIGHT)], fill=color)
        size = 90 * level**2
        for x, y in zip(rng.uniform(0, WIDTH, 70), rng.uniform(0, 0.15 * HEIGHT, 70), strict=True):
            foot = np.interp(x, *zip(*line, strict=True)) + y
            fir = [(x - size * 0.3, foot), (x, foot - size * rng.uniform(0.7, 1.3)), (x + size * 0.3, foot)]
            draw.polygon(fir, fill=pick(rng, palette))
    return scene


def city(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """Three rows of houses with windows, before a sky."""
    scene = vertical_gradient(palette[1], palette[4])
    draw = ImageDraw.Draw(scene)
    for level in (0.12, 0.35, 0.6):
        left = -rng.uniform(0, 60)
        while left < WIDTH:
            width, top = rng.uniform(60, 150), HEIGHT * (level + rng.uniform(0, 0.2))
            house(draw, rng, palette, left, top, width)
            left += width + rng.uniform(0, 12)
    return scene


def house(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, palette: list[Color], left: float, top: float, width: float
) -> None:
    """A front with 3 to 5 windows on each floor; four in five windows share one colour."""
    draw.rectangle((left, top, left + width, HEIGHT), fill=pick(rng, palette))
    across, step, glass = int(rng.integers(3, 6)), rng.uniform(20, 40), pick(rng, palette)
    pane = width / (across * 1.5 + 0.5)
    for y in np.arange(top + step / 2, HEIGHT, step):
        for x in left + pane * (0.5 + 1.5 * np.arange(across)):
            draw.rectangle((x, y, x + pane, y + step / 2), fill=glass if rng.random() < 0.8 else pick(rng, palette))


def leaves(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """Opaque discs of many sizes that fall over each other: the 'dead leaves' model of natural images."""
    scene = Image.new("RGB", (WIDTH, HEIGHT), palette[2])
    draw = ImageDraw.Draw(scene)
    radii = np.sort(rng.pareto(1.5, 1500) * 12 + 8)[::-1].clip(max=160)
    for radius, x, y in zip(radii, rng.uniform(0, WIDTH, 1500), rng.uniform(0, HEIGHT, 1500), strict=True):
        tall = radius * rng.uniform(0.5, 1)
        draw.ellipse((x - radius, y - tall, x + radius, y + tall), fill=pick(rng, palette))
    return scene


def shards(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """Triangles at all angles, large ones below, as in broken rock or stained glass."""
    scene = Image.new("RGB", (WIDTH, HEIGHT), palette[5])
    draw = ImageDraw.Draw(scene)
    for size in np.geomspace(300, 16, 900):
        center, angles = rng.uniform(0, (WIDTH, HEIGHT)), rng.uniform(0, 2 * math.pi, 3)
        corners = center + size * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        draw.polygon([tuple(corner) for corner in corners], fill=pick(rng, palette))
    return scene


def bricks(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """Rows of stones with mortar between them."""
    scene = Image.new("RGB", (WIDTH, HEIGHT), palette[6])
    draw = ImageDraw.Draw(scene)
    tall = rng.uniform(22, 60)
    for row, top in enumerate(np.arange(0, HEIGHT, tall)):
        left = -tall * (1 + row % 2)
        while left < WIDTH:
            width = tall * rng.uniform(1.2, 2.4)
            draw.rounded_rectangle((left, top, left + width - 5, top + tall - 5), 5, fill=pick(rng, palette))
            left += width
    return scene


def plaid(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """A woven cloth, turned by a random angle."""
    side = 1300  # covers the image at every angle
    cloth = [Image.new("RGB", (side, side), palette[index]) for index in (0, 4)]
    for direction, layer in enumerate(cloth):
        draw = ImageDraw.Draw(layer)
        position = 0.0
        while position < side:
            width = rng.uniform(6, 50)
            stripe = [position, 0, position + width, side]
            draw.rectangle(stripe if direction else stripe[1::-1] + stripe[:1:-1], fill=pick(rng, palette))
            position += width
    turned = Image.blend(*cloth, 0.5).rotate(rng.uniform(0, 90), Image.Resampling.BILINEAR)
    return turned.crop(((side - WIDTH) // 2, (side - HEIGHT) // 2, (side + WIDTH) // 2, (side + HEIGHT) // 2))


def meadow(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """Blades and flowers, small at the horizon and large in front."""
    scene = vertical_gradient(palette[3], palette[1])
    draw = ImageDraw.Draw(scene)
    for depth in np.sqrt(np.linspace(0, 1, 1400)):
        x, y, size = rng.uniform(0, WIDTH), depth * HEIGHT, 8 + 40 * depth
        lean = rng.uniform(-0.6, 0.6) * size
        draw.line((x, y, x + lean, y - size), fill=pick(rng, palette), width=round(2 + 3 * depth))
        if rng.random() < 0.4:
            box = np.array([x + lean, y - size] * 2) + size * rng.uniform(0.15, 0.3) * np.array([-1, -1, 1, 1])
            draw.ellipse(tuple(box), fill=pick(rng, palette))
    return scene


SCENES: dict[str, Callable[[np.random.Generator, list[Color]], Image.Image]] = {
    "landscape": landscape,
    "city": city,
    "leaves": leaves,
    "shards": shards,
    "bricks": bricks,
    "plaid": plaid,
    "meadow": meadow,
}


def fractal_texture(rng: np.random.Generator, contrast: float, roughness: float) -> Image.Image:
    """Grey noise with detail at every scale, mean 128 and standard deviation `contrast` (0-255).

    Each octave is drawn at twice the size of the last one; `roughness` is the amplitude of a finer octave over that
    of a coarser one. Real surfaces lie near 0.7.
    """
    field = rng.standard_normal((3, 4), dtype=np.float32)
    while field.shape[1] < WIDTH // 2:
        height, width = 2 * field.shape[0], 2 * field.shape[1]
        coarse = np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BILINEAR))
        field = coarse / roughness + rng.standard_normal((height, width), dtype=np.float32)
    grey = (field * (contrast / field.std()) + 128).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def auto_exposure(scene: Image.Image, brightness: float = 118, contrast: float = 52) -> Image.Image:
    """Bring a scene's grey mean and standard deviation (0-255) near these, as a camera does.

    Without it a dark scene and an underexposed one could not be told apart.
    """
    statistics = ImageStat.Stat(scene.convert("L"))
    gain = contrast / max(statistics.stddev[0], 1)
    return scene.point(lambda value: (value - statistics.mean[0]) * gain + brightness)


def draw_scene(rng: np.random.Generator) -> Image.Image:
    """A faultless scene, RGB."""
    kind = list(SCENES)[rng.integers(len(SCENES))]
    shapes = SCENES[kind](rng, draw_palette(rng))
    texture = fractal_texture(rng, contrast=rng.uniform(32, 44), roughness=rng.uniform(0.75, 1.0))
    return auto_exposure(ImageChops.overlay(shapes, Image.merge("RGB", [texture] * 3)))


# ---------------------------------------------------------------------------------------------------------------------
# Faults: each takes a strength, from 0 (not to be seen) to 1 (hardly a picture left)


def blur(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Defocus: a Gaussian of up to 9 pixels' standard deviation."""
    return image.filter(ImageFilter.GaussianBlur(9 * strength**1.25))


def noise(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Colour noise in grains of two pixels, which stays to be seen when the image is halved."""
    deviation = 75 * strength
    grains = rng.standard_normal((HEIGHT // 2, WIDTH // 2, 3), dtype=np.float32) * deviation + 128
    layer = Image.fromarray(grains.clip(0, 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.add(image, layer, offset=-128)


def compression(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """JPEG at half the size, as messengers send it, with quality 60 down to 3."""
    small, file = image.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BOX), io.BytesIO()
    small.save(file, "JPEG", quality=round(60 * 20**-strength))
    received = Image.open(file).resize(image.size, Image.Resampling.BICUBIC)
    return Image.blend(image, received, min(1, 8 * strength))  # from none at strength 0 to the whole at 1/8


def exposure(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Too long or too short an exposure: up to +2.2 stops, clipped at white, or up to -3 stops."""
    stops = strength * (2.2 if rng.random() < 0.5 else -3.0)
    return image.point(lambda value: min(255, value * 2**stops))


def color_cast(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Light of one saturated colour takes the place of the scene's own colours, up to nine tenths."""
    tint = np.array(colorsys.hsv_to_rgb(rng.random(), 0.9, 1.0))
    tint /= tint @ LUMA
    share = 0.9 * strength
    matrix = (1 - share) * np.eye(3) + share * np.outer(tint, LUMA)
    return image.convert("RGB", tuple(np.hstack([matrix, np.zeros((3, 1))]).ravel()))


LUMA = np.array([0.299, 0.587, 0.114])  # the weights of R, G and B in an image's grey, ITU-R BT.601
FAULTS: dict[str, Callable[[Image.Image, float, np.random.Generator], Image.Image]] = {
    "exposure": exposure,  # in the order in which a camera commits them
    "color cast": color_cast,
    "blur": blur,
    "noise": noise,
    "compression": compression,
}


def fault_strength(mos: float) -> float:
    """From MOS (0-100) to strength (0-1); linear, and clipped at both ends."""
    return min(1.0, max(0.0, (BEST_MOS - mos) / (BEST_MOS - WORST_MOS)))


def degrade(scene: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Apply one fault, chosen at random, at full `strength`, and the others at 0.3 to 0.6 of it, as a poor camera does.

    With a single fault per image a network must learn five unrelated scales, which takes it far more steps.
    """
    main = rng.choice(list(FAULTS))
    for kind, fault in FAULTS.items():
        share = rng.uniform(0.3, 0.6)
        scene = fault(scene, strength * (1 if kind == main else share), rng)
    return scene


def demo_image(seed: int, name: str, mos: float) -> bytes:
    """The JPEG file of one image."""
    scene = draw_scene(random_generator(seed, name, "scene"))
    faulty = degrade(scene, fault_strength(mos), random_generator(seed, name, "fault"))
    file = io.BytesIO()
    faulty.save(file, "JPEG", quality=90)
    return file.getvalue()


# ---------------------------------------------------------------------------------------------------------------------
# Labels: invented ones, or those of an official csv


def split_sizes(images: int, available: dict[str, float], at_least: int) -> dict[str, int]:
    """Share `images` among the sets in proportion to `available`, with `at_least` in each; the largest gets the rest."""
    total, largest = sum(available.values()), max(available, key=available.get)
    sizes = {name: max(at_least, round(images * part / total)) for name, part in available.items()}
    sizes[largest] = images - sum(size for name, size in sizes.items() if name != largest)
    return sizes


def invented_rows(images: int, seed: int) -> list[Row]:
    """Rows with MOS spread evenly over the scale; no set has fewer than 20 images, or a quarter of a small number."""
    rng = random_generator(seed, "labels", images)
    sizes = split_sizes(images, SHARES, at_least=max(2, min(20, images // 4)))
    sets = rng.permutation([name for name, size in sizes.items() for _ in range(size)])
    return [invented_row(f"{index:08d}.jpg", str(set_name), rng) for index, set_name in enumerate(sets, start=1)]


def invented_row(name: str, set_name: str, rng: np.random.Generator) -> Row:
    """Let 90 to 130 raters choose 1 to 5; the MOS is their mean on the 0-100 scale, the SD theirs on 1-5."""
    raters, opinion = int(rng.integers(90, 131)), 1 + rng.uniform(WORST_MOS, BEST_MOS) / 25
    ratings = np.rint(rng.normal(opinion, RATING_SPREAD, raters)).clip(1, 5)
    fractions = np.bincount(ratings.astype(int), minlength=6)[1:] / raters
    mos, deviation = 25 * (ratings.mean() - 1), ratings.std(ddof=1)
    numbers = [*(f"{part:.12g}" for part in fractions), raters, f"{mos:.12g}", f"{deviation:.12g}"]
    return Row(name, float(f"{mos:.12g}"), set_name, ",".join(map(str, [name, *numbers, set_name])))


def read_metadata(path: str) -> tuple[str, list[Row]]:
    """The header and the rows of an official csv."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"--metadata {path}: {error}; give the path of {CSV_NAME}") from error
    header = next(csv.reader(lines[:1]), [])
    missing = [column for column in ("image_name", "MOS", "set") if column not in header]
    if missing:
        raise ValueError(f"--metadata {path}: no column {', '.join(missing)}; give the official {CSV_NAME}")
    rows = [metadata_row(line, header, f"--metadata {path}, line {n}") for n, line in enumerate(lines[1:], 2) if line]
    if not rows:
        raise ValueError(f"--metadata {path} has no rows; give the official {CSV_NAME}")
    refuse_duplicates(rows, path)
    return lines[0], rows


def metadata_row(line: str, header: list[str], place: str) -> Row:
    fields = dict(zip(header, next(csv.reader([line]), []), strict=False))
    name, mos, set_name = (fields.get(column, "") for column in ("image_name", "MOS", "set"))
    if PurePath(name).name != name or "\\" in name or not name.lower().endswith(".jpg"):
        raise ValueError(f"{place}: image_name {name!r} is not a plain file name that ends in .jpg")
    if not is_score(mos):
        raise ValueError(f"{place}: MOS {mos!r} is not a number from 0 to 100")
    if set_name not in SHARES:
        raise ValueError(f"{place}: set {set_name!r} is none of {', '.join(SHARES)}")
    return Row(name, float(mos), set_name, line)


def is_score(text: str) -> bool:
    try:
        return 0 <= float(text) <= 100
    except ValueError:
        return False


def refuse_duplicates(rows: list[Row], path: str) -> None:
    seen: set[str] = set()
    for row in rows:
        if row.name in seen:
            raise ValueError(f"--metadata {path}: image_name {row.name!r} is there twice; remove one of the rows")
        seen.add(row.name)


def evenly_spaced(rows: list[Row], images: int) -> list[Row]:
    """`images` of the rows, each set in proportion and evenly spaced within its rows, in the file's order."""
    by_set = {name: [row for row in rows if row.set_name == name] for name in SHARES}
    available = {name: len(members) for name, members in by_set.items() if members}
    chosen: set[str] = set()
    for name, size in split_sizes(images, available, at_least=1).items():
        chosen.update(by_set[name][index * available[name] // size].name for index in range(size))
    return [row for row in rows if row.name in chosen]


# ---------------------------------------------------------------------------------------------------------------------
# Files


def marker_text(seed: int, table: str) -> str:
    """The marker's content: two runs with the same arguments have the same, and only they."""
    checksum = hashlib.sha256(table.encode()).hexdigest()
    return f"{NOTE}\nWritten by demo_dataset.py.\nseed {seed}\nSHA-256 of {CSV_NAME} {checksum}\n"


def prepare_folder(output: Path, seed: int, table: str) -> None:
    """Write the marker and the csv, or see that they are those of the same arguments."""
    marker, labels, text = output / MARKER_NAME, output / CSV_NAME, marker_text(seed, table)
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; give a folder")
    if marker.is_file() and marker.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"--output {output} holds a demo made with other arguments; give the same --images, --seed and --metadata, "
            "or a new folder"
        )
    if output.is_dir() and any(output.iterdir()) and not marker.is_file():
        raise ValueError(
            f"--output {output} is not empty and holds no {MARKER_NAME}; give an empty folder or a new one"
        )
    if labels.is_file() and labels.read_text(encoding="utf-8") != table:
        raise ValueError(
            f"--output {output}: {CSV_NAME} was changed after it was written; remove it or give a new folder"
        )
    (output / f"{WIDTH}x{HEIGHT}").mkdir(parents=True, exist_ok=True)
    write_atomically(marker, text)
    write_atomically(labels, table)


def write_image(task: tuple[Path, int, str, float]) -> None:
    """Write one image whole or not at all. It is not flushed to disk: a lost image is made again by the next call."""
    path, seed, name, mos = task
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(demo_image(seed, name, mos))
    os.replace(temporary, path)


def write_images(tasks: list[tuple[Path, int, str, float]], workers: int) -> None:
    """Write all images with `workers` processes."""
    with ProcessPoolExecutor(workers, initializer=follow_the_parent) as executor:
        try:
            for _ in progress(executor.map(write_image, tasks), len(tasks)):
                pass
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise


def follow_the_parent() -> None:
    """Let a worker leave Ctrl-C to its parent, and end when the parent does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def progress(done: Iterable[None], total: int) -> Iterator[None]:
    """Show a bar on a terminal, and elsewhere a line at every tenth of the way."""
    if sys.stderr.isatty():
        yield from tqdm(done, total=total, unit="image", desc="demo images")
        return
    for count, item in enumerate(done, start=1):
        if count * 10 // total > (count - 1) * 10 // total:
            print(f"demo images: {count} of {total}", flush=True)
        yield item


# ---------------------------------------------------------------------------------------------------------------------
# The command


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", required=True, help="folder to write; must be new, empty, or this demo begun before"
    )
    parser.add_argument(
        "--images", type=int, help="number of images, 6 or more; with --metadata the default is all rows"
    )
    parser.add_argument("--metadata", help=f"take names, MOS and sets from this official csv ({CSV_NAME})")
    parser.add_argument("--seed", type=int, default=42, help="another seed gives other scenes (default 42)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one per CPU core)")
    return parser.parse_args(argv)


def chosen_rows(images: int | None, metadata: str | None, seed: int) -> tuple[str, list[Row]]:
    """The csv's header and rows that the arguments ask for."""
    if images is None and metadata is None:
        raise ValueError("--images is missing; give a number, such as --images 300, or a csv with --metadata")
    if images is not None and images < 6:
        raise ValueError(f"--images {images} is too small for three sets; give 6 or more")
    if metadata is None:
        return ",".join(COLUMNS), invented_rows(images, seed)
    header, rows = read_metadata(metadata)
    if images is not None and images > len(rows):
        raise ValueError(f"--images {images}: {metadata} has only {len(rows)} rows; leave --images out for all of them")
    return header, rows if images is None else evenly_spaced(rows, images)


def build(arguments: argparse.Namespace) -> None:
    if arguments.workers < 1:
        raise ValueError(f"--workers {arguments.workers}: give 1 or more")
    header, rows = chosen_rows(arguments.images, arguments.metadata, arguments.seed)
    output, folder = Path(arguments.output), Path(arguments.output, f"{WIDTH}x{HEIGHT}")
    prepare_folder(output, arguments.seed, "\n".join([header, *(row.line for row in rows)]) + "\n")
    there = {entry.name for entry in os.scandir(folder) if entry.stat().st_size > 0}
    tasks = [(folder / row.name, arguments.seed, row.name, row.mos) for row in rows if row.name not in there]
    if len(tasks) < len(rows):
        print(f"{output}: {len(rows) - len(tasks)} of {len(rows)} images are there from an earlier call", flush=True)
    write_images(tasks, arguments.workers)
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()
    print(f"{output}: {len(rows)} demo images, {sizes_line(rows)}")


def sizes_line(rows: list[Row]) -> str:
    return ", ".join(f"{sum(row.set_name == name for row in rows)} {name}" for name in SHARES)


def fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def main(argv: list[str] | None = None) -> int:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers are ended too
    arguments = parse_arguments(argv)
    try:
        build(arguments)
    except (ValueError, csv.Error) as error:
        return fail(str(error))
    except OSError as error:
        return fail(f"--output {arguments.output}: {error}; an image takes about 0.2 MB")
    except BrokenProcessPool:
        return fail(
            f"--workers {arguments.workers}: a worker was killed; the same command with fewer goes on from here"
        )
    except KeyboardInterrupt:
        print("interrupted; the same command completes the folder", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
