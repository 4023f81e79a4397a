"""The device of a run: its kernels, precision and memory."""

import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from iqa.cli import say
from iqa.data.cutting import DeviceImages
from iqa.data.images import cpu_count
from iqa.processes import process_count, processes_here

EVALUATION_BATCH = {"cpu": 64, "cuda": 256}  # patches
EVALUATED_PER_TRAINED = 8  # most evaluated patches per trained patch of a batch
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
KEEP = 2**31 - 1  # bytes


def open_device(name: str) -> torch.device:
    """Select the device of --device and prepare this process for it; ValueError for one that does not exist."""
    (number, here), gpus = processes_here(), torch.cuda.device_count()
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if process_count() > 1 and name.startswith("cuda"):
        if name != "cuda":
            raise ValueError(f"--device {name}: torchrun assigns a GPU to each process; use --device cuda")
        if here > gpus:
            raise ValueError(
                f"torchrun --nproc_per_node={here}: torch sees {gpus} CUDA devices here; start one process for each, "
                "or add --device cpu"
            )
        name = f"cuda:{number}"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in EVALUATION_BATCH:
        raise ValueError(f"--device {name}: not a device of this program; choose auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= gpus:
        raise ValueError(f"--device {name}: torch sees {gpus} CUDA devices; choose another or cpu")
    if device.type == "cpu":
        keep_large_blocks()
    elif device.index is not None:
        torch.cuda.set_device(device)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # no TF32 in fp32
    return device


def choose_kernels(*, deterministic: bool) -> None:
    """Let cuDNN select the fastest kernels by timing them, or use deterministic ones."""
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)


def keep_large_blocks() -> None:
    """Keep freed activations in the process for the next step.

    glibc returns every block above 32 MB to the system when it is freed. The page faults of the next one take a fifth
    of the time of an evaluation.
    """
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # another C library
            libc = ctypes.CDLL(None)
            if libc.mallopt(M_MMAP_THRESHOLD, KEEP):  # older versions reject this; the second setting alone is slower
                libc.mallopt(M_TRIM_THRESHOLD, KEEP)


def choose_precision(name: str, device: torch.device) -> str:
    """The precision of a score: auto is bf16 if the device has it."""
    return name if name != "auto" else "bf16" if bf16_is_native(device) else "fp32"


def bf16_is_native(device: torch.device) -> bool:
    """Whether the device has bf16 instructions. On a CPU they may be slower than fp32."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if hasattr(torch.cpu, "get_capabilities"):
        return any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "amx_bf16"))
    return torch.cpu._is_avx512_bf16_supported()


def autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def compile_for_one_size(score: Callable[[Tensor], Any]) -> Callable[[Tensor], Any]:
    """Compile for the size of the first batch; smaller last batches run eagerly."""
    compiled, size = torch.compile(score, dynamic=False), None

    def call(inputs: Tensor) -> Any:
        nonlocal size
        size = size or len(inputs)
        return compiled(inputs) if len(inputs) == size else score(inputs)

    return call


def evaluation_batch(device: torch.device, batch_size: int) -> int:
    """Patches in an evaluation batch: it needs no more memory than training with `batch_size` does."""
    return min(EVALUATION_BATCH[device.type], EVALUATED_PER_TRAINED * batch_size)


def preloaded(opened: dict[str, Any], where: str, device: torch.device, *, is_cached: bool) -> dict[str, Any]:
    """The images of every set in the memory that --preload_images names, or unchanged.

    Args:
        where: "gpu", "host" or "no"; "auto": the GPU if the pixels are cached and take at most half of its free memory;
            "yes", the flag without a value: the GPU if they fit, else the host.

    Raises:
        ValueError: "gpu" is requested and the images do not fit.
    """
    if where == "no" or where == "auto" and (device.type != "cuda" or not is_cached):
        return opened
    needed = 3 * sum(int(images.sizes().prod(1).sum()) for images in opened.values())
    room = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else 0
    if where == "gpu" and needed > room:
        raise ValueError(
            f"--preload_images gpu: the pixels take {needed / 1e9:.2f} GB, and half of the free memory of {device} is "
            f"{room / 1e9:.2f} GB; use auto, host or no"
        )
    if where == "auto" and needed > room:
        return opened
    on_gpu = where != "host" and needed <= room
    say(f"Preloaded: {needed / 1e9:.2f} GB of pixels in {'GPU' if on_gpu else 'host'} memory")
    return {name: DeviceImages.of(part, device) if on_gpu else part.in_memory() for name, part in opened.items()}


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"cpu: {cpu_count()} cores, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
