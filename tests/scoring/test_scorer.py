"""Scores from Python: equal for every kind of image object and checkpoint."""

import io
import itertools
import sys

import numpy as np
import pytest
import torch
from conftest import write_image
from PIL import Image

from iqa.data.images import cpu_count
from iqa.scoring.options import parse_options
from iqa.scoring.results import ModelFacts, print_scores
from iqa.training.run_folder import save_checkpoint
from models_resnet_improved import ImageQualityResNet
from score_images import load_scorer, run


@pytest.fixture(scope="module")
def checkpoint(finished_run, small_cnn_here, tmp_path_factory):
    """The weights of the run with a smaller last layer, so that scores are small and rounding is, too."""
    saved = torch.load(finished_run / "checkpoints/resnet_improved_ms_att_best.pth", weights_only=True)
    saved["model"]["hyper_net.last_weight.weight"] *= 0.1
    path = tmp_path_factory.mktemp("checkpoint") / "calm_best.pth"
    save_checkpoint(path, saved)
    return path


@pytest.fixture(scope="module")
def scorer(checkpoint):
    return load_scorer(checkpoint, device="cpu", patches="checkpoint")


@pytest.fixture
def photos(tmp_path):
    """Five images of other sizes and aspect ratios than the training images."""
    sizes = [(64, 48), (48, 64), (300, 40), (1, 1), (700, 500)]
    paths = [tmp_path / f"photo{i}.png" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        write_image(path, 40, size)
    return paths


def test_paths_pil_images_and_tensors_get_the_same_score(scorer, photos):
    opened = [Image.open(path).convert("RGB") for path in photos]
    tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in opened]
    expected = scorer(photos)
    assert expected.shape == (5,) and expected.dtype == np.float64 and np.ptp(expected) > 0.01
    for images in (map(str, photos), opened, tensors, [tensor / 255 for tensor in tensors]):
        np.testing.assert_array_equal(scorer(images), expected)
    np.testing.assert_allclose(scorer(torch.stack([tensors[4]] * 2)), expected[[4, 4]], atol=1e-4)


def test_a_score_depends_on_no_other_image_and_no_batch_size(scorer, checkpoint, photos):
    expected = scorer(photos)
    np.testing.assert_array_equal(scorer(photos), expected)
    np.testing.assert_allclose(scorer(photos[::-1])[::-1], expected, atol=1e-4)
    np.testing.assert_allclose([scorer([photo])[0] for photo in photos], expected, atol=1e-4)
    for batch_size in (1, 3, 4):
        scores = load_scorer(checkpoint, device="cpu", patches="checkpoint", batch_size=batch_size)(photos)
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_score_is_the_mean_of_the_scores_of_its_patches(scorer, photos):
    for result in scorer.stream(photos):
        assert np.mean(result.patches) == pytest.approx(result.score, abs=1e-9)


@pytest.mark.parametrize(
    ("patches", "size", "count", "coverage"),
    [
        ("checkpoint", (400, 300), 2, 0.01),
        (12, (400, 300), 12, 0.06),
        ("auto", (400, 300), 154, 0.80),
        ("auto", (300, 400), 154, 0.80),
        ("auto", (300, 300), 120, 0.83),
        ("auto", (1600, 400), 462, 0.80),
        (200, (300, 300), 200, 1),
    ],
)
def test_the_patches_are_those_asked_for_or_cover_80_percent(checkpoint, patches, size, count, coverage):
    (result,) = load_scorer(checkpoint, device="cpu", patches=patches).stream([Image.new("RGB", size, "gray")])
    assert len(result.patches) == count and result.coverage == pytest.approx(coverage, abs=0.01)


def test_the_patches_of_the_checkpoint_are_used_where_they_cover_enough(checkpoint, tmp_path):
    saved = torch.load(checkpoint, weights_only=True)
    saved["config"]["flags"] |= {"patch_size": 224, "test_patch_num": 9}
    save_checkpoint(tmp_path / "large.pth", saved)
    scorer = load_scorer(tmp_path / "large.pth", device="cpu")
    results = list(scorer.stream(Image.new("RGB", size, "gray") for size in ((400, 300), (1600, 100))))
    assert [(len(result.patches), round(result.coverage, 2)) for result in results] == [(9, 1), (44, 0.8)]


def test_from_python_a_wrong_choice_of_patches_is_refused(checkpoint, tmp_path):
    for patches in ("all", 0, "25"):
        with pytest.raises(ValueError, match="patches: "):
            load_scorer(checkpoint, device="cpu", patches=patches)
    saved = torch.load(checkpoint, weights_only=True)
    saved["config"]["flags"]["test_random_crop"] = True
    save_checkpoint(tmp_path / "random.pth", saved)
    scorer = load_scorer(tmp_path / "random.pth", device="cpu", patches="checkpoint")
    with pytest.raises(ValueError, match="image 0: the random crops of the evaluation depend on the file name"):
        scorer([Image.new("RGB", (40, 30))])


def test_a_few_images_are_read_ahead_and_no_more(scorer, photos):
    drawn = itertools.count()
    results = scorer.stream(photos[0] for _ in iter(lambda: next(drawn), None))
    for _ in range(3):
        assert next(results).score is not None
    assert next(drawn) <= scorer.batch_size // scorer.patches + 1 + 8 * min(8, cpu_count()) + 1


def test_from_python_too_an_unreadable_image_is_named(scorer, photos):
    photos[1].write_bytes(b"no image")
    results = list(scorer.stream(photos))
    assert [result.error is None for result in results] == [True, False, True, True, True]
    with pytest.raises(ValueError, match="image 1: .*photo1.png"):
        scorer(photos)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(4, 5), "not \\[3, H, W\\]"),
        (torch.zeros(5, 6, 3), "not \\[3, H, W\\]"),
        (torch.zeros(3, 5, 6, dtype=torch.int64), "uint8 or of floats"),
        (torch.full((3, 5, 6), 255.0), "outside 0-1"),
        (torch.full((3, 5, 6), float("nan")), "outside 0-1"),
        (torch.zeros(3, 5, 81), "81x5 pixels"),
        (Image.new("RGB", (0, 0)), "0x0 pixels"),
        (np.zeros((5, 6, 3), np.uint8), "ndarray is not a path"),
        ("no_such.jpg", "No such file"),
    ],
)
def test_from_python_an_image_of_the_wrong_kind_is_refused(scorer, image, words):
    with pytest.raises(ValueError, match=f"image 0: .*{words}"):
        scorer([image])


def test_one_image_instead_of_a_list_is_refused(scorer):
    for image in ("a.jpg", Image.new("RGB", (9, 9)), torch.zeros(3, 9, 9)):
        with pytest.raises(ValueError, match="put it in a list"):
            scorer(image)


def test_the_last_checkpoint_serves_too(finished_run, photos):
    scorer = load_scorer(finished_run / "after_2/resnet_improved_ms_att_last.pth", device="cpu")
    assert scorer.epoch == 2 and np.isfinite(scorer(photos)).all()


def test_the_variant_comes_from_the_checkpoint(checkpoint, photos, tmp_path):
    config = torch.load(checkpoint, weights_only=True)["config"]
    config["flags"] |= {"use_multiscale": False, "use_attention": False, "test_patch_num": 3, "patch_size": 64}
    path = tmp_path / "baseline.pth"
    model = ImageQualityResNet(weights="none").state_dict()
    save_checkpoint(path, {"model": model, "epoch": 1, "config": config})
    scorer = load_scorer(path, device="cpu")
    assert (scorer.variant.log_name, scorer.patches, scorer.patch_size) == ("exp1_baseline", 3, 64)
    assert next(scorer.stream(photos)).attention is None
    with pytest.raises(ValueError, match="--attention: .*baseline.pth is exp1_baseline, which has no attention"):
        run(parse_options(None, ["--checkpoint", str(path), "x.png", "--attention"]), [str(photos[0])])
    config["flags"]["use_multiscale"] = True
    save_checkpoint(path, {"model": model, "epoch": 1, "config": config})
    with pytest.raises(ValueError, match="baseline.pth: its weights are not those of exp2_multiscale"):
        load_scorer(path)


FLAGS = {"patch_size": 32, "test_patch_num": 1, "test_random_crop": False, "seed": 1}
FLAGS |= {"use_multiscale": False, "use_attention": False}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"conv1.weight": torch.zeros(2)}, "holds no model and no config"),
        ({"model": {}, "epoch": 1}, "holds no config"),
        ({"model": {}, "config": {}}, "lack use_multiscale, use_attention, patch_size, test_patch_num"),
        ({"model": {}, "config": {"flags": FLAGS | {"seed": "1"}}}, "lack seed"),
        ({"model": {}, "config": {"flags": FLAGS | {"patch_size": 0}}}, "usable patch size"),
        (torch.zeros(2), "holds a Tensor"),
    ],
)
def test_a_checkpoint_of_the_wrong_kind_is_refused(tmp_path, content, words):
    save_checkpoint(tmp_path / "other.pth", content)
    with pytest.raises(ValueError, match=f"other.pth: .*{words}"):
        load_scorer(tmp_path / "other.pth")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_gets_a_progress_bar_and_a_log_does_not(scorer, photos, monkeypatch, is_terminal):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    results = print_scores(scorer.stream(photos), len(photos), ModelFacts.of(scorer, "best.pth"), attention=False)
    assert len(results) == len(photos)
    assert ("Scoring" in sys.stderr.getvalue() and "/5" in sys.stderr.getvalue()) == is_terminal
