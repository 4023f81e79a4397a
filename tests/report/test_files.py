"""The files that the report writes, and its command line."""

import os
import re
import shutil
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from made_up_runs import DEMO, SEEDS, write_ablation, write_grid
from PIL import Image
from read_report import report, srcc_of

FIGURES = ["training_curves", "predicted_against_true", "delta_srcc", "attention_by_mos"]
GRID_FIGURES = [*FIGURES, "gain_by_backbone"]


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    """A finished ablation whose full variant is clearly better, and its report."""
    folder = write_ablation(tmp_path_factory.mktemp("ablation") / "logs", images=500, errors=(9.0, 8.9, 6.0))
    return folder, *report(folder, figures=True)


@pytest.fixture(scope="module")
def three_seeds(tmp_path_factory):
    folder = write_ablation(tmp_path_factory.mktemp("seeds") / "logs", errors=(9.0, 8.0, 6.0), seeds=SEEDS)
    return folder, *report(folder, figures=True)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = write_grid(tmp_path_factory.mktemp("grid") / "logs", published=(9.5, 5.0))
    return folder, *report(folder, figures=True)


@pytest.mark.parametrize(("case", "names", "width"), [("ablation", FIGURES, 8.5), ("grid", GRID_FIGURES, 17.6)])
def test_figures_are_there_as_png_and_pdf_and_fit_one_or_two_columns(case, names, width, request):
    folder, _, page, _ = request.getfixturevalue(case)
    for name in names:
        with Image.open(folder / "figures" / f"{name}.png") as picture:
            assert picture.width / picture.info["dpi"][0] * 2.54 == pytest.approx(width, abs=0.05)
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert f"(figures/{name}.png)" in page
    assert sorted(path.name for path in (folder / "figures").iterdir()) == sorted(
        f"{name}.{kind}" for name in names for kind in ("png", "pdf")
    )


def test_the_same_runs_give_the_same_bytes(ablation):
    folder = ablation[0]
    paths = [folder / f"report.{kind}" for kind in ("json", "md", "tex")] + list(folder.glob("figures/*"))
    first = [path.read_bytes() for path in paths]
    report(folder, figures=True)
    assert [path.read_bytes() for path in paths] == first


@pytest.mark.parametrize("case", ["ablation", "three_seeds", "demo", "missing", "grid"])
def test_the_latex_compiles_inside_an_article(case, tmp_path, request):
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex here: apt-get install texlive-latex-base")
    if case in ("ablation", "three_seeds", "grid"):
        folder = request.getfixturevalue(case)[0]
    else:
        folder = write_ablation(tmp_path / "logs", config={"dataset_note": f"{DEMO} & 100% {{x}}_#$~^\\ é"})
        if case == "missing":
            shutil.rmtree(folder / "exp3_multiscale_attention")
        report(folder, figures=True)
    (folder / "article.tex").write_text(
        r"\documentclass[twocolumn]{article}\usepackage{booktabs}\usepackage{graphicx}"
        r"\begin{document}\section{A}\input{report}\end{document}"
    )
    for draft in (["-draftmode"], []):  # the second finds what the first has numbered
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", *draft, "article.tex"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout[-2000:]
    assert "undefined" not in done.stdout and "Overfull \\hbox" not in done.stdout


def test_the_command_prints_the_table_and_never_loads_torch(tmp_path):
    folder = write_ablation(tmp_path / "logs", images=60)
    code = "import sys, report_ablation as r; status = r.main(); sys.exit(9 if 'torch' in sys.modules else status)"
    command = [sys.executable, "-c", code, str(folder), "--draws", "1000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert table[0] == "| Configuration | SRCC | PLCC | Δ SRCC [95%] | Time on this machine |" and len(table) == 9
    row = next(line for line in table if "ResNet50 baseline" in line)
    assert row.startswith(f"| ResNet50 baseline | {srcc_of(folder / 'exp1_baseline'):.4f} |")
    assert row.endswith("| – | 28.5 s |") and "Note: One run of a variant" in done.stdout


@pytest.mark.parametrize(("library", "number"), [("scipy", signal.SIGINT), ("matplotlib", signal.SIGTERM)])
def test_a_signal_ends_it_in_one_line_and_leaves_no_report(tmp_path, library, number):
    """Sent by a library that it loads: scipy at its start, matplotlib in the midst of its work."""
    folder = write_ablation(tmp_path / "logs", images=30)
    (tmp_path / f"{library}.py").write_text(f"import os\nos.kill(os.getpid(), {int(number)})\n")
    command = [sys.executable, "report_ablation.py", str(folder), "--draws", "1000"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (128 + number, "")
    assert re.fullmatch(rf"Stopped by {number.name}\. [^\n]+\n", done.stderr)
    assert not list(folder.glob("report*"))
