"""Where images are held and in which precision a run computes, on devices of every kind."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from iqa.data.cutting import DeviceImages
from iqa.training import devices

NEEDED = 3 * (384 * 512 + 500 * 384)  # bytes of the images below
IMAGES = {"training": SimpleNamespace(sizes=lambda: np.array([[384, 512], [500, 384]]), in_memory=lambda: "host")}


@pytest.mark.parametrize(
    ("where", "device", "free", "is_cached", "expected"),
    [
        ("auto", "cuda", 2 * NEEDED, True, "gpu"),
        ("auto", "cuda", 2 * NEEDED - 2, True, "no"),
        ("auto", "cuda", 2 * NEEDED, False, "no"),
        ("auto", "cpu", 0, True, "no"),
        ("yes", "cuda", 2 * NEEDED, False, "gpu"),
        ("yes", "cuda", 2 * NEEDED - 2, True, "host"),
        ("yes", "cpu", 0, True, "host"),
        ("gpu", "cuda", 2 * NEEDED, False, "gpu"),
        ("host", "cuda", 2 * NEEDED, True, "host"),
        ("no", "cuda", 2 * NEEDED, True, "no"),
    ],
)
def test_pixels_are_held_on_the_gpu_where_they_take_at_most_half_of_its_free_memory(
    monkeypatch, where, device, free, is_cached, expected
):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 10 * free))
    monkeypatch.setattr(DeviceImages, "of", lambda images, device: "gpu")
    held = devices.preloaded(IMAGES, where, torch.device(device), is_cached=is_cached)["training"]
    assert held == (IMAGES["training"] if expected == "no" else expected)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_pixels_that_must_be_on_the_gpu_and_do_not_fit_are_an_error(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (NEEDED, NEEDED))
    with pytest.raises(ValueError, match=f"--preload_images gpu: .*{device}.*use auto"):
        devices.preloaded(IMAGES, "gpu", torch.device(device), is_cached=True)
