"""The files at the top, and the imports between the packages."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

COMMANDS = {
    f"{name}.py"
    for name in "train_resnet_improved models_resnet_improved data_loader score_images report_ablation demo_dataset "
    "benchmark_training".split()
}
# Each package of iqa/ with those that it may import; "" is the modules of iqa/ itself, which every package may import.
PACKAGES = {
    "": set(),
    "data": set(),
    "models": set(),
    "report": {"models"},
    "scoring": {"data", "models", "training"},
    "training": {"data", "models"},
    "demo": {"data"},
    "benchmark": {"data", "models", "training"},
    "ablation": {"data", "models", "training"},
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_the_top_holds_the_commands():
    assert {path.name for path in ROOT.glob("*.py")} == COMMANDS


@pytest.mark.parametrize("path", sorted((ROOT / "iqa").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_one_way(path):
    """From the commands to iqa/, and between its packages as PACKAGES says; the report never loads torch."""
    names = imported(path)
    place = path.relative_to(ROOT / "iqa").with_suffix("").parts[0]
    package = place if place in PACKAGES else ""
    assert not {name.partition(".")[0] for name in names} & {name.removesuffix(".py") for name in COMMANDS}
    others = {name.split(".")[1] for name in names if name.startswith("iqa.")} & set(PACKAGES)
    assert others <= PACKAGES[package] | {package}
    assert package != "report" or not any("torch" in name for name in names)


@pytest.mark.parametrize(
    "module",
    "iqa.cli iqa.ablation iqa.training.options iqa.scoring.options iqa.data.check iqa.models.variants report_ablation "
    "demo_dataset".split(),
)
def test_what_comes_before_the_work_never_loads_torch(module):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); import {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
