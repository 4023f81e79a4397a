"""A stand-in for CUDA graphs on a CPU: records the operations of a step and replays them, host values frozen.

As in a capture, the recording itself changes neither memory nor random generator. A replay runs the recorded operations
on the same memory, with new random numbers, as a graph with the default generator does.
"""

import contextlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Operations that would make the host wait for the device, which a capture refuses.
WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::_unique2"}


class Stream:
    """A stream on a CPU, where all work is in order."""

    def wait_stream(self, other) -> None:
        pass


class Graph(TorchDispatchMode):
    """A stand-in for torch.cuda.CUDAGraph: filled inside `capturing`, then replayed.

    Attributes:
        refused: an operation that no capture allows, None for none.
    """

    def __init__(self, refused: str | None = None):
        super().__init__()
        self.operations, self.kept, self.refused = [], {}, refused

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name
        if name in WAITING or name == self.refused:
            raise RuntimeError(f"operation not permitted when stream is capturing: {name}")
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, torch.Tensor):
                self.keep(tensor)
        results = function(*args, **kwargs)
        if not any(
            result.alias_info and not result.alias_info.is_write for result in function._schema.returns
        ):  # a view
            self.operations.append((function, args, kwargs, results))
        return results

    def keep(self, tensor: torch.Tensor) -> None:
        """Save the memory before the recording; not every operation declares the arguments that it changes."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.kept:
            self.kept[storage.data_ptr()] = (storage, storage.clone())

    def restore(self) -> None:
        for storage, content in self.kept.values():
            storage.copy_(content)

    def replay(self) -> None:
        with torch.no_grad():
            for function, args, kwargs, recorded in self.operations:
                results = function(*args, **kwargs)
                for result, target in zip(tree_leaves(results), tree_leaves(recorded), strict=True):
                    if isinstance(result, torch.Tensor) and result is not target:
                        target.detach().copy_(result)


@contextlib.contextmanager
def capturing(graph: Graph, *, stream: Stream, capture_error_mode: str):
    state = torch.get_rng_state()
    try:
        with graph:
            yield
    finally:
        torch.set_rng_state(state)
        graph.restore()


def stand_in(monkeypatch, refused: str | None = None) -> list[Graph]:
    """Let torch.cuda capture on a CPU; returns the list of the graphs that are made."""
    graphs = []

    def make() -> Graph:
        graphs.append(Graph(refused))
        return graphs[-1]

    for name, value in {
        "Stream": Stream,
        "stream": lambda stream: contextlib.nullcontext(),
        "current_stream": Stream,
        "CUDAGraph": make,
        "graph": capturing,
        "default_generators": [torch.default_generator],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return graphs
