"""Images are scored as the evaluation scores them, by the command line; what cannot be scored is said."""

import csv
import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT, assert_one_line_error, run_program, start_program, write_image

ODD_NAMES = ("line\nbreak.png", "<b onclick=alert(1)>'\"&.png", "ümlaut 木.png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def score(*arguments, cwd, **environment) -> subprocess.CompletedProcess:
    return run_program(sys.executable, ROOT / "score_images.py", *arguments, cwd=cwd, **environment)


def read_csv(path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def checkpoint(finished_run):
    return finished_run / "checkpoints/resnet_improved_ms_att_best.pth"


def test_the_test_images_get_the_scores_of_the_evaluation(finished_run, checkpoint, tiny_data, tmp_path):
    expected = read_csv(finished_run / "run/predictions_test.csv")
    paths = [tiny_data / "1024x768" / row["image_name"] for row in expected]
    process = score(
        "--checkpoint",
        checkpoint,
        *reversed(paths),
        "--attention",
        "--output",
        "new/scores.csv",
        "--device",
        "cpu",
        cwd=tmp_path,
    )
    assert (process.returncode, process.stderr) == (0, "")
    rows = read_csv(tmp_path / "new/scores.csv")[::-1]
    assert [row["image"] for row in rows] == list(map(str, paths))
    for name in ("score", *(f"attention_stage{i}" for i in (1, 2, 3, 4))):
        found, known = ([float(row[name]) for row in table] for table in (rows, expected))
        assert np.ptp(known) > 5e-5  # else any crop of any image would do
        np.testing.assert_allclose(found, known, rtol=0, atol=5e-6)
    lines = process.stdout.splitlines()
    assert lines[0].startswith("exp3_multiscale_attention, epoch ") and "2 patches of 32x32 pixels" in lines[0]
    assert lines[0].endswith("on the MOS scale 0-100, cpu, fp32")
    assert lines[1].split() == ["score", "stage1", "stage2", "stage3", "stage4", "image"]
    assert lines[2].split()[0] == f"{float(rows[-1]['score']):.2f}" and lines[2].endswith(str(paths[-1]))
    assert lines[-1] == "Scored 4 of 4 images, 0 unreadable; wrote new/scores.csv"


@pytest.fixture(scope="module")
def album(checkpoint, tmp_path_factory):
    """A folder of images, some odd and some broken, that was scored with every kind of argument and output."""
    cwd = tmp_path_factory.mktemp("album")
    for i, name in enumerate(["single.jpg", "holiday/day2/10.jpg", "holiday/2.JPG", "shots/a.png", "shots/b.png"]):
        write_image(cwd / name, 20 * i, (80, 60))
    for name in ODD_NAMES:
        write_image(cwd / "holiday" / name, 50)
    whole = (cwd / "single.jpg").read_bytes()
    (cwd / "holiday/truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (cwd / "holiday/._2.JPG").write_bytes(b"no image")
    (cwd / "holiday/notes.txt").write_text("no image")
    write_image(cwd / "holiday/long.png", 50, (1700, 100))
    process = score(
        "--checkpoint",
        checkpoint,
        "single.jpg",
        "holiday",
        "shots/*.png",
        "./single.jpg",
        "--output",
        "scores.json",
        "--report",
        "scores.html",
        "--attention",
        cwd=cwd,
    )
    (cwd / "stdout.txt").write_text(process.stdout)
    assert (process.returncode, process.stderr) == (1, "")
    return cwd


def test_files_folders_and_patterns_are_scored_once_each_in_order(album):
    content = json.loads((album / "scores.json").read_text(encoding="utf-8"))
    assert (content["variant"], content["patch_size"], content["patches"]) == ("exp3_multiscale_attention", 32, 2)
    in_folder = sorted(
        [
            "holiday/2.JPG",
            "holiday/day2/10.jpg",
            "holiday/long.png",
            "holiday/truncated.jpg",
            *(f"holiday/{name}" for name in ODD_NAMES),
        ]
    )
    names = [image["image"] for image in content["images"]]
    assert names == ["single.jpg", *in_folder, "shots/a.png", "shots/b.png"]


def test_unreadable_files_get_an_error_and_the_rest_a_score(album):
    images = {image["image"]: image for image in json.loads((album / "scores.json").read_text())["images"]}
    broken = {name for name, image in images.items() if image["error"]}
    assert broken == {"holiday/truncated.jpg", "holiday/long.png"}
    assert "16:1" in images["holiday/long.png"]["error"]
    for name, image in images.items():
        assert (image["score"] is None) == ("attention" not in image) == (name in broken)
    lines = (album / "stdout.txt").read_text().splitlines()
    assert lines[0] == "Note: holiday: left out what does not end like an image, or is hidden: 1 .jpg, 1 .txt"
    assert len(lines) == 3 + len(images) + 1  # a name with a line break takes one line
    assert sum(line.split()[0] == "error" for line in lines) == 2
    assert lines[-1] == "Scored 8 of 10 images, 2 unreadable; wrote scores.json; wrote scores.html"


def test_the_report_is_one_page_with_every_image_and_nothing_else(album):
    page = (album / "scores.html").read_text(encoding="utf-8")
    images = json.loads((album / "scores.json").read_text())["images"]
    assert page.count("<tr data-image=") == len(images) and page.count('src="data:image/jpeg;base64,') == 8
    assert not re.search(r"https?:|@import|<link|<b onclick", page)
    for image in images:
        shown = "error: " + html.escape(image["error"]) if image["error"] else f">{image['score']:.2f}<"
        assert shown in page
        assert html.escape(image["image"].replace("\n", "\\n")) in page


def test_the_report_reads_best_first_without_its_script(album):
    page = (album / "scores.html").read_text(encoding="utf-8")
    scores = re.findall(r'<tr data-image="[^"]*" data-score="([^"]*)"', page)
    assert list(map(float, scores[:8])) == sorted(map(float, scores[:8]), reverse=True) and scores[8:] == ["", ""]
    assert (
        'aria-sort="descending" data-key="score"' in page
        and 'data-order="descending" aria-pressed="true">Best first' in page
    )


def test_every_picture_carries_the_scores_of_its_patches_and_where_they_lie(album):
    page = (album / "scores.html").read_text(encoding="utf-8")
    rows = re.findall(r'data-score="([^"]+)" data-patches="([^"]+)"', page)
    assert len(rows) == 8 and page.count('class="picture" aria-label="Patch scores of ') == 8
    for score, patches in rows:
        (width, height, size), *places = [list(map(float, group.split())) for group in patches.split(";")]
        assert (width, height, size) == (512, 384, 32) and len(places) == 2
        assert [place[:2] for place in places] == [[0, 176], [480, 176]]  # one row of two, from edge to edge
        assert np.mean([place[2] for place in places]) == pytest.approx(float(score), abs=0.011)
    low, high = map(float, re.search(r'data-low="([^"]+)" data-high="([^"]+)"', page).groups())
    everything = [float(group.split()[2]) for _, patches in rows for group in patches.split(";")[1:]]
    assert [low, high] == pytest.approx(np.percentile(everything, (5, 95)), abs=0.011)
    assert page.count("Scores are on the MOS scale 0–100; higher is better.") == 2  # over the table and the heat map


def test_the_script_of_the_report_is_a_script(album, tmp_path):
    if not shutil.which("node"):
        pytest.skip("no node here")
    page = (album / "scores.html").read_text(encoding="utf-8")
    (tmp_path / "script.js").write_text(re.search("<script>(.*)</script>", page, re.S)[1])
    done = subprocess.run(["node", "--check", tmp_path / "script.js"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


HARNESS = """<!DOCTYPE html><meta charset="utf-8"><iframe src="scores.html"></iframe><pre></pre>
<script>
addEventListener("load", () => {
  const page = document.querySelector("iframe").contentDocument;
  const heads = () => [...page.querySelectorAll("th[data-key]")].map(head => head.ariaSort);
  const rows = () => [...page.querySelectorAll("tbody tr")].map(row => row.dataset.image);
  const seen = [[heads(), rows()]];
  for (const key of ["score", "score", "image", "image"]) {
    page.querySelector(`th[data-key=${key}] button`).click();
    seen.push([heads(), rows()]);
  }
  page.querySelector(".orders button").click();
  seen.push([heads(), rows()]);
  page.querySelector(".picture").click();
  const viewer = page.querySelector("dialog"), name = () => viewer.querySelector(".name").textContent;
  const press = key => viewer.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
  const cells = () => [...viewer.querySelectorAll("rect")].map(
    cell => [..."x y width height fill".split(" ").map(key => cell.getAttribute(key)), cell.textContent]);
  const maps = {first: name(), open: viewer.open, cells: cells(), about: viewer.querySelector(".about").textContent};
  press("ArrowRight");
  maps.second = name();
  viewer.querySelector(".own").click();
  maps.own = [viewer.querySelector(".low").textContent, viewer.querySelector(".high").textContent, cells()];
  viewer.querySelector(".heat").click();
  maps.bare = cells().length;
  const widths = [...page.images].map(image => image.naturalWidth);
  const styled = getComputedStyle(page.querySelector("table")).borderCollapse;
  const bold = page.querySelectorAll("b").length;
  document.querySelector("pre").textContent = JSON.stringify({seen, widths, styled, bold, maps});
});
</script>"""


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """URL -> the page after its scripts ran, by a headless browser that can read files here, or a skipped test."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    profile = tmp_path_factory.mktemp("browser")

    def browse(url):
        command = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--allow-file-access-from-files",
            f"--user-data-dir={profile}",
            "--dump-dom",
            url,
        ]
        return subprocess.run(command, capture_output=True, timeout=120).stdout.decode()

    (profile / "probe.html").write_text("<script>document.title = 6 * 7</script>")
    if "<title>42</title>" not in browse((profile / "probe.html").as_uri()):
        pytest.skip(f"{program} does not open a file headless here")
    return browse


def test_the_report_sorts_in_a_browser(album, browse):
    (album / "harness.html").write_text(HARNESS)
    dump = re.search("<pre>(.*)</pre>", browse((album / "harness.html").as_uri())).group(1)
    found = json.loads(html.unescape(dump))
    images = json.loads((album / "scores.json").read_text())["images"]
    given = [image["image"].replace("\n", "\\n") for image in images]
    scores = {name: image["score"] for name, image in zip(given, images, strict=True)}
    readable, broken = ([name for name in given if (scores[name] is None) == is_broken] for is_broken in (False, True))
    upward = sorted(readable, key=scores.get)
    orders = [order for _, order in found["seen"]]
    assert [heads for heads, _ in found["seen"]] == [
        ["none", "descending"],
        ["none", "ascending"],
        ["none", "descending"],
        ["ascending", "none"],
        ["descending", "none"],
        ["none", "descending"],
    ]
    assert [orders[0][:8], orders[1][:8], orders[2][:8], orders[5][:8]] == [
        upward[::-1],
        upward,
        upward[::-1],
        upward[::-1],
    ]
    assert set(orders[0][8:]) == set(orders[1][8:]) == set(broken)
    assert sorted(orders[3]) == sorted(given) and orders[3] == orders[4][::-1]
    assert orders[3].index("holiday/2.JPG") < orders[3].index("holiday/day2/10.jpg")
    assert found["styled"] == "collapse" and found["bold"] == 0
    assert len(found["widths"]) == 9 and min(found["widths"]) > 0  # the policy lets style and pictures through
    maps = found["maps"]
    assert maps["open"] and [maps["first"], maps["second"]] == upward[:-3:-1] and maps["bare"] == 0
    assert [cell[:4] for cell in maps["cells"]] == [["0", "176", "32", "32"], ["480", "176", "32", "32"]]
    assert all(cell[5].endswith("the mean of 1 patch") for cell in maps["cells"])
    assert maps["about"].startswith(f"Score {scores[upward[-1]]:.2f}, the mean of 2 patches from ")
    low, high, cells = maps["own"]
    assert {cell[4] for cell in cells} == {"rgb(68, 1, 84)", "rgb(253, 231, 37)"} and float(low) < float(high)


def test_a_link_to_the_report_can_name_the_order(album, browse):
    dump = browse((album / "scores.html").as_uri() + "#score-ascending")
    scores = [float(text) for text in re.findall('data-score="([^"]+)"', dump)]
    assert len(scores) == 8 and scores == sorted(scores)


def test_a_truncated_checkpoint_is_one_line(checkpoint, tmp_path):
    with open(checkpoint, "rb") as whole:
        (tmp_path / "half.pth").write_bytes(whole.read(1_000_000))
    write_image(tmp_path / "photo.png", 40)
    process = score("--checkpoint", "half.pth", "photo.png", "--output", "scores.csv", cwd=tmp_path)
    assert_one_line_error(process, "half.pth", "damaged")
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["IMAGE"]),
        (["photo.jpg", "--batch_size", "0"], ["--batch_size", "'0'"]),
        (["photo.jpg", "--precision", "fp16"], ["--precision", "fp16"]),
        (["photo.jpg", "--output", "scores.txt"], ["--output", "scores.txt", ".csv or .json"]),
        (["photo.jpg", "--report", "scores"], ["--report", ".html"]),
        (["photo.jpg", "--attn"], ["--attn"]),
        (["photo.jpg", "missing.jpg"], ["missing.jpg", "no such file"]),
        (["shots/*.png"], ["shots/*.png", "no file matches"]),
        (["empty"], ["empty", "holds no image", ".jpg"]),
        (["photo.jpg", "--output", "photo.jpg/scores.csv"], ["--output photo.jpg/scores.csv", "cannot be written"]),
        (["photo.jpg", "--report", "folder.html"], ["--report folder.html", "is a folder"]),
    ],
)
def test_a_mistake_is_one_line_before_torch_is_loaded(tmp_path, arguments, words):
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was loaded')")
    (tmp_path / "photo.jpg").touch()
    for folder in ("empty", "folder.html"):
        (tmp_path / folder).mkdir()
    (tmp_path / "empty/notes.txt").touch()
    assert_one_line_error(score("--checkpoint", "x.pth", *arguments, cwd=tmp_path, PYTHONPATH=str(tmp_path)), *words)


def test_ctrl_c_is_one_line_and_leaves_no_file(checkpoint, tmp_path):
    write_image(tmp_path / "many/0.jpg", 50)
    for i in range(1, 5000):
        os.link(tmp_path / "many/0.jpg", tmp_path / f"many/{i}.jpg")
    command = [
        sys.executable,
        ROOT / "score_images.py",
        "--checkpoint",
        checkpoint,
        "many",
        "--batch_size",
        "2",
        "--device",
        "cpu",
        "--output",
        "scores.csv",
    ]
    process = start_program(*command, cwd=tmp_path)
    while "many/" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.startswith("Stopped by SIGINT") and errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many"]
