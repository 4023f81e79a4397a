"""Print what the machine is, as one line of JSON.

python3 tests/gpu/machine.py cuda
"""

import json
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import torch  # noqa: E402

from iqa.benchmark.report import processor_name  # noqa: E402
from iqa.training.devices import choose_device, choose_precision, device_name  # noqa: E402


def main() -> None:
    try:
        device = choose_device(sys.argv[1])
    except ValueError as error:
        sys.exit(f"{error}; --device cpu only tries the script")
    facts = {
        "type": device.type,
        "device": device_name(device),
        "precision": choose_precision("auto", device),
        "processor": processor_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    if device.type == "cuda":
        facts |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "capability": ".".join(map(str, torch.cuda.get_device_capability(device))),
            "memory_gb": round(torch.cuda.get_device_properties(device).total_memory / 1e9, 1),
        }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
