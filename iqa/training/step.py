"""The training step as a CUDA graph, and which runs use one.

A replay repeats the recorded kernels on the same memory. Values that Python holds are frozen in it, so everything that
changes from step to step is a tensor on the device: the learning rates (optimization.LearningRates), the gradient norm
and the flag that skips a step. Loss meter, weight averaging and schedule hold Python values and stay outside.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from iqa.processes import process_count

failed_graphs: list[torch.cuda.CUDAGraph] = []
WARM_UP = 3  # eager steps before the capture; they select kernels, compile, and create the state of the optimizer


class CapturedStep:
    """An eager step as one CUDA graph: a few eager steps, then one capture, then a replay for each batch.

    Batches of another size than the captured one are run eagerly. Where the capture fails, so are all.

    Args:
        step: an `EagerStep` of train_resnet_improved.py. The state of its optimizer must not be loaded after the first
            call.
        required: a capture that fails is an error.
        warn: called with the reason of a failed capture.
    """

    def __init__(self, step: Callable, *, required: bool = False, warn: Callable[[str], None] = print):
        self.step, self.required, self.warn = step, required, warn
        self.stream = torch.cuda.Stream()
        self.warm_up, self.failed = WARM_UP, False
        self.graph = None

    @property
    def name(self) -> str:
        return self.step.name if self.failed else "cuda graph"

    def __call__(self, inputs: Tensor, mos: Tensor) -> tuple[Tensor, Tensor]:
        """As EagerStep; the returned tensors are overwritten by the next replay."""
        if self.warm_up:
            self.warm_up -= 1
            return self.on_capture_stream(inputs, mos)
        if self.graph is None and not self.failed:
            self.capture(inputs, mos)
        if self.failed or inputs.shape != self.inputs.shape:
            return self.step(inputs, mos)
        self.inputs.copy_(inputs)
        self.mos.copy_(mos)
        self.graph.replay()
        return self.loss, self.norm

    def on_capture_stream(self, inputs: Tensor, mos: Tensor) -> tuple[Tensor, Tensor]:
        """An eager step on the stream of the capture, in its place in the order of the current stream."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = self.step(inputs, mos)
        current.wait_stream(self.stream)
        return results

    def capture(self, inputs: Tensor, mos: Tensor) -> None:
        """Record a step on copies of the inputs; weights and the random generator are not changed."""
        self.inputs, self.mos = inputs.clone(), mos.clone()
        self.step.optimizer.zero_grad(set_to_none=True)  # the recorded backward pass writes gradients, not adds to them
        graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        try:
            # "thread_local": the loader's thread pins memory meanwhile. The outer stream context is left even where the
            # end of an invalid capture raises.
            with (
                torch.cuda.stream(current),
                torch.cuda.graph(graph, stream=self.stream, capture_error_mode="thread_local"),
            ):
                self.loss, self.norm = self.step(self.inputs, self.mos)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            if self.required:
                raise ValueError(
                    f"--cuda_graph on: the training step cannot be captured ({reason}); use auto"
                ) from error
            self.failed = True
            leave_capture(graph, inputs.device)
            self.warn(f"Warning: the training step runs eagerly: it cannot be captured as a CUDA graph ({reason})")
        else:
            self.graph = graph


def leave_capture(graph: torch.cuda.CUDAGraph, device: torch.device) -> None:
    """Recover from a failed capture, to which the allocator and the default generator may still refer.

    The graph is kept, since the allocator reads it. The generator gets a new state: before torch 2.13 it would refuse
    dropout outside a capture.
    """
    failed_graphs.append(graph)
    generator = torch.cuda.default_generators[device.index or 0]
    generator.graphsafe_set_state(generator.clone_state())


def check_cuda_graph(cuda_graph: str, device: torch.device) -> None:
    """ValueError if the device or the number of processes does not allow --cuda_graph."""
    if cuda_graph == "on" and not can_capture(device):
        raise ValueError(
            f"--cuda_graph on: needs one process on a GPU, and this is {process_count()} on {device}; use auto"
        )


def can_capture(device: torch.device) -> bool:
    return device.type == "cuda" and process_count() == 1


def choose_step(cuda_graph: str, step: Callable, device: torch.device, warn: Callable[[str], None] = print) -> Callable:
    """The step by --cuda_graph; auto: captured on one GPU, eager on a CPU and with several processes."""
    if cuda_graph == "off" or not can_capture(device):
        return step
    return CapturedStep(step, required=cuda_graph == "on", warn=warn)
