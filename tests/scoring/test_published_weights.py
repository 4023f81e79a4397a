"""Published weights: recognised by their keys, scored on squeezed images as in their programs."""

import json
import sys
from unittest import mock

import numpy as np
import pytest
import smaller
import torch
from conftest import ROOT, assert_one_line_error, run_main, write_image
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import resize

from data_loader import corners, grid_positions
from iqa.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from iqa.models.published import published_model
from score_images import load_scorer

sys.path.insert(0, str(ROOT / "tests/models"))
from test_published import images, no_random_start, published_state, set_statistics  # noqa: E402, F401


@pytest.fixture(autouse=True, scope="module")
def smaller_resnet50():
    """HyperIQA on a smaller ResNet, as it scores hundreds of patches here."""
    with mock.patch.dict(smaller.BACKBONES), mock.patch("iqa.models.resnet.get_model"):
        smaller.resnet50()
        yield


@pytest.fixture(scope="module")
def weights(no_random_start, tmp_path_factory):  # noqa: F811
    """A state dict of HyperIQA by a formula, batch norms set to real statistics, in the format of torch before 1.6."""
    model = published_model(published_state("hyperiqa"))
    with torch.no_grad():
        set_statistics(model, lambda model: model(images(2)))
    path = tmp_path_factory.mktemp("published") / "koniq_pretrained.pkl"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    paths = [tmp_path_factory.mktemp("photos") / f"{number}.png" for number in range(2)]
    for path, size in zip(paths, [(400, 300), (80, 200)], strict=True):
        write_image(path, 40, size)
    return paths


def as_there(path) -> Tensor:
    """The normalised patches of an image after torchvision's Resize((512, 384)), on this program's grid."""
    pixels = torch.from_numpy(np.array(resize(Image.open(path), (512, 384)))).permute(2, 0, 1) / 255
    pixels = (pixels - torch.tensor(IMAGENET_MEAN)[:, None, None]) / torch.tensor(IMAGENET_STD)[:, None, None]
    tops, lefts = corners(np.array([[512, 384]]), grid_positions(25), 224)
    return torch.stack([pixels[:, y : y + 224, x : x + 224] for y, x in zip(tops, lefts, strict=True)])


def test_images_score_as_the_model_scores_their_squeezed_patches(weights, photos):
    scorer = load_scorer(weights, device="cpu")
    assert (scorer.variant.log_name, scorer.precision) == ("published_hyperiqa", "fp32")
    model = published_model(torch.load(weights, weights_only=True))
    patches = as_there(photos[1])
    with torch.inference_mode():
        assert torch.equal(scorer.model.describe(patches[:2]).scores, model(patches[:2]))  # to the bit, folded or not
        expected = model(patches).mean().item()
    assert scorer(photos)[1] == pytest.approx(expected, abs=2e-3)  # whose weights turn a rounding into some 1e-4


def test_the_command_scores_and_says_how(weights, photos):
    flags = "--device cpu --output scores.json --report scores.html".split()
    process = run_main("score_images", "--checkpoint", weights, *photos, *flags, cwd=photos[0].parent)
    assert process.returncode == 0, process.stderr
    assert "published weights: every image is squeezed to 384x512" in process.stdout
    assert "published_hyperiqa, its published weights: test SRCC unknown, data set unknown" in process.stdout
    assert "Coverage: 100% of each picture, by 25 patches of 224x224 pixels\n" in process.stdout
    told = json.loads((photos[0].parent / "scores.json").read_text())
    assert told["epoch"] is None and told["mos_range"] is None and len(told["images"]) == 2


def test_an_evaluation_needs_a_data_set_and_scores_it(weights, tiny_data, tmp_path):
    command = ["score_images", "--checkpoint", weights, "--device", "cpu", "--set", "test"]
    expected = "koniq_pretrained.pkl: published weights name no data set; add --dataset and --data_path"
    assert_one_line_error(run_main(*command, cwd=tmp_path), expected)
    process = run_main(*command, "--dataset", "koniq-10k", "--data_path", tiny_data, cwd=tmp_path)
    assert "25 grid crops of 224 pixels, images squeezed to 384x512" in process.stdout
    facts = json.loads((tmp_path / "logs/evaluation_koniq_pretrained/evaluation_koniq-10k_test.json").read_text())
    assert facts["variant"] == "published_hyperiqa" and facts["images"] == 4 and facts["epoch"] is None


def test_other_weights_are_refused(weights, tmp_path):
    state = torch.load(weights, weights_only=True)
    del state["fc3b_fc.weight"]
    torch.save(state, tmp_path / "other.pkl")
    with pytest.raises(ValueError, match=r"other\.pkl: not HyperIQA .*: 1 entries differ, first fc3b_fc\.weight"):
        load_scorer(tmp_path / "other.pkl", device="cpu")
