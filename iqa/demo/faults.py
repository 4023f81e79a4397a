"""Faults with a strength from 0 (invisible) to 1 (the picture is hardly recognisable), and the images of the demo."""

import colorsys
import io

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from iqa.demo.scenes import HEIGHT, WIDTH, draw_scene, random_generator

BEST_MOS, WORST_MOS = 90.0, 5.0  # MOS of strength 0 and 1; KonIQ-10k has 3.9 to 88.4


def blur(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Gaussian blur with a standard deviation of up to 9 pixels."""
    return image.filter(ImageFilter.GaussianBlur(9 * strength**1.25))


def noise(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Colour noise in grains of two pixels, which remains visible when the image is resized to half its size."""
    deviation = 75 * strength
    grains = rng.standard_normal((HEIGHT // 2, WIDTH // 2, 3), dtype=np.float32) * deviation + 128
    layer = Image.fromarray(grains.clip(0, 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.add(image, layer, offset=-128)


def compression(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """JPEG compression at half the size, with quality 60 down to 3."""
    small, file = image.resize((WIDTH // 2, HEIGHT // 2), Image.Resampling.BOX), io.BytesIO()
    small.save(file, "JPEG", quality=round(60 * 20**-strength))
    received = Image.open(file).resize(image.size, Image.Resampling.BICUBIC)
    return Image.blend(image, received, min(1, 8 * strength))  # from none at strength 0 to the whole at 1/8


def exposure(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Overexposure by up to 2.2 stops, clipped at white, or underexposure by up to 3 stops."""
    stops = strength * (2.2 if rng.random() < 0.5 else -3.0)
    return image.point(lambda value: min(255, value * 2**stops))


def color_cast(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """One saturated colour replaces up to nine tenths of the colours of the scene."""
    tint = np.array(colorsys.hsv_to_rgb(rng.random(), 0.9, 1.0))
    tint /= tint @ LUMA
    share = 0.9 * strength
    matrix = (1 - share) * np.eye(3) + share * np.outer(tint, LUMA)
    return image.convert("RGB", tuple(np.hstack([matrix, np.zeros((3, 1))]).ravel()))


LUMA = np.array([0.299, 0.587, 0.114])  # the weights of R, G and B in an image's grey, ITU-R BT.601
FAULTS = (exposure, color_cast, blur, noise, compression)  # in the order in which they occur in a camera


def fault_strength(mos: float) -> float:
    """Strength (0-1) for a MOS (0-100): linear, clipped at both ends."""
    return min(1.0, max(0.0, (BEST_MOS - mos) / (BEST_MOS - WORST_MOS)))


def degrade(scene: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Apply one fault, chosen at random, with full `strength`, and the others with 0.3 to 0.6 of it.

    With one fault per image a network would have to learn five unrelated scales, which takes far more steps.
    """
    main = FAULTS[rng.choice(len(FAULTS))]
    for fault in FAULTS:
        share = rng.uniform(0.3, 0.6)
        scene = fault(scene, strength * (1 if fault is main else share), rng)
    return scene


def demo_image(seed: int, name: str, mos: float) -> bytes:
    """The JPEG file of an image."""
    scene = draw_scene(random_generator(seed, name, "scene"))
    faulty = degrade(scene, fault_strength(mos), random_generator(seed, name, "fault"))
    file = io.BytesIO()
    faulty.save(file, "JPEG", quality=90)
    return file.getvalue()
