"""Images are scored as the evaluation scores them, by the command line and from Python; what cannot be is said."""

import csv
import html
import io
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, assert_one_line_error, run_program, write_image
from PIL import Image

from iqa.data.images import cpu_count
from iqa.training.checkpoints import save_checkpoint
from models_resnet_improved import ImageQualityResNet
from score_images import build_parser, load_scorer, run
from score_images import score as score_rows

BEST = "checkpoints/resnet_improved_ms_att_best.pth"
ODD_NAMES = ("line\nbreak.png", "<b onclick=alert(1)>'\"&.png", "ümlaut 木.png")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def score(*arguments, cwd, **environment) -> subprocess.CompletedProcess:
    return run_program(sys.executable, ROOT / "score_images.py", *arguments, cwd=cwd, **environment)


def read_csv(path) -> list[dict]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def checkpoint(finished_run, tmp_path_factory):
    """The run's weights with a larger last layer: two epochs leave scores that differ in the fourth decimal only."""
    saved = torch.load(finished_run / BEST, weights_only=True)
    saved["model"]["hyper_net.last_weight.weight"] *= 1000
    path = tmp_path_factory.mktemp("checkpoint") / "lively_best.pth"
    save_checkpoint(path, saved)
    return path


@pytest.fixture(scope="module")
def scorer(checkpoint):
    return load_scorer(checkpoint, device="cpu")


@pytest.fixture
def photos(tmp_path):
    """Five images of other sizes and aspects than the training's."""
    sizes = [(64, 48), (48, 64), (300, 40), (1, 1), (700, 500)]
    paths = [tmp_path / f"photo{i}.png" for i in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        write_image(path, 40, size)
    return paths


def test_the_test_images_get_the_scores_of_the_evaluation(finished_run, tiny_data, tmp_path):
    expected = read_csv(finished_run / "run/predictions_test.csv")
    paths = [tiny_data / "1024x768" / row["image_name"] for row in expected]
    process = score("--checkpoint", finished_run / BEST, *reversed(paths), "--attention", "--output", "new/scores.csv",
                    "--device", "cpu", cwd=tmp_path)  # fmt: skip
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
    process = score("--checkpoint", checkpoint, "single.jpg", "holiday", "shots/*.png", "./single.jpg", "--output",
                    "scores.json", "--report", "scores.html", "--attention", cwd=cwd)  # fmt: skip
    (cwd / "stdout.txt").write_text(process.stdout)
    assert (process.returncode, process.stderr) == (1, "")
    return cwd


def test_files_folders_and_patterns_are_scored_once_each_in_order(album):
    content = json.loads((album / "scores.json").read_text(encoding="utf-8"))
    assert (content["variant"], content["patch_size"], content["patches"]) == ("exp3_multiscale_attention", 32, 2)
    in_folder = sorted(["holiday/2.JPG", "holiday/day2/10.jpg", "holiday/long.png", "holiday/truncated.jpg",
                        *(f"holiday/{name}" for name in ODD_NAMES)])  # fmt: skip
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
  const widths = [...page.images].map(image => image.naturalWidth);
  const styled = getComputedStyle(page.querySelector("table")).borderCollapse;
  const bold = page.querySelectorAll("b").length;
  document.querySelector("pre").textContent = JSON.stringify({seen, widths, styled, bold});
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
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
                   f"--user-data-dir={profile}", "--dump-dom", url]  # fmt: skip
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
        ["none", "none"], ["none", "descending"], ["none", "ascending"], ["ascending", "none"], ["descending", "none"]
    ]  # fmt: skip
    assert orders[0] == given
    assert [orders[1][:8], orders[2][:8]] == [upward[::-1], upward]
    assert set(orders[1][8:]) == set(orders[2][8:]) == set(broken)
    assert sorted(orders[3]) == sorted(given) and orders[3] == orders[4][::-1]
    assert orders[3].index("holiday/2.JPG") < orders[3].index("holiday/day2/10.jpg")
    assert found["styled"] == "collapse" and found["bold"] == 0
    assert len(found["widths"]) == 8 and min(found["widths"]) > 0  # the policy lets style and thumbnails through


def test_a_link_to_the_report_can_name_the_order(album, browse):
    dump = browse((album / "scores.html").as_uri() + "#score-ascending")
    scores = [float(text) for text in re.findall('data-score="([^"]+)"', dump)]
    assert len(scores) == 8 and scores == sorted(scores)


def test_paths_pil_images_and_tensors_get_the_same_score(scorer, photos):
    opened = [Image.open(path).convert("RGB") for path in photos]
    tensors = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in opened]
    expected = scorer(photos)
    assert expected.shape == (5,) and expected.dtype == np.float64 and np.ptp(expected) > 0.01
    for images in (map(str, photos), opened, tensors, [tensor / 255 for tensor in tensors]):
        np.testing.assert_array_equal(scorer(images), expected)
    np.testing.assert_allclose(scorer(torch.stack([tensors[4]] * 2)), expected[[4, 4]], atol=1e-4)


def test_a_score_depends_on_no_other_image_and_no_batch_size(scorer, checkpoint, photos):
    expected = scorer(photos)
    np.testing.assert_array_equal(scorer(photos), expected)
    np.testing.assert_allclose(scorer(photos[::-1])[::-1], expected, atol=1e-4)
    np.testing.assert_allclose([scorer([photo])[0] for photo in photos], expected, atol=1e-4)
    for batch_size in (1, 3, 4):
        scores = load_scorer(checkpoint, device="cpu", batch_size=batch_size)(photos)
        np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_a_few_images_are_read_ahead_and_no_more(scorer, photos):
    drawn = itertools.count()
    results = scorer.stream(photos[0] for _ in iter(lambda: next(drawn), None))
    for _ in range(3):
        assert next(results).score is not None
    assert next(drawn) <= scorer.batch_size // scorer.patches + 8 * min(8, cpu_count()) + 1


def test_from_python_too_an_unreadable_image_is_named(scorer, photos):
    photos[1].write_bytes(b"no image")
    results = list(scorer.stream(photos))
    assert [result.error is None for result in results] == [True, False, True, True, True]
    with pytest.raises(ValueError, match="image 1: .*photo1.png"):
        scorer(photos)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (torch.zeros(4, 5), "not \\[3, H, W\\]"),
        (torch.zeros(5, 6, 3), "not \\[3, H, W\\]"),
        (torch.zeros(3, 5, 6, dtype=torch.int64), "uint8 or of floats"),
        (torch.full((3, 5, 6), 255.0), "outside 0-1"),
        (torch.full((3, 5, 6), float("nan")), "outside 0-1"),
        (torch.zeros(3, 5, 81), "81x5 pixels"),
        (Image.new("RGB", (0, 0)), "0x0 pixels"),
        (np.zeros((5, 6, 3), np.uint8), "ndarray is no path"),
        ("no_such.jpg", "No such file"),
    ],
)
def test_from_python_an_image_of_the_wrong_kind_is_refused(scorer, image, words):
    with pytest.raises(ValueError, match=f"image 0: .*{words}"):
        scorer([image])


def test_one_image_instead_of_a_list_is_refused(scorer):
    for image in ("a.jpg", Image.new("RGB", (9, 9)), torch.zeros(3, 9, 9)):
        with pytest.raises(ValueError, match="put it in a list"):
            scorer(image)


def test_the_last_checkpoint_serves_too(finished_run, photos):
    scorer = load_scorer(finished_run / "checkpoints/resnet_improved_ms_att_last.pth", device="cpu")
    assert scorer.epoch == 2 and np.isfinite(scorer(photos)).all()


def test_the_variant_comes_from_the_checkpoint(checkpoint, photos, tmp_path):
    config = torch.load(checkpoint, weights_only=True)["config"]
    config["flags"] |= {"use_multiscale": False, "use_attention": False, "test_patch_num": 3, "patch_size": 64}
    path = tmp_path / "baseline.pth"
    model = ImageQualityResNet(weights="none", initial_score=50).state_dict()
    save_checkpoint(path, {"model": model, "epoch": 1, "config": config})
    scorer = load_scorer(path, device="cpu")
    assert (scorer.variant.log_name, scorer.patches, scorer.patch_size) == ("exp1_baseline", 3, 64)
    assert next(scorer.stream(photos)).attention is None
    with pytest.raises(ValueError, match="--attention: .*baseline.pth is exp1_baseline, which has no attention"):
        run(build_parser().parse_args(["--checkpoint", str(path), str(photos[0]), "--attention"]))
    config["flags"]["use_multiscale"] = True
    save_checkpoint(path, {"model": model, "epoch": 1, "config": config})
    with pytest.raises(ValueError, match="baseline.pth: its weights are not those of exp2_multiscale"):
        load_scorer(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"conv1.weight": torch.zeros(2)}, "holds no model and no config"),
        ({"model": {}, "epoch": 1}, "holds no config"),
        ({"model": {}, "config": {}}, "lack use_multiscale, use_attention, patch_size, test_patch_num"),
        ({"model": {}, "config": {"flags": {"use_multiscale": False, "use_attention": False, "patch_size": 0,
                                            "test_patch_num": 1}}}, "usable patch size"),
        (torch.zeros(2), "holds a Tensor"),
    ],
)  # fmt: skip
def test_a_checkpoint_of_the_wrong_kind_is_refused(tmp_path, content, words):
    save_checkpoint(tmp_path / "other.pth", content)
    with pytest.raises(ValueError, match=f"other.pth: .*{words}"):
        load_scorer(tmp_path / "other.pth")


def test_a_truncated_checkpoint_is_one_line(checkpoint, photos, tmp_path):
    with open(checkpoint, "rb") as whole:
        (tmp_path / "half.pth").write_bytes(whole.read(1_000_000))
    process = score("--checkpoint", "half.pth", photos[0], "--output", "scores.csv", cwd=tmp_path)
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


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_gets_a_progress_bar_and_a_log_does_not(scorer, photos, monkeypatch, is_terminal):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal, raising=False)
    options = build_parser().parse_args(["--checkpoint", "x.pth", "x.jpg"])
    assert len(list(score_rows(list(map(str, photos)), scorer, options))) == len(photos)
    assert ("Scoring" in sys.stderr.getvalue() and "/5" in sys.stderr.getvalue()) == is_terminal


def test_ctrl_c_is_one_line_and_leaves_no_file(checkpoint, tmp_path):
    write_image(tmp_path / "many/0.jpg", 50)
    for i in range(1, 5000):
        os.link(tmp_path / "many/0.jpg", tmp_path / f"many/{i}.jpg")
    command = [sys.executable, ROOT / "score_images.py", "--checkpoint", checkpoint, "many", "--batch_size", "2",
               "--device", "cpu", "--output", "scores.csv"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "many/" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and errors.startswith("Stopped by SIGINT") and errors.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["many"]
