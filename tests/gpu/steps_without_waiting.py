"""Three training steps of every variant, in which nothing may wait for the GPU; prints JSON.

python3 tests/gpu/steps_without_waiting.py DATA cuda PATCH_SIZE BATCH_SIZE
"""

import contextlib
import json
import sys

import torch
from real_steps import make_trainer

from iqa.models.variants import VARIANTS

STEPS = 3


@contextlib.contextmanager
def no_waiting():
    """Every call that would wait for the device raises an error that names it."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def main() -> None:
    data, device, patch_size, batch_size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    steps = {}
    for variant in VARIANTS:
        trainer = make_trainer(variant, data, device, patch_size, batch_size)
        trainer.train(STEPS)  # chooses kernels and fills the allocator, which waits
        steps[variant.log_name] = trainer.train(STEPS, no_waiting)
    lines = [f"{name}: {count} steps without a wait" for name, count in steps.items()]
    print(json.dumps({"steps": steps, "lines": lines}))


if __name__ == "__main__":
    main()
