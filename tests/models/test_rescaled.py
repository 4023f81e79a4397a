"""Any model's scores can be put on another scale by entries of its state dict."""

import pytest
import torch

from iqa.models.backbones import BACKBONES
from iqa.models.folding import fold_batch_norms
from iqa.models.published import build_published
from models_resnet_improved import ImageQualityResNet


def own_model():
    return ImageQualityResNet(use_multiscale=True, weights="none", mos_mean=50.0, mos_deviation=15.0)


def hyperiqa():
    return build_published("hyperiqa", BACKBONES["resnet50"].build())


@pytest.mark.parametrize("build", [own_model, hyperiqa])
def test_rescaled_scores_are_on_the_line_in_a_folded_model_too(build):
    model, images = build().eval(), torch.randn(3, 3, 64, 64)
    folded, count = fold_batch_norms(model), sum(parameter.numel() for parameter in model.parameters())
    with torch.inference_mode():
        scores = model(images)
        entries = model.rescaled(0.5, 20.0)
        for changed in (model, folded):
            changed.load_state_dict(entries, strict=False)
            torch.testing.assert_close(changed(images), 20 + 0.5 * scores, rtol=1e-4, atol=1e-3)
    assert (
        entries.keys() <= model.state_dict().keys()
        and sum(parameter.numel() for parameter in model.parameters()) == count
    )
