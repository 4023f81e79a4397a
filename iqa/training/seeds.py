"""Seeds for what torch draws."""

import numpy as np


def mixed_seed(seed: int, epoch: int, process: int = 0) -> int:
    """A seed for initialisation and dropout, the same wherever a run was resumed; each process drops its own."""
    return int(np.random.SeedSequence([seed, epoch, process]).generate_state(1, np.uint64)[0])
