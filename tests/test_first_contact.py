"""First steps of a new user: missing packages, the installation, hints."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT, assert_one_line_error, refuse, run_main, run_program

SCRIPTS = {  # flags that are right, and some that are not
    "train_resnet_improved.py": ("--data_path .", "--data_path nowhere"),
    "score_images.py": ("--checkpoint photo.jpg photo.jpg", "--checkpoint x.pth nowhere.jpg"),
    "report_ablation.py": (".", "logs"),
    "demo_dataset.py": ("--output demo --images 6", "--output demo --images 3"),
    "benchmark_training.py": ("", "--output logs"),
    "data_loader.py": (".", "nowhere"),
    "models_resnet_improved.py": ("", "--nothing"),
}
WITHOUT_TORCH = """
import pathlib, runpy, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())
script = sys.argv.pop(1)
sys.path[0] = str(pathlib.Path(script).parent)
runpy.run_path(script, run_name="__main__")
"""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_without_its_packages_is_one_line(tmp_path, script):
    (tmp_path / "photo.jpg").touch()
    bare = [sys.executable, "-S", ROOT / script, *SCRIPTS[script][0].split()]  # no site-packages
    process = subprocess.run(bare, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert_one_line_error(process, "package", "source .venv/bin/activate", "bash run_tests.sh")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.jpg"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_mistakes_need_no_torch(tmp_path, script):
    (tmp_path / "logs").mkdir()
    for flags, is_right, words in (("--help", True, "usage: "), (SCRIPTS[script][1], False, "error: ")):
        command = [sys.executable, "-c", WITHOUT_TORCH, ROOT / script, *flags.split()]
        process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert (process.returncode == 0) == is_right and (process.stdout + process.stderr).startswith(words)
        assert "torch" not in process.stderr.lower()


def test_the_installation_says_how_long_it_takes_and_shows_the_output_of_pip(tmp_path):
    """An interpreter without packages, whose pip fails."""
    interpreter = tmp_path / "python3"
    interpreter.write_text('#!/bin/bash\n[[ $* != *pip* ]] || { echo "Collecting torch"; exit 1; }\n')
    interpreter.chmod(0o755)
    environment = {"PYTHON": str(interpreter), "VIRTUAL_ENV": str(tmp_path), "SEEDS": "1 2"}
    runner = ROOT / "run_resnet_ablation.sh"
    process = run_program("bash", runner, "--demo", cwd=tmp_path, **environment)
    assert process.returncode == 1 and list(tmp_path.iterdir()) == [interpreter]
    first, second = process.stdout.splitlines()
    assert "minutes" in first and "GB" in first and second == "Collecting torch"
    error, hint = process.stderr.splitlines()
    assert error.startswith("error: ") and "requirements.txt" in error
    assert hint.startswith("To go on: SEEDS=1\\ 2 ") and hint.endswith(f"bash {runner} --demo")


def test_two_commands_at_once_install_one_after_the_other(tmp_path):
    """The second one finds the packages that the first one has installed."""
    interpreter = tmp_path / "python3"
    interpreter.write_text(f"""#!/bin/bash
case $* in
    *--dry-run*) [[ -e installed ]] ;;
    *pip*install*) echo install >>log; sleep 2; touch installed ;;
    *) exec {sys.executable} "$@" ;;
esac
""")
    interpreter.chmod(0o755)
    command = f"here={ROOT}; source {ROOT}/find_python.sh; find_python requirements.txt; echo $python"
    environment = {"PATH": os.environ["PATH"], "PYTHON": str(interpreter), "VIRTUAL_ENV": str(tmp_path)}
    commands = [
        subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=60)[0] for process in commands]
    assert all(output.endswith(f"{interpreter}\n") for output in outputs)
    assert (tmp_path / "log").read_text() == "install\n"


def test_a_folder_of_another_data_set_is_answered_with_its_flag(tmp_path):
    (tmp_path / "labels.csv").write_text("image,mos\n1.jpg,50\n")
    for module, *flags in (["train_resnet_improved", "--data_path", "."], ["iqa.data.check", "."]):
        assert_one_line_error(run_main(module, *flags, cwd=tmp_path), "--dataset csv")


def test_a_checkpoint_that_is_missing_is_answered_with_what_writes_one(tmp_path):
    (tmp_path / "photo.jpg").touch()
    process = run_main("score_images", *"--checkpoint no.pth photo.jpg --device cpu".split(), cwd=tmp_path)
    assert_one_line_error(process, "no.pth", "no such checkpoint", "train_resnet_improved.py --save_model")


def test_a_failed_download_of_weights_does_not_advise_the_download(tmp_path, tiny_data, monkeypatch):
    def fail(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", fail)
    process = refuse("--data_path", tiny_data, "--weights", "imagenet", cwd=tmp_path)
    assert_one_line_error(process, "--weights imagenet", "resnet50-0676ba61.pth", "no route to host")
    advice = process.stderr.partition("; choose ")[2]
    assert "path" in advice and "none" in advice and "imagenet" not in advice


def test_a_resume_of_a_wrong_folder_names_the_folders_with_a_run(tmp_path, tiny_data):
    for name in ("first", "second"):
        (tmp_path / "logs" / name).mkdir(parents=True)
        (tmp_path / "logs" / name / "config.json").write_text("{}")
    process = refuse("--data_path", tiny_data, "--resume", "--output_dir", "logs/third", cwd=tmp_path)
    assert_one_line_error(process, "--resume", "logs/third", "logs/first", "logs/second")
