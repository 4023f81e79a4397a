"""What is at the top, and which package may import which."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

COMMANDS = {
    "train_resnet_improved.py",
    "models_resnet_improved.py",
    "data_loader.py",
    "score_images.py",
    "report_ablation.py",
    "demo_dataset.py",
    "benchmark_training.py",
}
# Each room of iqa/ and those that it may import; "" is what lies in iqa/ itself, which every room may.
ROOMS = {
    "": set(),
    "data": set(),
    "models": set(),
    "report": {"models"},
    "scoring": {"data"},
    "training": {"data", "models"},
    "demo": {"data"},
    "benchmark": {"data", "models", "training"},
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "iqa").parent.as_posix().replace(".", "")


def test_the_top_holds_the_commands_and_the_experiment_alone():
    assert {path.name for path in ROOT.glob("*.py")} == COMMANDS


@pytest.mark.parametrize("path", sorted((ROOT / "iqa").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    """From the commands to iqa/, and inside it from a room to those that it may know."""
    names = imported(path)
    commands = {name.removesuffix(".py") for name in COMMANDS}
    assert not {name.partition(".")[0] for name in names} & commands
    rooms = {name.split(".")[1] for name in names if name.startswith("iqa.")} & set(ROOMS)
    assert rooms <= ROOMS[room_of(path)] | {room_of(path)}


@pytest.mark.parametrize(
    "module",
    [
        "iqa.cli",
        "iqa.training.options",
        "iqa.scoring.options",
        "iqa.data.check",
        "iqa.models.variants",
        "report_ablation",
        "demo_dataset",
    ],
)
def test_what_comes_before_the_work_never_loads_torch(module):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_report_never_loads_torch():
    assert not any("torch" in imported(path) for path in (ROOT / "iqa/report").rglob("*.py"))
