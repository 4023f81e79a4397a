"""Procedural scenes. A scene depends on (seed, name) alone; its edges and texture show a fault in any small crop."""

import colorsys
import hashlib
import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageStat

WIDTH, HEIGHT = 1024, 768  # pixels, of every demo image

Color = tuple[int, int, int]


def random_generator(*key: object) -> np.random.Generator:
    """A generator that depends on `key` alone."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def draw_palette(rng: np.random.Generator) -> list[Color]:
    """Eight colours of different hues and brightness, so that a palette differs from a colour cast."""
    hues = (rng.random() + np.array([0, 0.06, 0.12, 0.3, 0.45, 0.55, 0.62, 0.8]) + rng.normal(0, 0.03, 8)) % 1
    saturations, values = rng.uniform(0.15, 0.55, 8), rng.permutation(np.linspace(0.3, 0.9, 8))
    hsv = zip(hues, saturations, values, strict=True)
    return [tuple(round(255 * part) for part in colorsys.hsv_to_rgb(*color)) for color in hsv]


def pick(rng: np.random.Generator, palette: list[Color]) -> Color:
    """A colour of the palette, up to a fifth brighter or darker, so that neighbours differ."""
    gain = rng.uniform(0.8, 1.2)
    return tuple(min(255, round(part * gain)) for part in palette[rng.integers(len(palette))])


def vertical_gradient(top: Color, bottom: Color) -> Image.Image:
    column = np.linspace(top, bottom, HEIGHT).astype(np.uint8)[:, None]
    return Image.fromarray(column).resize((WIDTH, HEIGHT))


def ridge(rng: np.random.Generator, level: float, height: float) -> list[tuple[float, float]]:
    """A ridge line across the image by midpoint displacement, in pixels."""
    line = np.array([level, level]) + rng.normal(0, height, 2)
    for _ in range(7):
        middles = (line[1:] + line[:-1]) / 2 + rng.normal(0, height, len(line) - 1)
        line = np.insert(line, np.arange(1, len(line)), middles)
        height *= 0.55
    return list(zip(np.linspace(0, WIDTH, len(line)), line, strict=True))


def landscape(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """A sky, four ranges of hills, and firs that are larger in front."""
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
    """A sky and three rows of houses with windows."""
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
    """Opaque discs of many sizes on top of each other: the 'dead leaves' model of natural images."""
    scene = Image.new("RGB", (WIDTH, HEIGHT), palette[2])
    draw = ImageDraw.Draw(scene)
    radii = np.sort(rng.pareto(1.5, 1500) * 12 + 8)[::-1].clip(max=160)
    for radius, x, y in zip(radii, rng.uniform(0, WIDTH, 1500), rng.uniform(0, HEIGHT, 1500), strict=True):
        tall = radius * rng.uniform(0.5, 1)
        draw.ellipse((x - radius, y - tall, x + radius, y + tall), fill=pick(rng, palette))
    return scene


def shards(rng: np.random.Generator, palette: list[Color]) -> Image.Image:
    """Triangles at all angles, the small ones on top of the large ones."""
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
    """Cloth with stripes in both directions, turned by a random angle."""
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


SCENES = (landscape, city, leaves, shards, bricks, plaid, meadow)


def fractal_texture(rng: np.random.Generator, contrast: float, roughness: float) -> Image.Image:
    """Grey noise with detail at every scale, mean 128 and standard deviation `contrast` (0-255).

    Each octave has twice the size of the last one. `roughness` is the ratio of their amplitudes, finer over coarser;
    it is near 0.7 for real surfaces.
    """
    field = rng.standard_normal((3, 4), dtype=np.float32)
    while field.shape[1] < WIDTH // 2:
        height, width = 2 * field.shape[0], 2 * field.shape[1]
        coarse = np.asarray(Image.fromarray(field).resize((width, height), Image.Resampling.BILINEAR))
        field = coarse / roughness + rng.standard_normal((height, width), dtype=np.float32)
    grey = (field * (contrast / field.std()) + 128).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grey).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def auto_exposure(scene: Image.Image, brightness: float = 118, contrast: float = 52) -> Image.Image:
    """Bring the grey mean and standard deviation (0-255) near these: a dark scene must differ from underexposure."""
    statistics = ImageStat.Stat(scene.convert("L"))
    gain = contrast / max(statistics.stddev[0], 1)
    return scene.point(lambda value: (value - statistics.mean[0]) * gain + brightness)


def draw_scene(rng: np.random.Generator) -> Image.Image:
    """A scene without faults, RGB."""
    shapes = SCENES[rng.integers(len(SCENES))](rng, draw_palette(rng))
    texture = fractal_texture(rng, contrast=rng.uniform(32, 44), roughness=rng.uniform(0.75, 1.0))
    return auto_exposure(ImageChops.overlay(shapes, Image.merge("RGB", [texture] * 3)))
