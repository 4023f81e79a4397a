"""on_gpu.sh where there is no GPU: what it tells, not how fast anything is."""

import json
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import pytest
from conftest import ROOT, run_program
from torch.autograd import DeviceType

from iqa.data.datasets import load_dataset

sys.path.insert(0, str(ROOT / "tests" / "gpu"))
import drive  # noqa: E402
import parts  # noqa: E402
import processes  # noqa: E402
from profile_steps import covered, kernels_by_kind, runs_on_gpu  # noqa: E402


def on_gpu(*arguments, cwd):
    return run_program("bash", ROOT / "tests/on_gpu.sh", "--device", "cpu", *arguments, cwd=cwd, PYTHON=sys.executable)


def test_both_files_tell_what_was_done_and_what_was_not(tiny_data, tmp_path):
    """By the shell command: a part that runs, parts that need a GPU."""
    process = on_gpu(
        tiny_data, "--parts", "steps,profile,benchmark-eager-32-preloaded", "--output", "out", cwd=tmp_path
    )
    assert process.returncode == 0 and process.stderr == "", process.stderr
    results, text = json.loads((tmp_path / "out/on_gpu.json").read_text()), (tmp_path / "out/on_gpu.txt").read_text()
    assert text.strip() == process.stdout.strip()
    assert [(part["name"], part["status"]) for part in results["parts"]] == [
        ("steps", "not done"),
        ("profile", "passed"),
        ("benchmark-eager-32-preloaded", "not done"),
    ]
    assert text.count("not done: needs CUDA") == 2 and "passed: 1 (profile)" in text and "failed: 0" in text
    facts = results["parts"][1]["facts"]
    assert {kernel["name"] for kernel in facts["kernels"]["batch norm"]} >= {"aten::native_batch_norm_backward"}
    assert any("convolution" in kernel["name"] for kernel in facts["kernels"]["convolution"])
    assert facts["steps"] == 2 and all(line in text for line in facts["lines"])
    assert results["machine"]["type"] == "cpu" and results["data"] == str(tiny_data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], ["DATA nowhere", "no such folder"]),
        (["--parts", "steps,tea"], ["--parts", "'tea'", "benchmark-eager-32"]),
        (["--device", "cuda:99"], ["--device cuda:99", "--device cpu only tries the script"]),
    ],
)
def test_a_mistake_is_one_line(tmp_path, arguments, words):
    process = run_program(sys.executable, ROOT / "tests/gpu/drive.py", "--device", "cpu", *arguments, cwd=tmp_path)
    (line,) = process.stderr.splitlines()
    assert process.returncode == 2 and line.startswith("error: ") and all(word in line for word in words), line
    assert not (tmp_path / "on_gpu.json").exists()


# The parts share a time, and one that breaks leaves the others alone


def part(work, *, needs_cuda=False, seconds=60.0):
    return parts.Part("name", "what", needs_cuda, seconds, work)


def sleeping(context, end_time):
    return processes.run(
        [sys.executable, "-c", "import time; time.sleep(60)"], end_time - time.monotonic(), context.scratch
    )


@pytest.fixture
def context(tmp_path):
    return parts.Context(ROOT, tmp_path, tmp_path, "cpu", parts.SETTINGS["cpu"])


def test_a_part_gets_its_own_limit_or_what_is_left(context):
    ends = []
    done = drive.do(part(lambda _, end_time: ends.append(end_time - time.monotonic()) or {}), context, False, 100.0)
    drive.do(part(lambda _, end_time: ends.append(end_time - time.monotonic()) or {}), context, False, 20.0)
    assert done["status"] == "passed" and ends == pytest.approx([60, 20], abs=5)


def test_a_part_that_takes_too_long_is_ended_and_not_done(context):
    done = drive.do(part(sleeping, seconds=0.5), context, False, 100.0)
    assert done["status"] == "not done" and "was not finished" in done["why"]


def test_a_part_without_time_or_device_is_not_begun(context):
    assert drive.do(part(sleeping), context, False, 1.0)["why"] == "no time left"
    assert drive.do(part(sleeping, needs_cuda=True), context, False, 100.0)["why"] == "needs CUDA"


def test_a_command_that_fails_is_told_by_its_last_line(context):
    def work(context, end_time):
        return processes.run(
            [sys.executable, "-c", "import sys; sys.exit('first\\nCUDA error: no luck')"], 60, context.scratch
        )

    done = drive.do(part(work), context, True, 100.0)
    assert done["status"] == "failed" and done["why"].endswith("status 1: CUDA error: no luck")
    assert "CUDA error: no luck" in drive.as_text(done) and "failed: 1 (name)" in drive.summary([done])


def test_nothing_that_a_command_started_outlives_it(context):
    code = "import subprocess, time; subprocess.Popen(['sleep', '61.25']); time.sleep(60)"
    with pytest.raises(processes.OutOfTime):
        processes.run([sys.executable, "-c", code], 3, context.scratch)
    assert subprocess.run(["pgrep", "-f", "^sleep 61.25"], capture_output=True).returncode == 1


def test_a_resume_without_a_run_to_compare_with_is_not_done(context):
    done = drive.do(part(parts.resumed), context, False, 100.0)
    assert (done["status"], done["why"]) == ("not done", "there is no finished deterministic run to compare with")


# What is made of their numbers


def test_the_images_are_few_and_keep_their_sets(tiny_data, tmp_path):
    folder = drive.few_images(load_dataset("koniq-10k", tiny_data).sets, 8, tmp_path)
    lines = (folder / "koniq10k_distributions_sets.csv").read_text().splitlines()
    assert [line.rsplit(",")[-1] for line in lines[1:]] == ["training"] * 4 + ["validation"] * 4 + ["test"] * 4
    official = (tiny_data / "koniq10k_distributions_sets.csv").read_text().splitlines()
    assert set(lines[1:]) < set(official[1:]) and len(list((folder / "images").iterdir())) == 12


def test_time_that_several_kernels_share_is_busy_once():
    assert covered([(5, 6), (0, 2), (1, 3), (1, 2)]) == 4
    assert covered([]) == 0


def test_kernels_are_told_by_the_operator_that_launched_them():
    def event(name, *kernels):
        return SimpleNamespace(
            name=name, kernels=[SimpleNamespace(name=kernel, duration=time) for kernel, time in kernels]
        )

    events = [
        event("aten::cudnn_batch_norm", ("bn_fw_tr_1C11", 400)),
        event("aten::mm", ("gemm", 1)),
        event("aten::cudnn_convolution", ("sm90_xmma", 200), ("nchwToNhwc", 600)),
        event("aten::cudnn_convolution", ("sm90_xmma", 800)),
    ]
    kinds = kernels_by_kind(events, steps=2)
    assert kinds["batch norm"] == [{"name": "bn_fw_tr_1C11", "ms": 0.2, "calls": 0.5}]
    assert [(kernel["name"], kernel["ms"], kernel["calls"]) for kernel in kinds["convolution"]] == [
        ("sm90_xmma", 0.5, 1.0),
        ("nchwToNhwc", 0.3, 0.5),
    ]


def test_labels_of_the_host_and_its_own_work_do_not_make_the_gpu_busy():
    kernel = SimpleNamespace(device_type=DeviceType.CUDA, is_user_annotation=False)
    label = SimpleNamespace(device_type=DeviceType.CUDA, is_user_annotation=True)
    host = SimpleNamespace(device_type=DeviceType.CPU, is_user_annotation=False)
    assert [runs_on_gpu(event) for event in (kernel, label, host)] == [True, False, False]


def test_tests_that_fail_or_do_not_run_are_no_success():
    xml = "<t><testcase name='a'/><testcase name='b'><skipped/></testcase>{}</t>"
    outcomes = parts.judge_tests(ElementTree.fromstring(xml.format("")))
    assert (outcomes["passed"], outcomes["skipped"]) == (["a"], ["b"])
    with pytest.raises(processes.Failed, match="tests failed: c"):
        parts.judge_tests(ElementTree.fromstring(xml.format("<testcase name='c'><failure/></testcase>")))
    with pytest.raises(processes.Failed, match="none ran"):
        parts.judge_tests(ElementTree.fromstring("<t><testcase name='b'><skipped/></testcase></t>"))


def test_every_test_that_is_skipped_without_cuda_is_chosen_by_its_name():
    """Those that the part `tests` runs: -k "gpu or cuda"."""
    names = []
    for path in (ROOT / "tests").glob("*/test_*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines):
            if "skipif(not CUDA" in line or "skipif(not torch.cuda.is_available()" in line:
                names.append(next(later for later in lines[number:] if later.startswith("def test_")))
    assert len(names) >= 3 and all("gpu" in name or "cuda" in name for name in names)
