"""Health of a training run: measures that result.json keeps, and the findings drawn from them.

A run is *failed* if its scores are constant or one-sided, or if their mean error exceeds that of a constant. All other
findings are *limitations*. Scores are those of the test images in the chosen epoch; they affect no choice. Layers
are measured on the images that choose the epoch. docs/report.md has the error rates of these rules.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from iqa.metrics import srcc_and_plcc

PERCENTILES = (1, 5, 50, 95, 99)
NEAR_AN_END = 0.01  # fraction of the MOS scale; scores this close to the lowest or highest score are counted

# ---- limits of the rules -------------------------------------------------------------------------------------

FEWEST_IMAGES = 20  # with fewer, a 5th percentile is a single image, and the scores are not judged
# A good regression shrinks towards the mean: at correlation r the spread of its scores is about r times that of
# the MOS. Half of it allows for skewed MOS, few images and averaging over patches; a truncated side reaches 0 to 0.3.
LEAST_REACH = 0.5  # fraction of the reach that shrinkage explains
REACH_NOISE = 1.0  # LEAST_REACH is lowered by this / sqrt(N), about one standard error on N images
LEAST_SHRINKAGE = 0.5  # replaces a lower SRCC, at which nearly constant scores would pass
MOST_SPREAD = 2.0  # times the spread of the MOS, from the 5th to the 95th percentile
MOST_BIAS = 0.2  # fraction of the spread of the MOS: 10 points on KonIQ-10k
MOST_PILED = 0.1  # share of scores near their lowest or highest, above that of the MOS
PILE_NOISE = 0.6  # MOST_PILED is raised by this / sqrt(N), two standard errors of a share of 10%
DEAD_DEVIATION = 0.001  # standard deviation of a unit's activation over images
SATURATED = (0.02, 0.98)  # outside this range, the slope of a sigmoid is below 8% of its maximum
ALWAYS = 0.99  # a unit is saturated if it is outside that range for this share of images
MOST_LOST_UNITS = 0.5  # share of a layer's units that may be dead or saturated
MOST_LOSS = 0.9  # fraction of the loss of a constant score; 0.9 corresponds to a correlation of about 0.44
LEAST_RISE = 0.005  # in SRCC: smaller rises are within the noise between epochs of a few runs
RISE_OVER_FALLS = 2.0  # a rise has to exceed the mean fall of the curve by this factor

# kind of a finding -> its name in the report
FAILURES = {
    "constant": "constant scores",
    "one_sided": "one-sided scores",
    "error": "a mean error above that of a constant",
}
LIMITATIONS = {
    "few_images": "too few test images to judge the scores",
    "bias": "scores that are too high or too low on average by more than a fifth of the spread of the MOS",
    "wide": "scores that spread over more than twice the range of the MOS",
    "pile": "scores that pile up at their lowest or highest value",
    "layers": "a layer of the target network with more than half of its units dead or saturated",
    "loss": "a training loss above 90% of that of a constant score",
    "one_epoch": "a single epoch of training",
    "first_epoch": "a best epoch that is the first",
}


@dataclass(frozen=True)
class Finding:
    kind: str  # a key of FAILURES or LIMITATIONS, or "still_improving"
    sentence: str

    @property
    def failed(self) -> bool:
        return self.kind in FAILURES


# ---- measures ------------------------------------------------------------------------------------------------


def score_health(scores: ArrayLike, mos: ArrayLike, mos_range: Sequence[float]) -> dict:
    """Compare the scores [N] with the MOS [N], in points of MOS; `mos_range` are the ends of the scale.

    The reach of a side is (mean MOS - 5th percentile of the scores) / (mean MOS - 5th percentile of the MOS), and
    likewise for the 95th. `constant_error` is the mean error of the median MOS as the score of every image.
    """
    scores, mos = (np.asarray(values, dtype=np.float64) for values in (scores, mos))
    assert scores.shape == mos.shape == (len(mos),) and np.isfinite(scores).all()  # a run without is not judged
    near = NEAR_AN_END * (mos_range[1] - mos_range[0])
    places = {"scores": _places(scores), "mos": _places(mos)}
    return {
        "images": len(mos),
        "mos_range": [float(end) for end in mos_range],
        "srcc": srcc_and_plcc(scores, mos)[0],
        **places,
        "near_lowest": {"scores": _share(scores <= scores.min() + near), "mos": _share(mos <= mos.min() + near)},
        "near_highest": {"scores": _share(scores >= scores.max() - near), "mos": _share(mos >= mos.max() - near)},
        "reach_low": _reach(places, "p5"),
        "reach_high": _reach(places, "p95"),
        "bias": places["scores"]["mean"] - places["mos"]["mean"],
        "mean_error": float(np.abs(scores - mos).mean()),
        "constant_error": float(np.abs(mos - np.median(mos)).mean()),
    }


def _places(values: np.ndarray) -> dict[str, float]:
    percentiles = np.percentile(values, PERCENTILES).tolist()
    return {
        "lowest": float(values.min()),
        **{f"p{p}": value for p, value in zip(PERCENTILES, percentiles, strict=True)},
        "highest": float(values.max()),
        "mean": float(values.mean()),
    }


def _share(chosen: np.ndarray) -> float:
    return float(np.mean(chosen))


def _reach(places: dict, percentile: str) -> float | None:
    middle = places["mos"]["mean"]
    side = places["mos"][percentile] - middle
    return (places["scores"][percentile] - middle) / side if side else None


def layer_health(activations: ArrayLike) -> dict[str, float | None]:
    """Shares of dead, saturated and either kind of units in a layer of sigmoids: activations [N images, units].

    A unit is dead if its standard deviation over the images is below DEAD_DEVIATION, and saturated if it is outside
    SATURATED for 99% of the images or more. With a single image all are None.
    """
    activations = np.asarray(activations, dtype=np.float64)
    assert activations.ndim == 2 and activations.size
    if len(activations) < 2:
        return {"dead": None, "saturated": None, "either": None}
    with np.errstate(invalid="ignore"):  # a unit that is not finite counts as dead: "not >=" is true
        dead = ~(activations.std(axis=0) >= DEAD_DEVIATION)
        inside = (activations >= SATURATED[0]) & (activations <= SATURATED[1])
    saturated = (~inside).mean(axis=0) >= ALWAYS
    return {"dead": _share(dead), "saturated": _share(saturated), "either": _share(dead | saturated)}


def last_rise(curve: Sequence[float]) -> tuple[float | None, float]:
    """Rise of a validation curve in its last epoch over the best before, and its mean fall; None for a single epoch."""
    changes = np.diff(curve)
    falls = -changes[changes < 0]
    rise = float(curve[-1] - max(curve[:-1])) if len(curve) > 1 else None
    return rise, float(falls.mean()) if len(falls) else 0.0


def is_improving(rise: float | None, mean_fall: float) -> bool:
    """Whether the rise exceeds LEAST_RISE and the fluctuation of the curve."""
    return rise is not None and rise > max(LEAST_RISE, RISE_OVER_FALLS * mean_fall)


def epoch_health(selected_epoch: int, history: Sequence[dict], select_on: str, epochs: int | None = None) -> dict:
    """Position of the chosen epoch in the training, and whether the run was still improving."""
    epochs = epochs or max((row["epoch"] for row in history), default=selected_epoch)
    key = f"{select_on}_srcc"
    curve = [row[key] for row in history if isinstance(row.get(key), Real) and math.isfinite(row[key])]
    last = selected_epoch == epochs > 1
    position = "only" if epochs == 1 else "last" if last else "first" if selected_epoch == 1 else "between"
    rise, fall = last_rise(curve)
    return {
        "chosen": selected_epoch,
        "trained": epochs,
        "position": position,
        "selected_on": select_on,
        "rise": rise if last else None,
        "mean_fall": fall,
        "still_improving": last and (rise is None or is_improving(rise, fall)),
    }


def loss_health(train_loss: float | None, constant_loss: float | None, test_constant: float) -> dict:
    """Mean L1 of the last epoch and that of the best constant, in points of MOS.

    The constant's is the mean absolute deviation of the training MOS from their median, or that of the test MOS
    for a run that did not record it.
    """
    recorded = constant_loss is not None
    constant = float(constant_loss) if recorded else test_constant
    training = float(train_loss) if isinstance(train_loss, Real) and math.isfinite(train_loss) else None
    return {
        "training": training,
        "constant": constant,
        "constant_from": "training MOS" if recorded else "test MOS",
        "share": training / constant if training is not None and constant > 0 else None,
    }


def run_health(
    *,
    scores: ArrayLike,
    mos: ArrayLike,
    mos_range: Sequence[float],
    target_layers: list[dict | None] | None = None,
    selected_epoch: int,
    history: Sequence[dict],
    select_on: str,
    train_loss: float | None = None,
    constant_loss: float | None = None,
    epochs: int | None = None,
) -> dict:
    """The content of "health" in result.json.

    Args:
        scores, mos: [N] of the test images in the chosen epoch.
        mos_range: the ends of the MOS scale.
        target_layers: `layer_health` of each hidden layer of the target network; None if not measured.
        selected_epoch: the chosen epoch, counted from 1.
        history: lines of metrics.jsonl.
        select_on: the set that chose the epoch, "val" or "test".
        train_loss: mean L1 of training images in the last epoch; None takes it from the history.
        constant_loss: mean absolute deviation of the training MOS from their median; None takes the test MOS.
        epochs: number of epochs trained; None takes it from the history.
    """
    if train_loss is None and history:
        train_loss = history[-1].get("train_l1", history[-1].get("train_loss"))
    measures = score_health(scores, mos, mos_range)
    return {
        "scores": measures,
        "target_layers": target_layers,
        "epochs": epoch_health(selected_epoch, history, select_on, epochs),
        "loss": loss_health(train_loss, constant_loss, measures["constant_error"]),
    }


# ---- findings ------------------------------------------------------------------------------------------------


def findings(health: dict) -> list[Finding]:
    """Findings of a run, failures first."""
    decimals = mos_decimals(health["scores"]["mos_range"])
    found = [
        *_of_scores(health["scores"], decimals),
        *_of_layers(health["target_layers"] or []),
        *_of_loss(health["loss"], health["scores"]["images"], decimals),
        *_of_epochs(health["epochs"]),
    ]
    return sorted(found, key=lambda finding: not finding.failed)


def mos_decimals(mos_range: Sequence[float]) -> int:
    """Number of decimals of a MOS, to about a thousandth of the scale."""
    low, high = mos_range
    return max(0, 3 - math.floor(math.log10(high - low))) if high > low else 1


def _of_scores(health: dict, decimals: int) -> Iterator[Finding]:
    if health["images"] < FEWEST_IMAGES:
        yield Finding("few_images", f"{health['images']} test images are too few to judge the scores.")
        return
    scores, mos, points = health["scores"], health["mos"], f".{decimals}f"
    ranges = (
        f"90% of the scores are between {scores['p5']:{points}} and {scores['p95']:{points}}, "
        f"90% of the MOS between {mos['p5']:{points}} and {mos['p95']:{points}}"
    )
    least = (LEAST_REACH - REACH_NOISE / math.sqrt(health["images"])) * max(health["srcc"] or 0.0, LEAST_SHRINKAGE)
    short = [side for side in ("low", "high") if (reach := health[f"reach_{side}"]) is not None and reach < least]
    if len(short) == 2:
        yield Finding("constant", f"The scores are constant or nearly so: {ranges}.")
    elif short:
        percentile, beyond = ("p5", "below") if short == ["low"] else ("p95", "above")
        yield Finding(
            "one_sided",
            f"The scores do not reach the {short[0]} end of the MOS: 5% of the scores are {beyond} "
            f"{scores[percentile]:{points}}, 5% of the MOS {beyond} {mos[percentile]:{points}}.",
        )
    error, constant = health["mean_error"], health["constant_error"]
    if error > constant:
        yield Finding("error", f"The mean error is {error:{points}}, that of a constant score {constant:{points}}.")
    spread, mos_spread = scores["p95"] - scores["p5"], mos["p95"] - mos["p5"]
    if spread > MOST_SPREAD * mos_spread:
        yield Finding("wide", f"The scores are not on the scale of the MOS: {ranges}.")
    bias = health["bias"]
    if abs(bias) > MOST_BIAS * mos_spread:
        direction = "high" if bias > 0 else "low"
        yield Finding("bias", f"The scores are {abs(bias):{points}} too {direction} on average.")
    for end in ("lowest", "highest"):
        piled = health[f"near_{end}"]
        if not short and piled["scores"] - piled["mos"] > MOST_PILED + PILE_NOISE / math.sqrt(health["images"]):
            yield Finding(
                "pile",
                f"{piled['scores']:.0%} of the scores are within 1% of the scale of the {end}, "
                f"{scores[end]:{points}}, and {piled['mos']:.0%} of the MOS within 1% of theirs.",
            )


def _of_layers(layers: list[dict | None]) -> Iterator[Finding]:
    parts = []
    for number, layer in enumerate(layers, start=1):
        shares = {kind: (layer or {}).get(kind) or 0.0 for kind in ("dead", "saturated", "either")}
        if max(shares.values()) > MOST_LOST_UNITS:
            parts.append(
                f"in layer {number} {shares['dead']:.0%} of the units are dead and {shares['saturated']:.0%} saturated"
            )
    if parts:
        yield Finding("layers", f"Target network: {'; '.join(parts)}.")


def _of_loss(health: dict, images: int, decimals: int) -> Iterator[Finding]:
    recorded = health["constant_from"] == "training MOS"
    if health["share"] is not None and health["share"] > MOST_LOSS and (recorded or images >= FEWEST_IMAGES):
        source = "" if recorded else ", from the test MOS"
        yield Finding(
            "loss",
            f"The training loss ended at {health['training']:.{decimals}f}, {health['share']:.0%} of that of a "
            f"constant score ({health['constant']:.{decimals}f}{source}).",
        )


def _of_epochs(health: dict) -> Iterator[Finding]:
    chosen, trained = health["chosen"], health["trained"]
    measure = f"{'test' if health['selected_on'] == 'test' else 'validation'} SRCC"
    if health["position"] == "only":
        yield Finding("one_epoch", "One epoch was trained, which does not show whether training had converged.")
    elif health["still_improving"]:
        rise = "" if health["rise"] is None else f", by {health['rise']:.4f} {measure}"
        sentence = f"The run was still improving in its last epoch, {chosen}{rise}: more epochs may change the result."
        yield Finding("still_improving", sentence)
    elif health["position"] == "first":
        sentence = f"The chosen epoch is the first of {trained}: no later epoch raised {measure}."
        yield Finding("first_epoch", f"{sentence} Check the learning rate.")


# ---- the log -------------------------------------------------------------------------------------------------


def health_lines(health: dict) -> list[str]:
    """Lines for the log of a run."""
    scores, decimals = health["scores"], mos_decimals(health["scores"]["mos_range"])
    layers = ", ".join(lost_units(layer) for layer in health["target_layers"] or []) or "not measured"
    loss = health["loss"]
    training = "unknown" if loss["training"] is None else f"{loss['training']:.{decimals}f}"
    score_places, mos_places = (
        " ".join(f"{scores[kind][f'p{p}']:.{decimals}f}" for p in PERCENTILES) for kind in ("scores", "mos")
    )
    return [
        f"Health: percentiles {', '.join(map(str, PERCENTILES))} of the test images: scores {score_places}; "
        f"MOS {mos_places}",
        f"Health: {scores['near_lowest']['scores']:.1%} of the scores are within 1% of the scale of the lowest, "
        f"{scores['near_highest']['scores']:.1%} of the highest",
        f"Health: dead / saturated units of the target network, by layer: {layers}",
        f"Health: final training loss {training}; that of a constant score {loss['constant']:.{decimals}f}; "
        f"epoch {health['epochs']['chosen']} of {health['epochs']['trained']} was chosen",
        *(f"{'Failed' if finding.failed else 'Note'}: {finding.sentence}" for finding in findings(health)),
    ]


def lost_units(layer: dict | None) -> str:
    """'0% / 12%', dead and saturated; 'unknown' if not measured."""
    if layer is None or layer.get("dead") is None or layer.get("saturated") is None:
        return "unknown"
    return f"{layer['dead']:.0%} / {layer['saturated']:.0%}"
