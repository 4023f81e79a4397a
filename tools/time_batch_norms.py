"""Milliseconds that the batch norms of a ResNet50 take in a training step, by torch's kernels and by cuDNN's.

    python3 tools/time_batch_norms.py

The last column names the kernels that torch selects: never cuDNN's for bf16. fp16, which moves as many
bytes, shows their possible gain: with cuDNN off, its row is of torch's own kernels.
"""

import argparse
import time

import torch
import torch.nn.functional as F

# Of a ResNet50 and a patch of 224 pixels: channels, side of the map, layers
LAYERS = [(64, 112, 1), (64, 56, 6), (256, 56, 4), (128, 56, 1), (128, 28, 7), (512, 28, 5), (256, 28, 1)]
LAYERS += [(256, 14, 11), (1024, 14, 7), (512, 14, 1), (512, 7, 5), (2048, 7, 4)]
REPEATS = 10


def layer_ms(batch: int, channels: int, side: int, dtype: torch.dtype, device: torch.device) -> float:
    """Milliseconds of one layer, forward and backward."""
    x = torch.randn(batch, channels, side, side, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    x.requires_grad_()
    weight, bias = (torch.ones(channels, device=device, requires_grad=True) for _ in range(2))
    mean, variance = torch.zeros(channels, device=device), torch.ones(channels, device=device)
    gradient = torch.randn_like(x)

    def run(repeats: int) -> float:
        synchronize(device)
        start = time.perf_counter()
        for _ in range(repeats):
            y = F.batch_norm(x, mean, variance, weight, bias, training=True)
            torch.autograd.grad(y, (x, weight, bias), gradient)
        synchronize(device)
        return 1000 * (time.perf_counter() - start) / repeats

    run(3)
    return run(REPEATS)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def selected(dtype: torch.dtype, device: torch.device) -> str:
    x = torch.empty(2, 4, 8, 8, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    affine = [torch.ones(4, device=device) for _ in range(4)]
    return torch._C._select_batch_norm_backend(x, *affine, True, 1e-5).name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch_size", type=int, default=256, help="at 32 the launches take longer than the kernels")
    options = parser.parse_args()
    device = torch.device(options.device)
    print(
        f"torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}, batch {options.batch_size}, channels-last"
    )
    print("| dtype | cuDNN | ms a step | selected |\n|---|---|---|---|")
    for dtype in (torch.bfloat16, torch.float16):
        for enabled in (True, False):
            with torch.backends.cudnn.flags(enabled=enabled):
                times = [count * layer_ms(options.batch_size, c, side, dtype, device) for c, side, count in LAYERS]
                state = "on" if enabled else "off"
                print(f"| {str(dtype)[6:]} | {state} | {sum(times):.2f} | {selected(dtype, device)} |")


if __name__ == "__main__":
    main()
