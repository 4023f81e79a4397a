"""--weights: the weights that a backbone starts with, from torchvision or from a file."""

import pickle

import torch
from torch import nn
from torchvision.models import ResNet50_Weights


def load_backbone_weights(network: nn.Module, weights: str) -> None:
    """Fill a ResNet50 without ``fc`` from "imagenet" or from a file; nothing is loaded in part."""
    choices = "choose --weights imagenet, a path to a ResNet50 state dict, or none (a random start)"
    name = weights
    try:
        if weights == "imagenet":
            entry = ResNet50_Weights.IMAGENET1K_V1
            name = f"{torch.hub.get_dir()}/checkpoints/{entry.url.rsplit('/', 1)[-1]}"
            state = entry.get_state_dict(progress=True, check_hash=True)
        else:
            state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # a missing file, no network, a truncated download
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if isinstance(error, pickle.UnpicklingError):
            reason = "it holds more than tensors and plain values, or is no state dict"
        raise FileNotFoundError(f"--weights {weights}: cannot load {name} ({reason}); {choices}") from error
    if not isinstance(state, dict):
        raise ValueError(f"--weights {weights}: {name} holds a {type(state).__name__}, not a state dict; {choices}")
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    expected = network.state_dict()
    wrong = [key for key in expected if key not in state or getattr(state[key], "shape", None) != expected[key].shape]
    wrong += [key for key in state if key not in expected]
    if wrong:
        first = ", ".join(map(str, wrong[:3]))
        raise ValueError(f"--weights {weights}: not a ResNet50: {len(wrong)} entries differ, first {first}; {choices}")
    network.load_state_dict(state)
