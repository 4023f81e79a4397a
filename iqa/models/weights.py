"""Initial weights of a backbone (--weights): those of ImageNet, of a file, or random ones."""

import pickle
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import nn

from iqa.cli import first_line
from iqa.models.backbones import TIMM, find_backbone

IMAGENET = "IMAGENET1K_V1"  # torchvision's name
# Endings of entries that a file may lack: counters of batch norms, which training does not use and which older files do
# not have, torchvision's included; and the normalisation of TimmBackbone.
OPTIONAL = (".num_batches_tracked", "image_factor", "image_offset")


def build_backbone(name: str, *, weights: str, patch_size: int = 224, drop_path_rate: float | None = None) -> nn.Module:
    """Build a backbone with the weights of "imagenet", of a file or random ones ("none"). No file is loaded in part.

    Args:
        name: a row of BACKBONES, or timm:NAME.
        patch_size: side of a patch; some models of timm are built for one size.
        drop_path_rate: rate of stochastic depth; None: the default of the backbone.

    Raises:
        FileNotFoundError: weights that cannot be found or downloaded.
        ValueError: weights of another network.
    """
    row = find_backbone(name)
    options = {} if drop_path_rate is None else {"drop_path_rate": drop_path_rate}
    if name.startswith(TIMM):
        options["patch_size"] = patch_size
    network = row.build(**options)
    if weights == "none":
        return network

    other = "" if weights == "imagenet" else "imagenet, "
    choices = f"choose --weights {other}a path to a {row.title} state dict, or none (a random start)"
    where, read = imagenet_weights(name, patch_size) if weights == "imagenet" else (weights, lambda: read_file(weights))
    try:
        state = read()
    except Exception as error:  # a missing file, no network, a truncated download
        is_pickle = isinstance(error, pickle.UnpicklingError)
        reason = "it holds more than tensors and plain values, or is no state dict" if is_pickle else first_line(error)
        raise FileNotFoundError(f"--weights {weights}: cannot load {where} ({reason}); {choices}") from error
    if not isinstance(state, dict):
        raise ValueError(f"--weights {weights}: {where} holds a {type(state).__name__}, not a state dict; {choices}")
    for key in ("model", "state_dict"):  # as Microsoft publishes Swin, and training programs their checkpoints
        state = state[key] if isinstance(state.get(key), dict) else state
    problem = fill(network, state)
    if problem:
        raise ValueError(f"--weights {weights}: not a {row.title}: {problem}; {choices}")
    return network


def imagenet_weights(name: str, patch_size: int) -> tuple[str, Callable[[], dict[str, Any]]]:
    """Where the weights of --weights imagenet are, and how they are read, or downloaded first."""
    if name.startswith(TIMM):
        from iqa.models import timm_backbone

        return timm_backbone.pretrained(name.removeprefix(TIMM), patch_size)
    entry = torchvision.models.get_model_weights(name)[IMAGENET]
    path = f"{torch.hub.get_dir()}/checkpoints/{entry.url.rsplit('/', 1)[-1]}"
    return path, lambda: entry.get_state_dict(progress=True, check_hash=True)


def read_file(path: str) -> object:
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file  # a part of timm's installation

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def fill(network: nn.Module, state: dict[str, Any]) -> str | None:
    """Load a state dict, or leave the network unchanged and name the first entries that differ."""
    if hasattr(network, "converted"):
        try:
            state = network.converted(state)
        except Exception as error:  # of names or shapes that timm does not expect
            return f"timm cannot convert it ({type(error).__name__}: {error})"
    own = network.own_names(state) if hasattr(network, "own_names") else {key: key for key in state}
    expected = network.state_dict()
    wrong = [
        key
        for key, name in own.items()
        if getattr(state[key], "shape", 0) != getattr(expected.get(name), "shape", None)
    ]
    wrong += [name for name in expected if name not in own.values() and not name.endswith(OPTIONAL)]
    if wrong:
        return f"{len(wrong)} entries differ, first {', '.join(map(str, wrong[:3]))}"
    network.load_state_dict({**expected, **{name: state[key] for key, name in own.items()}})
    return None


def describe_backbone(name: str, weights: str) -> dict[str, str]:
    """The entries of config.json for a backbone: its title, kind and initial weights."""
    row = find_backbone(name)
    kind, tag = row.kind, IMAGENET
    if name.startswith(TIMM):
        from iqa.models import timm_backbone

        kind, tag = timm_backbone.kind_and_tag(name.removeprefix(TIMM))
    return {
        "backbone_title": row.title,
        "backbone_kind": kind,
        "backbone_weights": tag if weights == "imagenet" else weights,
    }
