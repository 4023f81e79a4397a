"""The losses: the formulas of their papers, their gradients, and batches without two different labels."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from iqa.training.losses import HUBER_DELTA, RANK_MARGIN, huber, norm_in_norm, plcc, rank, training_loss
from iqa.training.recipe import BATCH_LOSSES, LOSSES

FUNCTIONS = {"huber": huber, "norm_in_norm": norm_in_norm, "plcc": plcc, "rank": rank}
RANDOM = np.random.default_rng(0)
OTHER_LOSSES = [name for name in LOSSES if name != "l1"]
SCORES, MOS = RANDOM.normal(3, 2, 9), np.array([1.0, 4, 2, 2, 5, 3.5, 0.5, 2.5, 4.5])  # two of them tied


def value(name: str, scores, mos, **settings) -> float:
    return FUNCTIONS[name](torch.tensor(scores), torch.tensor(mos), **settings).item()


def test_huber_is_the_formula_of_1964():
    errors = np.abs(SCORES - MOS)
    expected = [e**2 / 2 if e < HUBER_DELTA else HUBER_DELTA * e - HUBER_DELTA**2 / 2 for e in errors]
    assert value("huber", SCORES, MOS) == pytest.approx(np.mean(expected))
    assert len({e < HUBER_DELTA for e in errors}) == 2


@pytest.mark.parametrize(("p", "q"), [(1.0, 2.0), (2.0, 2.0), (2.0, 1.0), (1.0, 1.0)])
def test_norm_in_norm_is_the_formula_of_li_and_others(p, q):
    """Equations 3 to 7: b is the q-norm without a mean, c bounds the sum."""

    def normalised(values):
        return (values - values.mean()) / (np.abs(values - values.mean()) ** q).sum() ** (1 / q)

    c = 2**p * len(MOS) ** (1 - p / q) if p < q else 2 ** max(p, p / q)
    expected = (np.abs(normalised(SCORES) - normalised(MOS)) ** p).sum() / c
    assert value("norm_in_norm", SCORES, MOS, p=p, q=q) == pytest.approx(expected) and 0 < expected < 1


@pytest.mark.parametrize(("name", "settings"), [("plcc", {}), ("norm_in_norm", {"p": 2.0, "q": 2.0})])
def test_plcc_and_norm_in_norm_with_squares_are_half_of_one_less_pearsons_correlation(name, settings):
    assert value(name, SCORES, MOS, **settings) == pytest.approx((1 - pearsonr(SCORES, MOS)[0]) / 2)


def test_rank_is_the_hinge_over_every_pair_that_has_an_order():
    pairs = [(i, j) for i, j in itertools.permutations(range(len(MOS)), 2) if MOS[i] > MOS[j]]
    expected = np.mean([max(0.0, RANK_MARGIN - (SCORES[i] - SCORES[j])) for i, j in pairs])
    assert len(pairs) == 36 - 1 and value("rank", SCORES, MOS) == pytest.approx(expected)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_gradient_is_that_of_the_value(name):
    scores, mos = torch.tensor(SCORES, requires_grad=True), torch.tensor(MOS)
    assert torch.autograd.gradcheck(lambda x: FUNCTIONS[name](x, mos), scores)


@pytest.mark.parametrize("name", ["norm_in_norm", "plcc"])
def test_a_loss_of_the_linear_relation_knows_no_scale(name):
    assert value(name, 7 * SCORES - 20, 0.05 * MOS) == pytest.approx(value(name, SCORES, MOS))
    assert value(name, 3 * MOS + 1, MOS) == pytest.approx(0, abs=1e-12) and value(name, -MOS, MOS) <= 1


@pytest.mark.parametrize("name", BATCH_LOSSES)
def test_a_batch_without_two_qualities_has_a_defined_loss_and_no_gradient(name):
    """One scene, tied labels, or a single patch."""
    for count in (1, 2, 32):
        scores = torch.randn(count, requires_grad=True)
        loss = training_loss(name, 15.0)(scores, torch.full((count,), 61.7))
        loss.backward()
        assert loss.item() == (0.5 if name == "plcc" else 0) and not scores.grad.any()


@pytest.mark.parametrize("name", OTHER_LOSSES)
def test_scores_that_are_all_alike_have_a_loss_and_a_finite_gradient(name):
    scores, mos = torch.full((16,), 58.0, requires_grad=True), torch.linspace(20, 80, 16)
    loss = training_loss(name, 15.0)(scores, mos)
    loss.backward()
    assert loss.isfinite() and scores.grad.isfinite().all()
    if name == "plcc":
        assert loss.item() == 0.5
    elif name == "rank":
        assert loss.item() == pytest.approx(RANK_MARGIN)


@pytest.mark.parametrize("name", OTHER_LOSSES)
def test_the_losses_but_l1_do_not_depend_on_the_unit_of_the_mos(name):
    scores, mos = torch.tensor(SCORES), torch.tensor(MOS)
    one, other = training_loss(name, 1.4)(scores, mos), training_loss(name, 14.0)(10 * scores, 10 * mos)
    assert other.item() == pytest.approx(one.item())
