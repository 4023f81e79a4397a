"""Rank and world size under torchrun; without it, rank 0 of 1."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LAUNCHED = "TORCHELASTIC_RUN_ID" in os.environ  # set by torchrun only, unlike RANK


def process_count() -> int:
    return int(os.environ["WORLD_SIZE"]) if LAUNCHED else 1


def process_number() -> int:
    return int(os.environ["RANK"]) if LAUNCHED else 0


def processes_here() -> tuple[int, int]:
    """Local rank and local world size: of the processes on this machine."""
    return (int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])) if LAUNCHED else (0, 1)


def end_with_parent() -> None:
    """End this process when its parent ends: by Linux; elsewhere a worker of multiprocessing watches its parent."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    elif parent := multiprocessing.parent_process():

        def watch() -> None:
            parent.join()
            os._exit(1)

        threading.Thread(target=watch, daemon=True).start()


def leave_signals_to_parent(_worker: int = 0) -> None:
    """For workers: ignore Ctrl-C, which the parent handles, and end when the parent ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()  # torch's own check may take 5 seconds


def is_first() -> bool:
    """Whether this process prints and writes files."""
    return process_number() == 0
