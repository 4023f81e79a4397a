"""Patches and inputs of the network: equal for every number of workers, cache and device."""

import numpy as np
import pytest
import torch
from conftest import write_image
from torchvision.transforms.v2 import functional as tv

from data_loader import EvaluationPlan, PatchLoader, Resize, TrainingPlan, jitter_colors
from iqa.data.cutting import DeviceImages
from iqa.data.image_cache import ImageCache
from iqa.data.images import DecodedImages

SIZES = np.array([(384, 512)] * 5 + [(512, 384)])
MOS = np.linspace(10, 90, 6)
NAMES = [f"{i}.jpg" for i in range(6)]


def training_plan(sizes=SIZES, **changes) -> TrainingPlan:
    return TrainingPlan(sizes, MOS, **{"patches": 5, "patch_size": 224, "batch_size": 8, "seed": 42, **changes})


def evaluation_plan(sizes=SIZES, names=NAMES, **changes) -> EvaluationPlan:
    settings = {"patches": 25, "patch_size": 224, "batch_size": 16, "seed": 42, "random": False, **changes}
    return EvaluationPlan(sizes, np.linspace(10, 90, len(names)), names, **settings)


def places(plan) -> list[tuple]:
    columns = ((batch.image.tolist(), batch.top.tolist(), batch.left.tolist()) for batch in plan)
    return [row for batch in columns for row in zip(*batch, strict=True)]


def test_an_epoch_is_a_function_of_seed_and_epoch():
    plan = training_plan()
    first = places(plan)
    assert first == places(plan) == places(training_plan())
    plan.epoch = 2
    assert places(plan) != first and places(training_plan(seed=43)) != first


def test_an_epoch_has_every_patch_once_but_for_the_dropped_ones():
    plan = training_plan()
    batches = list(plan)
    assert len(plan) == len(batches) == 3 and plan.dropped == 6
    assert {len(batch.image) for batch in batches} == {8}
    assert np.bincount(np.concatenate([batch.image for batch in training_plan(batch_size=10)])).tolist() == [5] * 6
    for batch in batches:
        np.testing.assert_array_equal(batch.mos, MOS[batch.image].astype(np.float32))


def test_training_crops_stay_inside_differ_and_reach_every_place():
    rows = places(training_plan(patches=500, batch_size=1))
    assert len(set(rows)) > 2900
    for image, (height, width) in enumerate(SIZES):
        top, left = zip(*[row[1:] for row in rows if row[0] == image], strict=True)
        assert 0 <= min(top) < 10 and height - 224 - 10 < max(top) <= height - 224
        assert 0 <= min(left) < 10 and width - 224 - 10 < max(left) <= width - 224


def test_half_of_the_training_patches_are_mirrored_and_the_jitter_keeps_its_range():
    batches = list(training_plan(patches=500, batch_size=100))
    assert 0.45 < np.concatenate([batch.flip for batch in batches]).mean() < 0.55
    jitter = np.concatenate([batch.jitter for batch in batches])
    for low, high, column in zip((0.9, 0.9, 0.9, -0.05), (1.1, 1.1, 1.1, 0.05), jitter.T, strict=True):
        assert low <= column.min() < low + 0.005 and high - 0.005 < column.max() <= high


@pytest.mark.parametrize("patches", [6, 7, 9, 25])
def test_grid_crops_cover_the_image_and_do_not_change(patches):
    plan = evaluation_plan(patches=patches)
    assert places(plan) == places(plan) == places(evaluation_plan(patches=patches, seed=7))
    for image, size in ((0, (384, 512)), (5, (512, 384))):
        covered = np.zeros(size, bool)
        for top, left in {row[1:] for row in places(plan) if row[0] == image}:
            covered[top : top + 224, left : left + 224] = True
        assert covered.all() or (image == 5 and patches in (6, 7))  # six lie in two rows of three, made for landscapes


def test_grid_crops_are_distinct_and_one_crop_is_the_centre():
    assert len(set(places(evaluation_plan()))) == 25 * 6
    assert places(evaluation_plan(patches=1))[0] == (0, 80, 144)


def test_random_test_crops_are_a_function_of_seed_and_image():
    plan = evaluation_plan(random=True)
    assert places(plan) == places(plan)
    assert places(plan) != places(evaluation_plan(random=True, seed=43))
    alone = evaluation_plan(SIZES[3:4], NAMES[3:4], random=True)
    assert [row[1:] for row in places(alone)] == [row[1:] for row in places(plan) if row[0] == 3]
    assert len(set(places(plan))) > 140


def test_evaluation_keeps_the_order_of_the_images_and_drops_nothing():
    images = np.concatenate([batch.image for batch in evaluation_plan()])
    np.testing.assert_array_equal(images, np.repeat(np.arange(6), 25))
    for batch in evaluation_plan(random=True):
        assert not batch.flip.any() and (batch.jitter == [1, 1, 1, 0]).all()


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Decoded, cached and preloaded versions of the same six images."""
    root = tmp_path_factory.mktemp("images")
    paths = [root / "data" / name for name in NAMES]
    for i, path in enumerate(paths):
        write_image(path, 15 * i, (64, 48) if i < 5 else (48, 64))
    cached = ImageCache(root / "data", root / "cache", Resize()).open(paths)
    return {"decoded": DecodedImages(paths, Resize()), "cached": cached, "preloaded": cached.in_memory()}


def inputs_of(images, plan, **changes) -> torch.Tensor:
    settings = {"patch_size": 64, "color_jitter": True, "device": torch.device("cpu"), "num_workers": 0, **changes}
    return torch.cat([inputs for inputs, _ in PatchLoader(images, plan, **settings)])


@pytest.mark.parametrize(
    ("source", "workers"), [("decoded", 2), ("cached", 0), ("cached", 2), ("preloaded", 0), ("preloaded", 2)]
)
def test_inputs_do_not_depend_on_workers_cache_or_preloading(images, source, workers):
    plan = training_plan(images["decoded"].sizes(), patch_size=64)
    expected = inputs_of(images["decoded"], plan)
    assert expected.shape == (24, 3, 64, 64)
    assert torch.equal(inputs_of(images[source], plan, num_workers=workers), expected)


def test_patches_cut_in_the_memory_of_the_device_are_the_same(images):
    decoded, some = images["decoded"], np.array([5, 4, 1])
    plan = training_plan(decoded.sizes(), patch_size=64)
    for source in ("decoded", "cached"):
        held = DeviceImages.of(images[source], torch.device("cpu"))
        assert torch.equal(inputs_of(held, plan), inputs_of(decoded, plan))
    few = evaluation_plan(decoded.sizes()[some], ["a", "b", "c"], patch_size=64, patches=4)
    assert torch.equal(inputs_of(held.chosen(some), few), inputs_of(decoded.chosen(some), few))


@pytest.mark.gpu
@pytest.mark.parametrize("on_device", [False, True])
def test_a_gpu_is_given_the_same_patches(images, on_device):
    plan, device = training_plan(images["decoded"].sizes(), patch_size=64), torch.device("cuda")
    source = DeviceImages.of(images["cached"], device) if on_device else images["cached"]
    on_gpu = inputs_of(source, plan, device=device).cpu()
    torch.testing.assert_close(on_gpu, inputs_of(images["decoded"], plan), atol=1e-4, rtol=1e-4)


def test_pixels_are_those_of_the_image_normalised_as_imagenet_and_mirrored(images):
    plan = training_plan(images["decoded"].sizes(), patch_size=64)
    inputs = iter(inputs_of(images["cached"], plan, color_jitter=False))
    for batch in plan:
        for image, top, left, flip in zip(batch.image, batch.top, batch.left, batch.flip, strict=True):
            patch = images["decoded"][image][top : top + 64, left : left + 64]
            patch = patch[:, ::-1] if flip else patch
            pixels = torch.from_numpy(patch.copy()).permute(2, 0, 1) / 255
            expected = tv.normalize(pixels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            torch.testing.assert_close(next(inputs), expected)


def test_inputs_are_channels_last(images):
    plan = training_plan(images["decoded"].sizes(), patch_size=64)
    assert inputs_of(images["cached"], plan).is_contiguous(memory_format=torch.channels_last)


def test_color_jitter_is_torchvisions_with_the_amounts_of_each_patch():
    torch.manual_seed(0)
    images = torch.rand(6, 3, 32, 32)
    images[1] = images[1, :1]  # grey: no hue
    images[2] = images[2].round()  # saturated colours and black and white
    jitter = torch.tensor([1, 1, 1, 0]) + torch.tensor([0.1, 0.1, 0.1, 0.05]) * (2 * torch.rand(6, 4) - 1)
    for image, amounts, result in zip(images, jitter.tolist(), jitter_colors(images, jitter), strict=True):
        for change, amount in zip(
            (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue), amounts, strict=False
        ):
            image = change(image, amount)
        torch.testing.assert_close(result, image, atol=2e-3, rtol=0)
