"""The driver of on_gpu.sh: one part after the other in a shared budget of time, and the two files that tell of them.

Each part runs in processes of its own: what breaks one, a CUDA error or a hang included, leaves the others alone. The
files are written anew after each part, so that a run that is cut short leaves what it has. Loads no torch itself.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "gpu")]

from parts import PARTS, SETTINGS, Context, Part  # noqa: E402
from processes import Failed, OutOfTime, json_of, run  # noqa: E402

from iqa.atomic_files import check_writable, write_atomically  # noqa: E402
from iqa.cli import (  # noqa: E402
    OneLineParser,
    number,
    report,
    say,  # noqa: E402
)
from iqa.data.datasets import load_dataset  # noqa: E402
from iqa.data.labels import LabelledImages  # noqa: E402

NEEDS_CUDA = "needs CUDA"
WORTH_STARTING = 15  # seconds: loading torch and the data takes about as long
MACHINE_SECONDS = 90  # a first import of torch from a slow disk


def parse_arguments() -> argparse.Namespace:
    parts = "\n".join(f"    {part.name:<{max(map(len, PART_NAMES))}}  {part.what}" for part in PARTS)
    parser = OneLineParser(
        prog="bash tests/on_gpu.sh",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Run what only a machine with a GPU can show; write on_gpu.txt and on_gpu.json.",
        epilog=f"parts, in their order:\n{parts}",
    )
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="KonIQ-shaped folder; default: demo images, made for it"
    )
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu: only to try the script. Default: cuda")
    parser.add_argument("--minutes", type=number(float, 0), default=9, help="for all parts together; default: 9")
    parser.add_argument("--parts", type=part_names, metavar="A,B", default=PART_NAMES, help="only these")
    parser.add_argument("--output", type=Path, default=Path("."), metavar="DIR", help="of the two files; default: here")
    return parser.parse_args()


PART_NAMES = [part.name for part in PARTS]


def part_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in PART_NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is no part; there are {', '.join(PART_NAMES)}")
    return names


def main() -> int:
    arguments = parse_arguments()
    end = time.monotonic() + 60 * arguments.minutes
    try:
        check_writable("--output", arguments.output / "on_gpu.txt")
        sets = load_dataset("koniq-10k", arguments.data).sets if arguments.data else None
        with tempfile.TemporaryDirectory(prefix="on_gpu_") as scratch:
            return run_parts(arguments, sets, Path(scratch), end)
    except (OSError, ValueError, Failed, OutOfTime) as error:
        report(str(error).replace("--data_path", "DATA"))
        return 2
    except KeyboardInterrupt:
        report(f"interrupted; {arguments.output}/on_gpu.txt holds what was done")
        return 130


def run_parts(arguments: argparse.Namespace, sets: dict[str, LabelledImages] | None, scratch: Path, end: float) -> int:
    """Returns the exit status: 1 where a part failed; one that was not done is no failure."""
    machine = json_of(run([sys.executable, ROOT / "tests/gpu/machine.py", arguments.device], MACHINE_SECONDS, scratch))
    settings = SETTINGS[machine["type"]]
    data = few_images(sets, settings.images, scratch)
    context = Context(ROOT, data, scratch, arguments.device, settings)
    results = {"machine": machine, "data": arguments.data or "demo images", "settings": settings._asdict(), "parts": []}
    write(results, arguments.output)
    say(heading(results))
    for part in PARTS:
        if part.name in arguments.parts:
            results["parts"].append(done := do(part, context, machine["type"] == "cuda", end - time.monotonic()))
            write(results, arguments.output)
            say(as_text(done))
    say(summary(results["parts"]))
    return int(any(part["status"] == "failed" for part in results["parts"]))


def do(part: Part, context: Context, cuda: bool, left: float) -> dict:
    """Run a part in the time that is left for it; whatever happens is told in what comes back."""
    told = {"name": part.name, "what": part.what, "status": "not done", "why": None, "seconds": 0.0, "facts": {}}
    if part.needs_cuda and not cuda:
        return told | {"why": NEEDS_CUDA}
    if left < WORTH_STARTING:
        return told | {"why": "no time left"}
    start = time.monotonic()
    try:
        told |= {"status": "passed", "facts": part.work(context, start + min(left, part.seconds))}
    except OutOfTime as error:
        told |= {"why": str(error)}
    except Failed as error:
        told |= {"status": "failed", "why": str(error)}
    except (OSError, ValueError, KeyError, AssertionError) as error:
        told |= {"status": "failed", "why": f"{type(error).__name__}: {error}"}
    return told | {"seconds": round(time.monotonic() - start, 1)}


def few_images(sets: dict[str, LabelledImages] | None, count: int, scratch: Path) -> Path:
    """A KonIQ-shaped folder of about `count` images of the sets, or of the demo, so that no part waits for 10,000."""
    folder = scratch / "data"
    if sets is None:
        run([sys.executable, ROOT / "demo_dataset.py", "--output", folder, "--images", count], MACHINE_SECONDS, scratch)
        return folder
    total, lines = sum(map(len, sets.values())), ["image_name,MOS,set"]
    (folder / "images").mkdir(parents=True)
    for name, images in sets.items():
        wanted = min(len(images), max(4, count * len(images) // total))
        for i in (index * len(images) // wanted for index in range(wanted)):
            shutil.copyfile(images.paths[i], folder / "images" / images.names[i])
            lines.append(f"{images.names[i]},{images.mos[i]},{name}")
    (folder / "koniq10k_distributions_sets.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write(results: dict, output: Path) -> None:
    write_atomically(output / "on_gpu.json", json.dumps(results, indent=2) + "\n")
    text = [heading(results), *map(as_text, results["parts"]), summary(results["parts"])]
    write_atomically(output / "on_gpu.txt", "\n".join(text) + "\n")


def heading(results: dict) -> str:
    return (
        "\n".join(f"{name}: {value}" for name, value in {**results["machine"], "data": results["data"]}.items()) + "\n"
    )


def as_text(part: dict) -> str:
    """A part's lines."""
    status = "not done" if part["status"] == "not done" else f"{part['status']} in {part['seconds']:.0f} s"
    lines = [f"{part['name']} ({part['what']}): {status}" + f": {part['why']}" * bool(part["why"])]
    return "\n    ".join(lines + part["facts"].get("lines", []))


def summary(parts: list[dict]) -> str:
    counts = {
        status: [part["name"] for part in parts if part["status"] == status]
        for status in ("passed", "failed", "not done")
    }
    return "\n" + "\n".join(
        f"{status}: {len(names)}" + f" ({', '.join(names)})" * bool(names) for status, names in counts.items()
    )


if __name__ == "__main__":
    sys.exit(main())
