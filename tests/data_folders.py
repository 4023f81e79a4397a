"""Small folders in the layouts of the data sets, and the check of a folder."""

import csv
from pathlib import Path

import numpy as np
import scipy.io
from conftest import ROOT, assert_one_line_error, run_main, write_image

PHOTOS = [(f"holiday/{i}.png" if i % 2 else f"{i}.jpg", round(1 + 4 * (i * 7 % 20) / 19, 2)) for i in range(20)]
LIVE_FOLDERS = {"jp2k": 227, "jpeg": 233, "wn": 174, "gblur": 174, "fastfading": 174}
CSIQ_FOLDERS = {name: name.lower() for name in "AWGN BLUR contrast fnoise JPEG jpeg2000".split()}


def check_folder(*arguments, cwd: Path = ROOT):
    """python3 data_loader.py, by its main function in this process."""
    return run_main("iqa.data.check", *arguments, cwd=cwd)


def assert_refused(folder: Path, dataset: str, *words: str) -> None:
    """The check of a folder fails with one line, which contains the words."""
    process = check_folder(folder, "--dataset", dataset)
    assert process.returncode == 1 and process.stdout == ""
    assert_one_line_error(process, *words)


def names_of(data) -> dict[str, set[str]]:
    return {name: set(images.names) for name, images in data.sets.items()}


def mos_of(data) -> dict[str, float]:
    return {name: mos for images in data.sets.values() for name, mos in zip(images.names, images.mos, strict=True)}


def paths_of(data) -> dict[str, Path]:
    return {name: path for images in data.sets.values() for name, path in zip(images.names, images.paths, strict=True)}


def write_rows(path: Path, *rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def write_lines(path: Path, *rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(" ".join(map(str, row)) + "\n" for row in rows))


def touch(folder: Path, names) -> None:
    """Empty files; a data set opens no image before it is decoded."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def cell_array(values) -> np.ndarray:
    cells = np.empty((1, len(values)), object)
    cells[0, :] = values
    return cells


def make_csv(root: Path, splits=None, **changes) -> Path:
    """Twenty photographs on a 1-5 scale; `changes` replace cells of the third row, which is line 4."""
    header = ["image", "mos", "split"][: 3 if splits else 2]
    sets = [splits[i % len(splits)] if splits else "" for i in range(len(PHOTOS))]
    rows = [dict(zip(header, (*photo, name), strict=False)) for photo, name in zip(PHOTOS, sets, strict=True)]
    for name, mos in PHOTOS:
        write_image(root / name, 25 * (mos - 1))
    rows[2] |= changes
    write_rows(root / "labels.csv", header, *(row.values() for row in rows))
    return root


def make_livec(root: Path, **variables) -> Path:
    names = [f"t{i}.bmp" for i in range(1, 8)] + [f"{i}.bmp" for i in range(1, 11)]
    mos = [99.0] * 7 + [3.42 + 7.9 * (i * 3 % 10) for i in range(10)]
    for name, value in zip(names, mos, strict=True):
        write_image(root / "Images" / ("trainingImages" if name[0] == "t" else ".") / name, value)
    variables = {"AllImages_release": cell_array(names).T, "AllMOS_release": np.array([mos]), **variables}
    (root / "Data").mkdir(exist_ok=True)
    for name, value in variables.items():
        scipy.io.savemat(root / f"Data/{name}.mat", {name: value})
    return root


def make_kadid(root: Path) -> Path:
    images = [(f"I{s:02d}_{d:02d}_01.png", f"I{s:02d}.png") for s in range(1, 11) for d in (1, 2, 3)]
    for name, _ in images:
        write_image(root / "images" / name, 50)
    rows = [(name, scene, round(1 + i % 5 * 0.97, 2), 0.8) for i, (name, scene) in enumerate(images)]
    write_rows(root / "dmos.csv", ("dist_img", "ref_img", "dmos", "var"), *rows)
    return root


def make_biq2021(root: Path) -> Path:
    """As released: one table has two empty columns, and one name differs from its file in the case of its ending."""
    names = [f"ss{1 + i % 3:02d} ({i + 1}).jpg" for i in range(50)]
    rows = [(name, round((i * 7 % 50) / 49, 4)) for i, name in enumerate(names)]
    wide_rows = [(*row, "", "") for row in rows[:40]]
    write_rows(root / "Train (Images and MOS).csv", ("Image Name", "MOS", "", ""), *wide_rows)
    write_rows(root / "Test (Images and MOS).csv", ("Image Name", "MOS"), *rows[40:])
    touch(root / "Images", [names[0].replace(".jpg", ".JPG"), *names[1:]])
    return root


def make_bid(root: Path, numbers=range(1, 21), folder="ImageDatabase") -> Path:
    rows = [(number, i * 4.9 / len(numbers), 0.7) for i, number in enumerate(numbers)]
    write_rows(root / "DatabaseGrades.csv", ("Image Number", "Average Subjective Grade", "std"), *rows, ("", "", ""))
    touch(root / folder, [f"DatabaseImage{int(float(number)):04d}.JPG" for number in numbers])
    return root


def make_spaq(root: Path) -> Path:
    names = [f"{i:05d}.jpg" for i in range(1, 21)]
    rows = [(name, 2 + 90 * i / 20, 50) for i, name in enumerate(names)]
    write_rows(root / "Annotations/MOS and Image attribute scores.csv", ("Image name", "MOS", "Brightness"), *rows)
    touch(root / "TestImage", names)
    return root


def make_agiqa3k(root: Path, folder="AGIQA-3K") -> Path:
    rows = [
        (f"{model}_normal_{i:03d}.jpg", f"a statue, number {i}", "", "", "", (i + j) / 4, 0.2, 5 - i / 4, 0.6)
        for i in range(10)
        for j, model in enumerate(("AttnGAN", "glide", "sd1.5"))
    ]
    header = ("name", "prompt", "adj1", "adj2", "style", "mos_quality", "std_quality", "mos_align", "std_align")
    write_rows(root / "data.csv", header, *rows)
    touch(root / folder, [row[0] for row in rows])
    return root


def make_tid2013(root: Path, worse=1) -> Path:
    """As in the release, the case of names differs between the list and the disk."""
    names = [f"i{s:02d}_{d:02d}_{level}.bmp" for s in range(1, 11) for d in (1, 2) for level in (1, 2, 3, 4, 5)]
    rows = [
        (f"{4 - worse * 0.5 * (int(name[-5]) - 3) + i / 1000:.5f}", name.capitalize() if i % 3 == 0 else name)
        for i, name in enumerate(names)
    ]
    write_lines(root / "mos_with_names.txt", *rows)
    touch(root / "distorted_images", [name.upper() if i % 2 else name for i, name in enumerate(names)])
    return root


def make_csiq(root: Path, worse=1, folders=None) -> Path:
    names = [f"{s}.{d}.{level}.png" for s in range(1600, 1610) for d in CSIQ_FOLDERS for level in range(1, 6)]
    rows = [(name, f"{0.5 + worse * 0.2 * (int(name[-5]) - 3) + i / 1e5:.6f}") for i, name in enumerate(names)]
    write_lines(root / "csiq_label.txt", *rows)
    folders = folders or {d: f"dst_imgs/{folder}" for d, folder in CSIQ_FOLDERS.items()}
    touch(root, [f"{folders[name.split('.')[1]]}/{name}" for name in names])
    return root


def make_live(root: Path, **changes) -> Path:
    """982 images, of which every fifth is undistorted; `changes` replace variables of the MATLAB files."""
    names = [f"{folder}/img{i + 1}.bmp" for folder, count in LIVE_FOLDERS.items() for i in range(count)]
    undistorted = np.array([i % 5 == 0 for i in range(982)], np.uint8)
    dmos = np.where(undistorted, 0, 18 + np.arange(982) % 60 + 0.25)
    dmos_file = {"dmos_new": dmos[None], "orgs": undistorted[None]}
    references = {"refnames_all": cell_array([f"reference{i % 29}.bmp" for i in range(982)])}
    for file, variables in (("dmos_realigned.mat", dmos_file), ("refnames_all.mat", references)):
        root.mkdir(exist_ok=True)
        scipy.io.savemat(root / file, {key: changes.get(key, value) for key, value in variables.items()})
    if not changes:  # else the labels are refused first
        touch(root, names)
    return root


MAKERS = {
    "csv": make_csv,
    "livec": make_livec,
    "biq2021": make_biq2021,
    "bid": make_bid,
    "spaq": make_spaq,
    "agiqa3k": make_agiqa3k,
    "kadid10k": make_kadid,
    "tid2013": make_tid2013,
    "live": make_live,
    "csiq": make_csiq,
}
