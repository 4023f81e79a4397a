"""The list of an ablation's runs, and the errors that are found before the first run."""

import pytest
from conftest import TINY_FLAGS

from iqa import ablation
from iqa.training.recipe import BEST
from train_resnet_improved import parse_options

FUSION = {(False, False): "1_baseline", (True, False): "2_multiscale", (True, True): "3_multiscale_attention"}


@pytest.fixture
def list_runs(tiny_data, capfd, monkeypatch):
    """The names and parsed flags of the runs, or the error."""

    def call(*flags, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        shared = ["--data_path", str(tiny_data), *TINY_FLAGS, *flags]
        try:
            status = ablation.main(shared)
        except SystemExit as end:
            status = end.code
        output, errors = capfd.readouterr()
        if status:
            assert (status, output) == (2, "") and errors.count("\n") == 1, output + errors
            return errors
        shared = [flag for flag in shared if flag not in ("--with_published", "--demo")]
        return [(name, parse_options([*shared, *own])) for name, *own in map(str.split, output.splitlines())]

    return call


def test_every_seed_has_every_variant_on_every_backbone_then_the_published_models(list_runs):
    runs = list_runs("--with_published", "--patch_size", "64", SEEDS="1 2", BACKBONES="resnet50 swin_b")
    assert [name for name, _ in runs] == [
        f"{name}_seed{seed}"
        for seed in (1, 2)
        for name in [
            *(f"{backbone}{fusion}" for backbone in ("exp", "swin") for fusion in FUSION.values()),
            "published_hyperiqa",
            "published_smart_iqa",
        ]
    ]
    assert all(f"_seed{run.seed}" == run.checkpoint_suffix for _, run in runs)
    for name, run in runs:
        assert run.model == ("ablation" if "published" not in name else name[10:-6]) and run.recipe == "ablation"
        if run.model == "ablation":
            prefix = {"resnet50": "exp", "swin_b": "swin"}[run.backbone]
            assert name[:-6] == prefix + FUSION[run.use_multiscale, run.use_attention]


@pytest.mark.parametrize("seeds", ["", "7"])
def test_the_runs_of_one_seed_have_no_suffix(list_runs, seeds):
    runs = list_runs("--seed", "5", SEEDS=seeds, BACKBONES="")
    assert [name for name, _ in runs] == [f"exp{fusion}" for fusion in FUSION.values()]
    assert {(run.seed, run.checkpoint_suffix) for _, run in runs} == {(int(seeds or 5), "")}


@pytest.mark.parametrize(
    ("flags", "recipes"),
    [
        ((), ("ablation", "ablation")),
        (("--recipe", "best"), ("best", "best")),
        (("--recipe", "published"), ("ablation", "published")),
        (("--recipe=best", "--recipe", "published"), ("best", "published")),
        (("--recipe", "published", "--recipe", "best"), ("best", "published")),
    ],
)
def test_a_recipe_is_that_of_all_rows_or_of_the_published_models(list_runs, flags, recipes):
    runs = dict(list_runs("--patch_size", "224", "--loss", "plcc", "--with_published", *flags))
    assert [run.recipe for run in runs.values()] == 3 * [recipes[0]] + 2 * [recipes[1]]
    assert all(run.loss == "plcc" and run.patch_size == 224 for run in runs.values())
    assert runs["exp1_baseline"].head_lr_ratio == (BEST["head_lr_ratio"] if recipes[0] == "best" else 1)
    assert (runs["published_hyperiqa"].lr == 2e-5) == (recipes[1] == "published")


def test_the_published_models_get_patches_of_the_size_of_the_variants(tiny_data, capfd):
    flags = ["--data_path", str(tiny_data), "--with_published", "--recipe", "best", "--recipe", "published"]
    assert ablation.main(flags) == 0
    rows = capfd.readouterr().out.splitlines()
    assert [f"--patch_size {BEST['patch_size']}" in row for row in rows] == [False] * 3 + [True] * 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--use_attention"], ["--use_attention", "train_resnet_improved.py"]),
        (["--output_dir", "x"], ["--output_dir"]),
        (["--resume", "logs/x"], ["--resume", "no others"]),
        (["--model", "hyperiqa"], ["--model", "--with_published"]),
        (["--backbone", "swin_b"], ["--backbone", 'BACKBONES="swin_b"']),
        (["--recipe", "published"], ["--recipe published", "--with_published"]),
        (["--recipe", "beste"], ["--recipe", "'beste'", "best", "published"]),
        (["--epoch", "3"], ["--epoch", "did you mean --epochs?"]),
        (["--with_publish"], ["did you mean --with_published?"]),
        (["--lr", "fast"], ["argument --lr", "'fast'"]),
        (["--demo", "--data_path", "x"], ["--demo", "--data_path x"]),
        (["--dataset", "csv"], ["labels.csv"]),
        (["--with_published", "--dropout_rate", "0.1"], ["published_hyperiqa", "--dropout_rate"]),
        (["--with_published", "--patch_size", "48"], ["published_hyperiqa: --patch_size 48", "choose 64"]),
        (
            ["--with_published", "--recipe", "published", "--lr_schedule", "constant"],
            ["published_hyperiqa: --lr_schedule constant", "its own schedule"],
        ),
    ],
)
def test_flags_that_an_ablation_cannot_have_are_one_line(list_runs, flags, words):
    error = list_runs(*flags)
    assert [word for word in words if word not in error] == [], error


@pytest.mark.parametrize(
    ("variables", "flags", "words"),
    [
        ({"SEEDS": "42 x"}, [], ["exp1_baseline: argument --seed", "'x'"]),
        ({"SEEDS": "42 43 042"}, [], ["SEEDS", "42 is listed twice"]),
        ({"BACKBONES": "resnet50 vgg"}, [], ["BACKBONES", "vgg", "resnet50"]),
        ({"BACKBONES": "resnet50 resnet50"}, [], ["BACKBONES", "twice"]),
        ({"BACKBONES": "swin_b"}, ["--patch_size", "48"], ["swin1_baseline: --patch_size 48", "choose 64"]),
        ({"BACKBONES": "swin_b resnet50"}, ["--patch_size=64", "--drop_path_rate=0.2"], ["exp1_baseline", "leave it"]),
        ({"NPROC": "3"}, [], ["exp1_baseline: --batch_size 8", "a multiple of 3"]),
        ({"NPROC": "two"}, [], ["NPROC=two"]),
        ({"NPROC": "08"}, [], ["NPROC=08"]),
    ],
)
def test_variables_that_an_ablation_cannot_have_are_one_line(list_runs, variables, flags, words):
    error = list_runs(*flags, **variables)
    assert [word for word in words if word not in error] == [], error
