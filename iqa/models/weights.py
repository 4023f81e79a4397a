"""--weights: what a backbone starts with, from its ImageNet weights or from a file."""

import pickle

import torch
from torch import nn

from iqa.models.backbones import BACKBONES, Backbone

COUNTER = ".num_batches_tracked"  # of a batch norm, which training does not use; older files lack it, torchvision's too


def build_backbone(name: str, *, weights: str, drop_path_rate: float | None = None) -> nn.Module:
    """What a row of BACKBONES builds, filled as `load_backbone_weights` does.

    Args:
        drop_path_rate: of the stochastic depth of a backbone that has it; None: that of its row.
    """
    row = BACKBONES[name]
    network = row.build(**({} if drop_path_rate is None else {"drop_path_rate": drop_path_rate}))
    load_backbone_weights(network, row, weights)
    return network


def load_backbone_weights(network: nn.Module, row: Backbone, weights: str) -> None:
    """Fill the row's network from "imagenet" or from a file; "none" leaves it as it is. Nothing is loaded in part.

    Raises:
        FileNotFoundError: weights that cannot be had.
        ValueError: weights of another network.
    """
    if weights == "none":
        return
    choices = f"choose --weights imagenet, a path to a {row.title} state dict, or none (a random start)"
    where, read = row.imagenet() if weights == "imagenet" else (weights, lambda: read_file(weights))
    try:
        state = read()
    except Exception as error:  # a missing file, no network, a truncated download
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than tensors and plain values, or is no state dict"
        raise FileNotFoundError(f"--weights {weights}: cannot load {where} ({reason}); {choices}") from error
    if not isinstance(state, dict):
        raise ValueError(f"--weights {weights}: {where} holds a {type(state).__name__}, not a state dict; {choices}")
    if isinstance(state.get("model"), dict):  # as Microsoft publishes Swin
        state = state["model"]
    fill(network, state, f"--weights {weights}: not a {row.title}", choices)


def read_file(path: str) -> object:
    return torch.load(path, map_location="cpu", weights_only=True)


def fill(network: nn.Module, state: dict, problem: str, choices: str) -> None:
    """Load a state dict under the file's names; ValueError names the first entries that differ."""
    if hasattr(network, "own_names"):  # where it takes all of the names to know one
        own = network.own_names(state)
    else:
        own = {key: name for key in state if (name := network.own_name(str(key))) is not None}
    expected = network.state_dict()
    wrong = [
        key
        for key, name in own.items()
        if getattr(state[key], "shape", 0) != getattr(expected.get(name), "shape", None)
    ]
    wrong += [name for name in expected if name not in own.values() and not name.endswith(COUNTER)]
    if wrong:
        first = ", ".join(map(str, wrong[:3]))
        raise ValueError(f"{problem}: {len(wrong)} entries differ, first {first}; {choices}")
    network.load_state_dict({**expected, **{name: state[key] for key, name in own.items()}})
