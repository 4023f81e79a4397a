"""Data sets other than KonIQ-10k, the evaluation of a checkpoint on any of them, and the live view."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from conftest import ROOT, assert_one_line_error, run_program, train, write_image

import evaluation
from iqa.data.datasets import OTHER_DATASETS, draw_split, load_other
from iqa.data.labels import SETS
from iqa.training.live_view import live_view
from train_resnet_improved import parse_options

PHOTOS = [(f"holiday/{i}.png" if i % 2 else f"{i}.jpg", round(1 + 4 * (i * 7 % 20) / 19, 2)) for i in range(20)]
BEST = "checkpoints/resnet_improved_ms_att_best.pth"


def write_rows(path: Path, *rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def make_csv(root: Path, splits=None, **changes) -> Path:
    """Twenty photographs on a 1-5 scale; `changes` replace cells of the third row, which stands in line 4."""
    header = ["image", "mos", "split"][: 3 if splits else 2]
    rows = [dict(zip(header, (*photo, splits and splits[i % len(splits)]), strict=False)) for i, photo in enumerate(PHOTOS)]
    for name, mos in PHOTOS:
        write_image(root / name, 25 * (mos - 1))
    rows[2] |= changes
    write_rows(root / "labels.csv", header, *(row.values() for row in rows))
    return root


def make_livec(root: Path, images=10, **variables) -> Path:
    names = [f"t{i}.bmp" for i in range(1, 8)] + [f"{i}.bmp" for i in range(1, images + 1)]
    mos = [99.0] * 7 + [3.42 + 7.9 * (i * 3 % images) for i in range(images)]
    for name, value in zip(names, mos, strict=True):
        write_image(root / "Images" / ("trainingImages" if name[0] == "t" else ".") / name, value)
    cells = np.empty((len(names), 1), object)
    cells[:, 0] = names
    variables = {"AllImages_release": cells, "AllMOS_release": np.array([mos]), **variables}
    (root / "Data").mkdir(exist_ok=True)
    for name, value in variables.items():
        scipy.io.savemat(root / f"Data/{name}.mat", {name: value})
    return root


def make_kadid(root: Path, scenes=10, dmos=None) -> Path:
    images = [(f"I{s:02d}_{d:02d}_01.png", f"I{s:02d}.png") for s in range(1, scenes + 1) for d in (1, 2, 3)]
    for name, _ in images:
        write_image(root / "images" / name, 50)
    rows = [(name, scene, dmos or round(1 + i % 5 * 0.97, 2), 0.8) for i, (name, scene) in enumerate(images)]
    write_rows(root / "dmos.csv", ("dist_img", "ref_img", "dmos", "var"), *rows)
    return root


def names_of(data) -> dict[str, set[str]]:
    return {name: set(images.names) for name, images in data.sets.items()}


# Labels


def test_a_csv_of_names_and_mos_on_any_scale_gets_its_range_from_the_values(tmp_path):
    data = load_other("csv", make_csv(tmp_path))
    labels = {name: mos for images in data.sets.values() for name, mos in zip(images.names, images.mos, strict=True)}
    assert labels == dict(PHOTOS) and data.mos_range == (1, 5)
    assert "MOS: 1 to 5, the lowest and highest of labels.csv" in data.facts
    assert load_other("csv", tmp_path, mos_range=(-1, 7)).mos_range == (-1, 7)


@pytest.mark.parametrize("splits", [("training", "validation", "test"), ("train", "val", "test")])
def test_the_split_column_counts(tmp_path, splits):
    data = load_other("csv", make_csv(tmp_path, splits))
    for i, name in enumerate(SETS):
        assert names_of(data)[name] == {photo for photo, _ in PHOTOS[i::3]}
    assert not data.drawn and "Split: that of labels.csv" in data.facts


def test_the_challenge_leaves_out_the_seven_examples_of_its_study(tmp_path):
    data = load_other("livec", make_livec(tmp_path))
    everything = set.union(*names_of(data).values())
    assert everything == {f"{i}.bmp" for i in range(1, 11)} and data.mos_range == (0, 100)
    assert data.sizes() == {"training": 7, "validation": 1, "test": 2}
    assert "10 images; the release has 1,162" in data.warnings[0]


def test_no_scene_of_kadid_is_in_two_sets(tmp_path):
    data = load_other("kadid10k", make_kadid(tmp_path))
    scenes = [{name[:3] for name in names} for names in names_of(data).values()]
    assert [len(s) for s in scenes] == [7, 1, 2] and len(set.union(*scenes)) == 10
    assert data.sizes() == {"training": 21, "validation": 3, "test": 6} and data.mos_range == (1, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"mos": "nan"}, r"row 4: mos is 'nan', not a finite number"),
        ({"mos": "fine"}, r"row 4: mos is 'fine'"),
        ({"mos": ""}, r"row 4: mos is ''"),
        ({"image": "../0.jpg"}, r"row 4: .*'\.\./0\.jpg'"),
        ({"image": "/etc/0.jpg"}, r"row 4: .*absolute"),
        ({"image": ""}, r"row 4: .*empty"),
        ({"image": "0.jpg"}, r"row 4: 0\.jpg is named .*row 2"),
        ({"split": "training set"}, r"row 4: split is 'training set', not one of train, val, test, training, valid"),
        ({"split": ""}, r"row 4: split is ''"),
    ],
)
def test_a_bad_row_of_a_csv_is_an_error_with_file_and_row(tmp_path, changes, words):
    with pytest.raises(ValueError, match=f"labels.csv: {words}"):
        load_other("csv", make_csv(tmp_path, ("train", "val", "test"), **changes))


@pytest.mark.parametrize(
    ("mos_range", "words"),
    [((2, 5), r"row 2: MOS 1 is outside 2 to 5"), ((1, 4.5), r"row 13: MOS 4\.58 is outside 1 to 4\.5; .*--mos_range")],
)
def test_a_value_outside_the_given_range_is_an_error_with_file_and_row(tmp_path, mos_range, words):
    with pytest.raises(ValueError, match=words):
        load_other("csv", make_csv(tmp_path), mos_range=mos_range)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("image", "quality"), ("0.jpg", 1)], "labels.csv: no column mos; it has"),
        ([("image", "mos")], "labels.csv: names no images"),
        ([("image", "mos"), ("0.jpg", 3), ("2.jpg", 3)], "labels.csv: every MOS is 3"),
    ],
)
def test_a_csv_without_columns_rows_or_a_range_is_an_error(tmp_path, rows, words):
    write_rows(make_csv(tmp_path) / "labels.csv", *rows)
    with pytest.raises(ValueError, match=words):
        load_other("csv", tmp_path)


def test_images_that_are_missing_or_linked_out_of_the_folder_are_errors(tmp_path):
    root = make_csv(tmp_path / "photos")
    (root / "holiday/3.png").rename(tmp_path / "3.png")
    with pytest.raises(FileNotFoundError, match="1 of 20 labelled images are missing, first holiday/3.png"):
        load_other("csv", root)
    (root / "holiday/3.png").symlink_to(tmp_path / "3.png")
    with pytest.raises(ValueError, match=r"row 5: holiday/3.png is a link out of the data folder"):
        load_other("csv", root)


@pytest.mark.parametrize("name", OTHER_DATASETS)
def test_a_folder_without_labels_names_the_files_that_are_needed(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=f"no {OTHER_DATASETS[name].label_files[0]}.*--dataset {name}"):
        load_other(name, tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder"):
        load_other(name, tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AllMOS_release": np.array([[50.0, 60.0]])}, "AllMOS_release.mat: 2 MOS for the 17 names"),
        ({"AllMOS_release": np.array([[99.0] * 16 + [101.0]])}, "AllMOS_release.mat: entry 17: MOS 101 is outside 0 to 100"),
        ({"AllMOS_release": np.array([[99.0] * 16 + [np.nan]])}, "AllMOS_release.mat: entry 17: MOS is 'nan'"),
    ],
)
def test_bad_matlab_values_are_an_error_with_file_and_entry(tmp_path, variables, words):
    with pytest.raises(ValueError, match=words):
        load_other("livec", make_livec(tmp_path, **variables))


def test_matlab_files_of_another_kind_are_an_error(tmp_path):
    path = make_livec(tmp_path) / "Data/AllImages_release.mat"
    scipy.io.savemat(path, {"other": [1]})
    with pytest.raises(ValueError, match="AllImages_release.mat: no variable AllImages_release"):
        load_other("livec", tmp_path)
    path.write_text("no")
    with pytest.raises(ValueError, match="AllImages_release.mat: not a MATLAB 5 file"):
        load_other("livec", tmp_path)


def test_a_kadid_value_outside_its_scale_is_an_error_with_file_and_row(tmp_path):
    with pytest.raises(ValueError, match="dmos.csv: every MOS is 6"):
        load_other("kadid10k", make_kadid(tmp_path, dmos=6))
    write_rows(tmp_path / "dmos.csv", ("dist_img", "ref_img", "dmos", "var"), ("a.png", "b.png", 1, 1), ("c.png", "b.png", 6, 1))
    with pytest.raises(ValueError, match="dmos.csv: row 3: MOS 6 is outside 1 to 5"):
        load_other("kadid10k", tmp_path)


# Splits


def test_a_drawn_split_depends_on_its_seed_and_the_names_alone(tmp_path):
    data = load_other("csv", make_csv(tmp_path))
    assert data.sizes() == {"training": 14, "validation": 2, "test": 4} and data.drawn
    rows = [(name, 6 - mos) for name, mos in reversed(PHOTOS)]
    write_rows(tmp_path / "labels.csv", ("image", "mos"), *rows)
    assert names_of(load_other("csv", tmp_path)) == names_of(data)
    assert names_of(load_other("csv", tmp_path, split_seed=1)) != names_of(data)


def test_the_drawn_split_is_the_same_on_every_machine(tmp_path):
    assert names_of(load_other("csv", make_csv(tmp_path)))["test"] == {"2.jpg", "6.jpg", "10.jpg", "16.jpg"}


def test_the_smallest_data_set_with_three_sets_has_three_images(tmp_path):
    labels = list(OTHER_DATASETS["csv"].read(make_csv(tmp_path)))[:3]
    assert sorted(label.set for label in draw_split(labels, 0)) == sorted(SETS)


def test_a_split_file_counts_over_the_drawn_split_and_what_it_leaves_out_is_said(tmp_path):
    make_csv(tmp_path)
    write_rows(tmp_path / "mine.csv", ("image", "split"), ("0.jpg", "train"), ("2.jpg", "val"), ("holiday/1.png", "test"))
    data = load_other("csv", tmp_path, split_file=tmp_path / "mine.csv")
    assert names_of(data) == {"training": {"0.jpg"}, "validation": {"2.jpg"}, "test": {"holiday/1.png"}}
    assert "17 of 20 images are in no set" in data.warnings[0]
    write_rows(tmp_path / "mine.csv", ("image", "split"), ("x.jpg", "train"))
    with pytest.raises(ValueError, match="mine.csv: row 2: x.jpg is not among the 20 images"):
        load_other("csv", tmp_path, split_file=tmp_path / "mine.csv")
    with pytest.raises(FileNotFoundError, match="--split_file .*no such file"):
        load_other("csv", tmp_path, split_file=tmp_path / "none.csv")


# The command line


def read_predictions(path: Path) -> dict[str, float]:
    with open(path, newline="") as file:
        return {row["image_name"]: float(row["score"]) for row in csv.DictReader(file)}


RUN_FLAGS = ("--dataset", "csv", "--data_path", "photos", "--mos_range", "0", "5", "--split_seed", "3", "--epochs", "1",
             "--use_multiscale", "--use_attention", "--save_model", "--precision", "fp32", "--output_dir", "run")  # fmt: skip


@pytest.fixture(scope="module")
def photos_run(tmp_path_factory) -> Path:
    """The working folder of a finished run on photos/, whose split was drawn with --split_seed 3."""
    cwd = tmp_path_factory.mktemp("photos_run")
    make_csv(cwd / "photos")
    process = train(*RUN_FLAGS, cwd=cwd)
    assert process.returncode == 0, process.stderr
    (cwd / "log.txt").write_text(process.stdout)
    return cwd


def test_a_run_on_a_csv_says_its_scale_and_leaves_its_split(photos_run):
    log = (photos_run / "log.txt").read_text()
    assert "MOS: 0 to 5, given by --mos_range" in log and "--split_seed 3" in log
    config = json.loads((photos_run / "run/config.json").read_text())
    assert config["mos_range"] == [0, 5] and config["dataset_note"]
    kept = load_other("csv", photos_run / "photos", split_file=photos_run / "run/split.csv")
    assert kept.sha256 == config["split"]["sha256"]
    assert kept.sha256 == load_other("csv", photos_run / "photos", split_seed=3).sha256
    scores = read_predictions(photos_run / "run/predictions_test.csv")
    assert set(scores) == names_of(kept)["test"]


def evaluate(*flags) -> None:
    """--evaluate, but in the process of the tests."""
    evaluation.run(parse_options(["--device", "cpu", *map(str, flags)]))


def test_evaluate_alone_reproduces_the_test_scores_of_the_run(photos_run, monkeypatch):
    command = (sys.executable, ROOT / "train_resnet_improved.py", "--evaluate", BEST, "--output_dir", "again")
    process = run_program(*command, "--device", "cpu", "--precision", "fp32", cwd=photos_run)
    assert process.returncode == 0, process.stderr
    scores = read_predictions(photos_run / "again/predictions_csv_test.csv")
    assert scores == pytest.approx(read_predictions(photos_run / "run/predictions_test.csv"), abs=1e-4)
    result = json.loads((photos_run / "run/result.json").read_text())
    for name in ("SRCC", "PLCC"):
        assert f"\n{name}: {result[f'selected_test_{name.lower()}']:.4f}\n" in process.stdout
    monkeypatch.chdir(photos_run)
    with pytest.raises(FileExistsError, match="--overwrite"):
        evaluate("--evaluate", BEST, "--output_dir", "again")


def test_a_checkpoint_scores_every_image_of_another_data_set(photos_run, tmp_path):
    make_livec(tmp_path / "livec")
    command = (sys.executable, ROOT / "train_resnet_improved.py", "--evaluate", BEST, "--dataset", "livec", "--data_path")
    process = run_program(*command, tmp_path / "livec", "--device", "cpu", "--output_dir", tmp_path, cwd=photos_run)
    assert process.returncode == 0, process.stderr
    summary = json.loads((tmp_path / "evaluation_livec_all.json").read_text())
    for line in (f"SRCC: {summary['srcc']:.4f}", f"PLCC: {summary['plcc']:.4f}", "every image of livec", "10 images"):
        assert line in process.stdout
    scores = read_predictions(tmp_path / "predictions_livec_all.csv")
    assert set(scores) == {f"{i}.bmp" for i in range(1, 11)} and summary["images"] == 10


@pytest.mark.parametrize(("name", "count"), [("all", 30), ("test", 6), ("val", 3)])
def test_the_set_can_be_chosen(photos_run, tmp_path, name, count):
    make_kadid(tmp_path)
    evaluate("--evaluate", photos_run / BEST, "--dataset", "kadid10k", "--data_path", tmp_path, "--evaluate_set", name,
             "--output_dir", tmp_path)  # fmt: skip
    assert len(read_predictions(tmp_path / f"predictions_kadid10k_{name}.csv")) == count


def test_the_run_s_own_images_are_never_scored_as_if_they_were_new(photos_run, tmp_path, capsys):
    data = make_csv(tmp_path / "photos", mos="1.5")
    flags = ("--evaluate", photos_run / BEST, "--dataset", "csv", "--output_dir", tmp_path)
    evaluate(*flags, "--data_path", data)
    printed = capsys.readouterr().out
    assert "every image of csv" in printed and "Warning: the checkpoint was trained on csv with other labels" in printed
    evaluate(*flags, "--data_path", photos_run / "photos", "--evaluate_set", "all", "--overwrite")
    assert "Warning: images that the checkpoint was trained on are among these" in capsys.readouterr().out


def test_a_file_that_is_no_checkpoint_or_a_part_of_one_is_an_error_that_names_it(photos_run, tmp_path):
    with pytest.raises(FileNotFoundError, match="none.pth: no such checkpoint"):
        evaluate("--evaluate", tmp_path / "none.pth")
    (tmp_path / "part.pth").write_bytes((photos_run / BEST).read_bytes()[:100_000])
    with pytest.raises(ValueError, match="part.pth: damaged or not a checkpoint"):
        evaluate("--evaluate", tmp_path / "part.pth")
    saved = torch.load(photos_run / BEST, weights_only=True)
    for key, value, words in (("dataset", "gone", "--dataset gone: not one of koniq-10k, csv"), ("seed", "1", "flags seed")):
        config = {**saved["config"], "flags": {**saved["config"]["flags"], key: value}}
        torch.save({**saved, "config": config}, tmp_path / "changed.pth")
        with pytest.raises(ValueError, match=words):
            evaluate("--evaluate", tmp_path / "changed.pth")
    torch.save({"model": {}}, tmp_path / "other.pth")
    command = (sys.executable, ROOT / "train_resnet_improved.py", "--evaluate", "other.pth")
    assert_one_line_error(run_program(*command, cwd=tmp_path), "other.pth", "config")


def test_a_resumed_run_keeps_the_split_it_began_with(photos_run, tmp_path):
    for folder in ("run", "photos"):
        shutil.copytree(photos_run / folder, tmp_path / folder)
    (tmp_path / "run/result.json").unlink()  # as if it had been killed before it was finished
    with open(tmp_path / "photos/labels.csv", "a") as file:
        file.writelines(f"{i}.jpg,3.3\n" for i in range(100, 120))
    process = train(*RUN_FLAGS, "--resume", "--checkpoint_dir", photos_run / "checkpoints", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert "20 of 40 images are in no set and not used" in process.stdout
    assert (tmp_path / "run/result.json").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--dataset", "csv"], ["--dataset csv", "--data_path"]),
        (["--dataset", "csv", "--data_path", "x", "--mos_range", "5", "1"], ["--mos_range 5 1", "LOW must be below HIGH"]),
        (["--dataset", "csv", "--data_path", "x", "--mos_range", "3", "3"], ["--mos_range 3 3"]),
        (["--dataset", "csv", "--data_path", "x", "--mos_range", "1", "inf"], ["--mos_range", "'inf'", "finite"]),
        (["--dataset", "livec", "--data_path", "x", "--mos_range", "1", "5"], ["--mos_range", "csv"]),
        (["--split_seed", "1"], ["--split_seed", "--dataset"]),
        (["--split_file", "x.csv"], ["--split_file", "--dataset"]),
        (["--evaluate_set", "all"], ["--evaluate_set all", "--evaluate"]),
        (["--evaluate", "x.pth"], ["--evaluate", "leave out", "--weights", "--patch_size", "--batch_size"]),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_torch_is_loaded(tmp_path, flags, words):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')")
    process = train(*flags, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert process.returncode == 2
    assert_one_line_error(process, *words)


def test_the_command_that_checks_a_folder(tmp_path):
    make_kadid(tmp_path)
    process = run_program(sys.executable, ROOT / "other_datasets.py", "kadid10k", tmp_path, cwd=tmp_path)
    assert process.returncode == 0 and "'training': 21, 'validation': 3, 'test': 6" in process.stdout


# The live view


def test_without_the_package_tensorboard_the_error_says_how_to_install_it(tmp_path):
    (tmp_path / "tensorboard.py").write_text("raise ImportError('as if it were not installed')")
    process = train("--tensorboard", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert process.returncode == 2
    assert_one_line_error(process, "--tensorboard", "pip install tensorboard")


def points_of(folder: Path) -> dict[str, dict[int, float]]:
    """tag -> step -> value, as TensorBoard reads them; a step that is there twice is an error."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    points = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert all(len(dict(values)) == len(values) for values in points.values())
    return {tag: dict(values) for tag, values in points.items()}


@pytest.mark.parametrize("stopped_after", [0, 1, 2, 3])
def test_the_live_view_has_each_epoch_once_wherever_a_run_was_resumed(tmp_path, stopped_after):
    """Two of three epochs were saved; the live view has as many, one less (or none) or one more."""
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    rate = {1: 1e-5, 2: 2e-5, 3: 3e-5}.get
    rows = [{"epoch": epoch, "train_loss": 10.0 / epoch, "val_srcc": None} for epoch in (1, 2, 3)]
    if stopped_after:
        with live_view(tmp_path / "view", [], rate) as show:
            for row in rows[:stopped_after]:
                show({**row, "train_loss": row["train_loss"] + (row["epoch"] == 3)})
    with live_view(tmp_path / "view", rows[:2], rate) as show:
        show(rows[2])
    points = points_of(tmp_path / "view")
    assert points["loss/train"] == pytest.approx({1: 10, 2: 5, 3: 10 / 3})
    assert points["learning_rate"] == pytest.approx({1: 1e-5, 2: 2e-5, 3: 3e-5})
    with live_view(tmp_path / "view", [], rate) as show:  # --overwrite
        show(rows[0])
    assert points_of(tmp_path / "view") == {"loss/train": {1: 10}, "learning_rate": {1: pytest.approx(1e-5)}}


def test_a_run_with_the_live_view(tmp_path, tiny_data):
    pytest.importorskip("tensorboard", reason="the package tensorboard is not installed")
    process = train("--data_path", tiny_data, "--epochs", "1", "--output_dir", "run", "--tensorboard",
                    "--warmup_steps", "4", cwd=tmp_path)  # fmt: skip
    assert process.returncode == 0, process.stderr
    (row,) = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    points = points_of(tmp_path / "run/tensorboard")
    assert points["loss/train"] == {1: pytest.approx(row["train_loss"])}
    assert points["plcc/test"] == {1: pytest.approx(row["test_plcc"])}
    assert points["learning_rate"] == {1: pytest.approx(0.5e-4)}  # 2 steps of 4
