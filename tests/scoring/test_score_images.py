"""Images are scored as the evaluation scores them, by the command line; what cannot be scored is said."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from datetime import date

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, read_rows, run_main, run_program, start_program, write_image

import score_images
from iqa.health import run_health

CONSTANT = run_health(  # of a run that gives all images nearly the same score
    scores=np.linspace(34, 36, 50),
    mos=np.linspace(0, 70, 50),
    mos_range=(0, 100),
    selected_epoch=1,
    history=[],
    select_on="test",
)
ODD_NAMES = ("line\nbreak.png", "<b onclick=alert(1)>'\"&.png", "ümlaut 木.png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


pytestmark = pytest.mark.usefixtures("small_cnn_here")


def score(*arguments, cwd) -> subprocess.CompletedProcess:
    """The command in this process."""
    return run_main("score_images", *arguments, "--device", "cpu", cwd=cwd)


@pytest.fixture(scope="module")
def checkpoint(finished_run):
    return finished_run / "checkpoints/resnet_improved_ms_att_best.pth"


def test_the_test_images_get_the_scores_of_the_evaluation(finished_run, checkpoint, tiny_data, tmp_path):
    expected = read_rows(finished_run / "run/predictions_test.csv")
    paths = [tiny_data / "1024x768" / row["image_name"] for row in expected]
    flags = ("--attention", "--patches", "checkpoint", "--output", "new/scores.csv", "--device", "cpu")
    command = (sys.executable, ROOT / "score_images.py", "--checkpoint", checkpoint, *reversed(paths), *flags)
    process = run_program(*command, cwd=tmp_path)
    assert (process.returncode, process.stderr) == (0, "")
    rows = read_rows(tmp_path / "new/scores.csv")[::-1]
    assert [row["image"] for row in rows] == list(map(str, paths))
    for name in ("score", *(f"attention_stage{i}" for i in (1, 2, 3, 4))):
        found, known = ([float(row[name]) for row in table] for table in (rows, expected))
        assert np.ptp(known) > 5e-5  # else any crop of any image would do
        np.testing.assert_allclose(found, known, rtol=0, atol=5e-6)
    lines = process.stdout.splitlines()
    result = json.loads((finished_run / "run/result.json").read_text())
    known = f"epoch {result['selected_epoch']}: test SRCC {result['selected_test_srcc']:.4f} ({date.today()})"
    assert lines[0] == f"exp3_multiscale_attention, {known}, trained on koniq-10k"
    assert lines[-7].split() == ["score", "stage1", "stage2", "stage3", "stage4", "image"]
    assert float(lines[-6].split()[0].rstrip("*")) == pytest.approx(float(rows[-1]["score"]), abs=0.0051)
    assert lines[-6].endswith(str(paths[-1]))
    assert lines[-2] == "Coverage: 1% of each picture, by 2 patches of 32x32 pixels"
    assert lines[-1] == "Scored 4 of 4 images, 0 unreadable; wrote new/scores.csv"


def test_random_crops_of_the_evaluation_are_reproduced(checkpoint, tiny_data, tmp_path):
    """With --patches checkpoint; without it a note says that the patches are others."""
    saved = torch.load(checkpoint, weights_only=True)
    saved["config"]["flags"]["test_random_crop"] = True
    torch.save(saved, tmp_path / "random.pth")
    flags = ("--set", "test", "--data_path", tiny_data, "--output_dir", "evaluation")
    process = score("--checkpoint", "random.pth", *flags, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    expected = read_rows(tmp_path / "evaluation/predictions_koniq-10k_test.csv")
    paths = [tiny_data / "1024x768" / row["image_name"] for row in expected]
    scores = {}
    for patches in ("checkpoint", "2"):
        flags = ("--patches", patches, "--output", "scores.csv")
        process = score("--checkpoint", "random.pth", *paths, *flags, cwd=tmp_path)
        assert ("evaluated on random crops" in process.stdout) == (patches == "2")
        scores[patches] = [float(row["score"]) for row in read_rows(tmp_path / "scores.csv")]
    expected = [float(row["score"]) for row in expected]
    np.testing.assert_allclose(scores["checkpoint"], expected, rtol=0, atol=5e-6)
    assert not np.allclose(scores["2"], expected, rtol=0, atol=1e-3)


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
    outputs = ("--output", "scores.json", "--report", "scores.html", "--attention")
    images = ("single.jpg", "holiday", "shots/*.png", "./single.jpg")
    command = (sys.executable, ROOT / "score_images.py", "--checkpoint", checkpoint, *images, *outputs)
    process = run_program(*command, cwd=cwd)
    (cwd / "stdout.txt").write_text(process.stdout)
    assert (process.returncode, process.stderr) == (1, "")
    return cwd


def test_files_folders_and_patterns_are_scored_once_each_in_order(album):
    content = json.loads((album / "scores.json").read_text(encoding="utf-8"))
    assert (content["variant"], content["patch_size"], content["patches"]) == ("exp3_multiscale_attention", 32, 2)
    in_folder = ["2.JPG", "day2/10.jpg", "long.png", "truncated.jpg", *ODD_NAMES]
    names = [image["image"] for image in content["images"]]
    assert names == ["single.jpg", *sorted(f"holiday/{name}" for name in in_folder), "shots/a.png", "shots/b.png"]


def test_unreadable_files_get_an_error_and_the_rest_a_score(album):
    images = {image["image"]: image for image in json.loads((album / "scores.json").read_text())["images"]}
    broken = {name for name, image in images.items() if image["error"]}
    assert broken == {"holiday/truncated.jpg", "holiday/long.png"}
    assert "16:1" in images["holiday/long.png"]["error"]
    for name, image in images.items():
        assert (image["score"] is None) == ("attention" not in image) == (name in broken)
    lines = (album / "stdout.txt").read_text().splitlines()
    assert lines[0] == "Note: holiday: skipped hidden files and files without the ending of an image: 1 .jpg, 1 .txt"
    assert sum(line.split()[0] == "error" for line in lines) == 2
    assert sum(line.endswith("line\\nbreak.png") for line in lines) == 1  # a name with a line break takes one line
    assert lines[-1] == "Scored 8 of 10 images, 2 unreadable; wrote scores.json; wrote scores.html"


def test_enough_of_every_picture_is_scored_and_the_coverage_is_stated(album):
    """The evaluation's two patches of 32 pixels cover 1% of a picture of 512x384; 11 x 14 are needed for 80%."""
    images = json.loads((album / "scores.json").read_text())["images"]
    found = {(image["patches"], round(image["coverage"], 3)) for image in images if not image["error"]}
    assert found == {(154, 0.802)}
    stated = (
        "80% of each picture, by 154 patches of 32x32 pixels; the 2 patches of the run's evaluation cover only 1% "
        "(--patches checkpoint uses these)"
    )
    assert f"\nCoverage: {stated}\n" in (album / "stdout.txt").read_text()
    assert html.escape(stated).replace("&#x27;", "&#39;") in (album / "scores.html").read_text()


@pytest.mark.parametrize(
    ("results", "srcc", "warning"),
    [
        (None, "test SRCC unknown, trained on koniq-10k", None),
        ({"selected_test_srcc": 0.8123}, "test SRCC 0.8123 (2026-02-03)", None),
        ({"selected_test_srcc": 0.9, "selected_epoch": 99}, "test SRCC unknown", None),  # of other weights
        ({"selected_test_srcc": 0.333}, "test SRCC 0.3330", "hardly trained (test SRCC 0.33): its scores mean little"),
        ({"selected_test_srcc": None, "failure": "no SRCC in any epoch."}, "test SRCC unknown", "no SRCC in any epoch"),
        ({"selected_test_srcc": 0.9, "health": CONSTANT}, "test SRCC 0.9000", "failed; its scores may be misleading"),
    ],
)
def test_it_says_how_good_the_model_is(checkpoint, tmp_path, results, srcc, warning):
    saved = torch.load(checkpoint, weights_only=True)
    saved = {key: value for key, value in saved.items() if key not in ("results", "date")}
    known = {"results": results, "date": "2026-02-03"} if results else {}
    torch.save(saved | known, tmp_path / "model.pth")
    write_image(tmp_path / "photo.png", 40)
    process = score("--checkpoint", "model.pth", "photo.png", "--report", "page.html", "--patches", "1", cwd=tmp_path)
    for text in (process.stdout, (tmp_path / "page.html").read_text()):
        assert srcc in text and (warning or srcc) in text
        assert ("Warning: " in text or 'class="warning"' in text) == bool(warning)


@pytest.mark.parametrize(
    ("mos_range", "form", "outside"),
    [([0, 1], r"-?\d+\.\d{4}", True), ([1, 5], r"-?\d+\.\d{3}", True), ([-1000, 1000], r"-?\d+\.\d\d", False)],
)
def test_numbers_suit_the_scale_and_scores_outside_it_are_marked(checkpoint, tmp_path, mos_range, form, outside):
    saved = torch.load(checkpoint, weights_only=True)
    saved["config"]["mos_range"] = mos_range
    torch.save(saved, tmp_path / "model.pth")
    write_image(tmp_path / "photo.png", 40)
    process = score("--checkpoint", "model.pth", "photo.png", "--report", "page.html", cwd=tmp_path)
    mark = r"\*" if outside else ""
    assert re.search(rf"^ +{form}{mark} +photo.png$", process.stdout, re.M), process.stdout
    assert ("* outside the MOS scale" in process.stdout) == outside
    page = (tmp_path / "page.html").read_text()
    assert re.search(rf"<b>{form}</b>", page) and ("outside the scale" in page) == outside
    assert f"from {mos_range[0]} (worst) to {mos_range[1]} (best)" in page


def test_the_report_is_one_page_with_every_image_and_nothing_else(album):
    page = (album / "scores.html").read_text(encoding="utf-8")
    images = json.loads((album / "scores.json").read_text())["images"]
    assert page.count("<tr data-image=") == len(images) and page.count('src="data:image/jpeg;base64,') == 8
    assert not re.search(r"https?:|@import|<link|<b onclick", page)
    for image in images:
        shown = f"error: {image['error']}" if image["error"] else f"<b>{image['score']:.2f}</b>"
        assert shown in html.unescape(page)
        assert image["image"].replace("\n", "\\n") in html.unescape(page)


def test_the_report_names_the_common_folder_once(checkpoint, tmp_path):
    folder = tmp_path / "a/b c"
    for name in ("x.png", "deep/y.png"):
        write_image(folder / name, 40)
    score("--checkpoint", checkpoint, folder, "--report", "page.html", "--patches", "1", cwd=tmp_path)
    page = re.sub("<script>.*</script>", "", (tmp_path / "page.html").read_text(), flags=re.S)
    assert page.count(f"<dd>{folder}/</dd>") == 1
    assert sorted(re.findall('<th scope="row">(.*)</th>', page)) == ["deep/y.png", "x.png"]


def test_the_report_reads_best_first_without_its_script(album):
    page = (album / "scores.html").read_text(encoding="utf-8")
    scores = re.findall(r'<tr data-image="[^"]*" data-score="([^"]*)"', page)
    assert list(map(float, scores[:8])) == sorted(map(float, scores[:8]), reverse=True) and scores[8:] == ["", ""]
    assert 'data-order="descending" aria-pressed="true">Best first' in page


def test_every_picture_carries_the_scores_of_its_patches_and_where_they_lie(checkpoint, album, tmp_path):
    process = score("--checkpoint", checkpoint, album, "--report", "page.html", "--patches", "2", cwd=tmp_path)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    rows = re.findall(r'data-score="([^"]+)" data-patches="([^"]+)"', page)
    assert len(rows) == 8 and page.count('class="picture" aria-label="Patch scores of ') == 8, process.stderr
    for score_, patches in rows:
        (width, height, size), *places = [list(map(float, group.split())) for group in patches.split(";")]
        assert (width, height, size) == (512, 384, 32) and len(places) == 2
        assert [place[:2] for place in places] == [[0, 176], [480, 176]]  # one row of two, from edge to edge
        assert np.mean([place[2] for place in places]) == pytest.approx(float(score_), abs=0.011)
    low, high = map(float, re.search(r'data-low="([^"]+)" data-high="([^"]+)"', page).groups())
    everything = [float(group.split()[2]) for _, patches in rows for group in patches.split(";")[1:]]
    assert [low, high] == pytest.approx(np.percentile(everything, (5, 95)), abs=0.011)


def test_the_script_of_the_report_is_a_script(album, tmp_path):
    if not shutil.which("node"):
        pytest.skip("no node here")
    page = (album / "scores.html").read_text(encoding="utf-8")
    (tmp_path / "script.js").write_text(re.search("<script>(.*)</script>", page, re.S)[1])
    done = subprocess.run(["node", "--check", tmp_path / "script.js"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


HARNESS = """<!DOCTYPE html><meta charset="utf-8">
<iframe src="scores.html" width="WIDTH" height="800"></iframe><pre></pre>
<script>
addEventListener("load", () => {
  const frame = document.querySelector("iframe").contentWindow, page = frame.document;
  const all = selector => [...page.querySelectorAll(selector)];
  SCRIPT
});
</script>"""


@pytest.fixture(scope="session")
def browse(tmp_path_factory):
    """URL -> the page after its scripts ran, by a headless browser that can read files here, or a skipped test."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    profile = tmp_path_factory.mktemp("browser")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files")

    def browse(url):
        command = [program, *flags, f"--user-data-dir={profile}", "--dump-dom", url]
        return subprocess.run(command, capture_output=True, timeout=120).stdout.decode()

    (profile / "probe.html").write_text("<script>document.title = 6 * 7</script>")
    if "<title>42</title>" not in browse((profile / "probe.html").as_uri()):
        pytest.skip(f"{program} does not open a file headless here")
    return browse


def run_script(browse, folder, script: str, width: int = 1280):
    """What a script that drives folder/scores.html returns."""
    script = f'document.querySelector("pre").textContent = JSON.stringify((() => {{ {script} }})());'
    (folder / "harness.html").write_text(HARNESS.replace("SCRIPT", script).replace("WIDTH", str(width)))
    dump = re.search("<pre>(.*)</pre>", browse((folder / "harness.html").as_uri())).group(1)
    return json.loads(html.unescape(dump))


def test_the_report_sorts_in_a_browser(album, browse):
    script = """
      const state = () => all("tbody tr").map(row => row.dataset.image);
      const pressed = () => all(".orders [aria-pressed=true]").map(button => button.textContent);
      const seen = [[state(), pressed()]];
      for (const button of all(".orders button")) { button.click(); seen.push([state(), pressed()]); }
      const widths = all("img[src]").map(image => image.naturalWidth);
      return {seen, widths, padding: frame.getComputedStyle(page.body).padding, bold: all("b[onclick]").length};"""
    found = run_script(browse, album, script)
    images = json.loads((album / "scores.json").read_text())["images"]
    scores = {image["image"].replace("\n", "\\n"): image["score"] for image in images}
    upward = sorted((name for name in scores if scores[name] is not None), key=scores.get)
    orders, pressed = zip(*found["seen"], strict=True)
    assert list(pressed) == [["Best first"], ["Best first"], ["Worst first"], ["By name"]]
    for order, expected in zip(orders[:3], (upward[::-1], upward[::-1], upward), strict=True):
        assert order[:8] == expected and scores[order[8]] is None
    assert sorted(orders[3]) == sorted(scores)
    assert orders[3].index("holiday/2.JPG") < orders[3].index("holiday/day2/10.jpg")
    assert found["padding"] != "0px" and found["bold"] == 0
    assert len(found["widths"]) == 8 and min(found["widths"]) > 0  # the policy lets style and pictures through


def test_a_picture_opens_with_its_heat_map(checkpoint, album, browse, tmp_path):
    outputs = ("--report", "scores.html", "--output", "scores.json", "--patches", "2")
    score("--checkpoint", checkpoint, album, *outputs, cwd=tmp_path)
    script = """
      page.querySelector(".picture").click();
      const viewer = page.querySelector("dialog"), text = name => viewer.querySelector("." + name).textContent;
      const cells = () => [...viewer.querySelectorAll("rect")].map(
        cell => [..."x y width height fill".split(" ").map(key => cell.getAttribute(key)), cell.textContent]);
      const found = {first: text("name"), open: viewer.open, cells: cells(), about: text("about")};
      viewer.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight", bubbles: true}));
      found.second = text("name");
      viewer.querySelector(".own").click();
      found.own = [text("low"), text("high"), cells().map(cell => cell[4])];
      viewer.querySelector(".heat").click();
      found.bare = cells().length;
      return found;"""
    found = run_script(browse, tmp_path, script)
    images = [image for image in json.loads((tmp_path / "scores.json").read_text())["images"] if not image["error"]]
    best, second = sorted(images, key=lambda image: -image["score"])[:2]
    for image, name in ((best, found["first"]), (second, found["second"])):
        assert name and image["image"].endswith(name)
    places = [["0", "176", "32", "32"], ["480", "176", "32", "32"]]
    assert found["open"] and [cell[:4] for cell in found["cells"]] == places
    assert all(cell[5].endswith("the mean of 1 patch") for cell in found["cells"])
    assert found["about"].startswith(f"Score {best['score']:.2f}, the mean of 2 patches from ")
    low, high, colours = found["own"]
    assert set(colours) == {"rgb(68, 1, 84)", "rgb(253, 231, 37)"} and float(low) < float(high)
    assert found["bare"] == 0


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_fits_the_window(checkpoint, browse, tmp_path, width):
    """Long paths and names wrap, and no picture or number lies on another."""
    folder = tmp_path / "a_folder_with_a_long_name_and_no_place_to_break_it_in_two" / ("deep" * 20)
    for name in ("a" * 100 + ".png", "b.png", "c.png"):
        write_image(folder / name, 40, (90, 60))
    (folder / "c.png").write_bytes(b"no image")
    write_image(folder / "wide.png", 40, (400, 50))
    score("--checkpoint", checkpoint, folder, "--report", "scores.html", "--attention", cwd=tmp_path)
    script = """
      const root = page.documentElement, sizes = [[root.scrollWidth, frame.innerWidth]];
      const boxes = all("tbody tr").flatMap(row => {
        const parts = [...row.querySelectorAll("img, th, b, td.number")].map(part => part.getBoundingClientRect());
        return parts.flatMap((one, i) => parts.slice(i + 1).map(two =>
          Math.min(one.right, two.right) - Math.max(one.left, two.left) > 1 &&
          Math.min(one.bottom, two.bottom) - Math.max(one.top, two.top) > 1));
      });
      page.querySelector(".picture").click();
      const dialog = page.querySelector("dialog");
      sizes.push([root.scrollWidth, frame.innerWidth], [dialog.scrollWidth, dialog.clientWidth]);
      return {sizes, overlaps: boxes.filter(Boolean).length};"""
    found = run_script(browse, tmp_path, script, width)
    assert found["sizes"][0][1] == width
    assert all(scroll <= inner for scroll, inner in found["sizes"]), found["sizes"]
    assert found["overlaps"] == 0


def test_a_link_to_the_report_can_name_the_order(album, browse):
    dump = browse((album / "scores.html").as_uri() + "#score-ascending")
    scores = [float(text) for text in re.findall('data-score="([^"]+)"', dump)]
    assert len(scores) == 8 and scores == sorted(scores)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photo.jpg", "--patches", "0"], ["--patches", "'0'", "checkpoint"]),
        (["photo.jpg", "--patches", "10001"], ["--patches", "'10001'", "10000"]),
        (["photo.jpg", "--batch_size", "0"], ["--batch_size", "'0'"]),
        (["photo.jpg", "--precision", "fp16"], ["--precision", "fp16"]),
        (["photo.jpg", "--output", "scores.txt"], ["--output", "scores.txt", ".csv or .json"]),
        (["photo.jpg", "--report", "scores"], ["--report", ".html"]),
        (["photo.jpg", "--attn"], ["--attn"]),
        (["photo.jpg", "missing.jpg"], ["missing.jpg", "no such file"]),
        (["shots/*.png"], ["shots/*.png", "no file matches"]),
        (["empty"], ["empty", "contains no image", ".jpg"]),
        (["photo.jpg", "--output", "photo.jpg/scores.csv"], ["--output photo.jpg/scores.csv", "cannot be written"]),
        (["photo.jpg", "--report", "folder.html"], ["--report folder.html", "is a folder"]),
        (["photo.jpg", "--output", "x" * 250 + ".csv"], ["--output xxx", "cannot be written (File name too long)"]),
        (["photo.jpg", "--report", "x" * 300 + ".html"], ["--report xxx", "cannot be written (File name too long)"]),
        (["--set", "all", "--report", "scores.html"], ["--report", "not for a labelled data set"]),
        (["--set", "all", "photo.jpg"], ["--set", "leave it out, or the images"]),
        (["--set", "train"], ["--set", "train"]),
        (["--data_path", "x", "--split_seed", "1"], ["--split_seed", "--dataset"]),
        ([], ["IMAGE", "--data_path"]),
    ],
)
def test_a_mistake_is_one_line_before_the_work(tmp_path, monkeypatch, arguments, words):
    monkeypatch.setattr(score_images, "run", None)
    monkeypatch.setattr(score_images, "evaluate", None)
    (tmp_path / "photo.jpg").touch()
    for folder in ("empty", "folder.html"):
        (tmp_path / folder).mkdir()
    (tmp_path / "empty/notes.txt").touch()
    assert_one_line_error(score("--checkpoint", "x.pth", *arguments, cwd=tmp_path), *words)


def test_ctrl_c_is_one_line_and_leaves_no_file(checkpoint, tmp_path):
    write_image(tmp_path / "many/0.jpg", 50)
    for i in range(1, 5000):
        os.link(tmp_path / "many/0.jpg", tmp_path / f"many/{i}.jpg")
    flags = "many --batch_size 2 --device cpu --output scores.csv".split()
    process = start_program(sys.executable, ROOT / "score_images.py", "--checkpoint", checkpoint, *flags, cwd=tmp_path)
    while "many/" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.startswith("Stopped by SIGINT") and errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many"]
