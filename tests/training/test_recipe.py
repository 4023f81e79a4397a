"""Runs by other losses, learning rates and weight averages than the default: results, checkpoints, resumes."""

import json
import math

import numpy as np
import pytest
import small_cnn
import torch
from conftest import ROOT, read_epochs, read_scores, train
from faults import KILLED_AFTER_LAST, SMALL_CNN, SNAPSHOTS, assert_same_run, inject, same_bits
from torch import nn

from iqa.data.datasets import load_dataset
from iqa.models.backbones import BACKBONES
from iqa.models.published import PUBLISHED
from iqa.training.recipe import BEST, PUBLISHED_RECIPES
from iqa.training.scored_model import EvalModeCopy, fit_line
from score_images import load_scorer
from train_resnet_improved import choose_optimizer, parse_options

NAME = "resnet_improved_small_ms_noatt"
FLAGS = (
    "--backbone small --use_multiscale --epochs 2 --train_patch_num 8 --precision fp32 "
    "--save_model --no_color_jitter --output_dir run"
).split()
# Between them every flag; a run that is killed in the first step of its second epoch.
RECIPES = {
    "best": "--recipe best --loss norm_in_norm --ema 0.99 --max_grad_norm 1 --lr 1e-3 --warmup_steps 3".split(),
    "plcc": ("--loss", "plcc", "--lr_schedule", "step", "--ema", "0.9", "--lr", "1e-3"),
    "rank": "--loss rank --lr_schedule cosine --head_lr_ratio 3 --freeze_batch_norm --lr 1e-3".split(),
    "huber": ("--loss", "huber", "--ema", "0.9", "--freeze_batch_norm", "--lr", "1e-3"),
}


def run(data, cwd, *flags, code="", **environment):
    cwd.mkdir(exist_ok=True)
    return train("--data_path", data, *FLAGS, *flags, cwd=cwd, **inject(SMALL_CNN + code), **environment)


@pytest.fixture(scope="module", params=RECIPES)
def finished(request, tiny_data, tmp_path_factory):
    """The name of a recipe and the working folder of its finished run."""
    cwd = tmp_path_factory.mktemp(request.param)
    process = run(tiny_data, cwd, *RECIPES[request.param], code=SNAPSHOTS)
    assert process.returncode == 0, process.stderr
    assert "nan" not in process.stdout.lower()
    return request.param, cwd


def last(cwd, epoch: int = 2) -> dict:
    """The checkpoint after an epoch."""
    return torch.load(cwd / f"after_{epoch}/{NAME}_last.pth", weights_only=True)


def test_a_killed_run_that_is_resumed_is_the_uninterrupted_one_to_the_bit(finished, tiny_data, tmp_path):
    name, whole = finished
    killed = run(tiny_data, tmp_path, *RECIPES[name], code=KILLED_AFTER_LAST)
    assert killed.returncode == -9 and len(list((tmp_path / "run").glob("*_last.pth"))) == 1
    process = run(tiny_data, tmp_path, *RECIPES[name], "--resume", code=SNAPSHOTS)
    assert process.returncode == 0 and "Resuming after epoch 1" in process.stdout, process.stderr
    assert_same_run(whole, tmp_path, NAME)
    for key in ("optimizer", "schedule", "training"):
        assert same_bits(last(whole).get(key), last(tmp_path).get(key)), key


@pytest.fixture
def small_backbone(monkeypatch):
    """The small backbone in the process of one test."""
    monkeypatch.setitem(BACKBONES, "small", small_cnn.ROW)


def test_a_checkpoint_scores_on_the_mos_scale_as_its_run_does(finished, tiny_data, small_backbone):
    """A least squares line of the training MOS on the scores has slope 1 and intercept 0."""
    name, cwd = finished
    scorer = load_scorer(cwd / f"checkpoints/{NAME}_best.pth", patches="checkpoint", device="cpu")
    sets = load_dataset("koniq-10k", tiny_data).sets
    kept = read_scores(cwd / "run/predictions_test.csv")
    assert scorer(sets["test"].paths) == pytest.approx([kept[image] for image in sets["test"].names], abs=1e-3)
    chosen = read_epochs(cwd / "run")[json.loads((cwd / "run/result.json").read_text())["selected_epoch"] - 1]
    training = scorer(sets["training"].paths)
    assert chosen["train_l1"] == pytest.approx(np.abs(training - sets["training"].mos).mean(), abs=1e-3)
    if name != "huber":
        slope, intercept = np.polyfit(training, sets["training"].mos, 1)
        assert (slope, intercept) == (pytest.approx(1, abs=1e-2), pytest.approx(0, abs=0.5))


def test_health_judges_the_error_in_points_whatever_the_loss(finished):
    _, cwd = finished
    health, epoch = json.loads((cwd / "run/result.json").read_text())["health"], read_epochs(cwd / "run")[-1]
    assert health["loss"]["training"] == epoch["train_l1"] != epoch["train_loss"]


BROKEN_IN_EPOCH_2 = """
from iqa.training.scored_model import EvalModeCopy
refresh = EvalModeCopy.refresh
def broken(self):
    refresh(self)
    epochs.append(1)
    if len(epochs) == 2:
        next(self.folded.parameters()).data.fill_(float("nan"))
epochs = []
EvalModeCopy.refresh = broken
"""


@pytest.mark.parametrize("name", ["plcc", "huber"])
def test_an_epoch_whose_scores_are_not_numbers_is_told_and_not_chosen(name, tiny_data, tmp_path):
    process = run(tiny_data, tmp_path, *RECIPES[name], code=BROKEN_IN_EPOCH_2)
    assert process.returncode == 0, process.stderr
    assert "Epoch 2/2 has no val SRCC and cannot be chosen" in process.stdout
    good, bad = read_epochs(tmp_path / "run")
    assert good["train_l1"] > 0 and bad["train_l1"] is None
    assert json.loads((tmp_path / "run/result.json").read_text())["selected_epoch"] == 1


def test_parameters_and_checkpoint_entries_are_those_of_every_run(finished, tiny_data):
    """The line changes only the entries for the mean and the deviation of the MOS."""
    name, cwd = finished
    saved = last(cwd)
    assert saved["config"]["flags"]["recipe"] == ("best" if name == "best" else "ablation")
    trained = saved.get("training", saved)["model"]
    differing = {key for key, x in saved["model"].items() if not torch.equal(x, trained[key])}
    moved = {"mos_mean", "mos_deviation"}
    assert saved["model"].keys() == trained.keys()
    assert differing >= (moved if name != "huber" else set()) and (name != "rank" or differing == moved)
    assert torch.equal(
        trained["mos_deviation"], torch.tensor(load_dataset("koniq-10k", tiny_data).sets["training"].mos.std()).float()
    )


def test_frozen_batch_norms_keep_their_statistics_and_the_others_do_not(finished):
    name, cwd = finished
    before = last(cwd, epoch=1)
    one, other = (state.get("training", state)["model"] for state in (before, last(cwd)))
    for part, frozen in (("backbone", "--freeze_batch_norm" in RECIPES[name]), ("fusion", False)):
        keys = [key for key in one if key.startswith(part) and "running" in key]
        assert keys and all(torch.equal(one[key], other[key]) == frozen for key in keys)


@pytest.mark.parametrize(
    ("scores", "slope"),
    [
        ([0.0, 1, 2, 3], 10.0),
        ([5.0, 5, 5, 5], 1.0),
        ([3.0, 2, 1, 0], 0.1),
        ([-100.0, -100, 100, 100], 0.1 * math.sqrt(0.8) * 1.118),
    ],
)
def test_the_line_is_that_of_least_squares_and_never_turns_the_order_round(scores, slope):
    mos = np.array([20.0, 30, 40, 50])
    found, intercept = fit_line(np.array(scores), mos)
    assert found == pytest.approx(slope, rel=1e-2) and intercept + found * np.mean(scores) == pytest.approx(35)


def small_model() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


def test_the_average_is_exponential_and_begins_with_the_first_steps():
    model = small_model()
    scored = EvalModeCopy(model, ema=0.5)
    expected = model[0].bias.detach().double()
    for step in range(40):
        with torch.no_grad():
            model[0].bias += torch.randn(4)
            model[1].running_mean += 1
        scored.after_step()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model[0].bias.detach().double()
    kept = scored.weights()
    torch.testing.assert_close(kept["0.bias"].double(), expected)
    assert (kept["1.running_mean"] < model[1].running_mean).all() and torch.equal(
        EvalModeCopy(model, ema=0).weights()["0.bias"], model[0].bias
    )


class TwoParts(nn.Module):
    def __init__(self):
        super().__init__()
        self.slow_part, self.head = nn.Linear(2, 2), nn.Linear(2, 1)


def rates_of(*flags: str, steps: int, per_epoch: int) -> list[list[float]]:
    """Learning rates of the optimizer's groups in each step of a run."""
    options = parse_options(["--epochs", str(steps // per_epoch), *flags])
    chosen = choose_optimizer(options, TwoParts(), per_epoch)
    rates = []
    for _ in range(steps):
        rates.append([group["lr"] for group in chosen.optimizer.param_groups])
        chosen.optimizer.step()
        chosen.step()
    return rates


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("constant", lambda step: 1.0),
        ("cosine", lambda step: (1 + math.cos(math.pi * step / 12)) / 2),
        ("step", lambda step: 0.1 ** (step // 4)),
    ],
)
def test_a_schedule_goes_over_the_steps_of_the_run_behind_its_warm_up(name, shape):
    flags = ("--lr", "2e-3", "--head_lr_ratio", "10", "--lr_schedule", name, "--warmup_steps", "3")
    expected = [[2e-3 * min(1, (step + 1) / 3) * shape(step) * ratio for ratio in (1, 10)] for step in range(12)]
    assert np.array(rates_of(*flags, steps=12, per_epoch=4)) == pytest.approx(np.array(expected))


@pytest.mark.parametrize("model", PUBLISHED)
def test_a_published_recipe_has_the_rates_of_its_epochs(model):
    recipe, epochs = PUBLISHED_RECIPES[model], PUBLISHED_RECIPES[model].flags["epochs"]
    rates = rates_of("--model", model, "--recipe", "published", "--lr", "1e-4", steps=2 * epochs, per_epoch=2)
    expected = [recipe.rates(1e-4, 10, step // 2, epochs) for step in range(2 * epochs)]
    assert np.array(rates) == pytest.approx(np.array(expected), rel=1e-9)


def test_a_schedule_that_is_given_counts_over_the_published_one():
    rates = rates_of("--model", "hyperiqa", "--recipe", "published", "--lr_schedule", "cosine", steps=6, per_epoch=2)
    cosine = [[(1 + math.cos(math.pi * step / 6)) / 2 * rate for rate in (2e-5, 2e-4)] for step in range(6)]
    assert np.array(rates) == pytest.approx(np.array(cosine), rel=1e-6)


def test_the_page_spells_the_best_recipe_out():
    words = " ".join(f"--{name} {value}" for name, value in BEST.items())
    assert f"`--recipe best` sets `{words}`" in " ".join((ROOT / "docs/recipe.md").read_text().split())


@pytest.mark.parametrize("model", [(), ("--model", "hyperiqa")])
def test_best_sets_what_is_not_given(model):
    options = parse_options([*model, "--recipe", "best"])
    assert {name: getattr(options, name) for name in BEST} == BEST
    given = parse_options(
        [*model, "--recipe", "best", "--loss", "plcc", "--lr", "1e-3", "--patch_size", "64", "--ema", "0.9"]
    )
    expected = {**BEST, "loss": "plcc", "lr": 1e-3, "patch_size": 64, "ema": 0.9}
    assert {name: getattr(given, name) for name in expected} == expected
    default = parse_options(list(model))
    assert (default.loss, default.lr, default.head_lr_ratio, default.lr_schedule, default.patch_size) == (
        "l1",
        1e-4,
        1,
        "constant",
        224,
    )
