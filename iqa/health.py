"""Whether a training came to something that may be compared: numpy in, plain numbers and sentences out.

`run_health` is what a run keeps under "health" in result.json. The scores are those of the test images in the chosen
epoch, beside whose predictions_test.csv it lies; nothing is chosen by them. The layers are measured on the images that
choose the epoch, those of validation or of test, by the mean of each unit over an image's patches. `findings` names
what is wrong by the constants below: a *sick* run makes every comparison with it one of trainings, not of ideas; a
*note* is for the reader to weigh.
"""

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from iqa.metrics import correlate

PERCENTILES = (1, 5, 50, 95, 99)
NEAR_AN_END = 0.01  # of the MOS scale: scores so close to the lowest or the highest are counted

# ---- limits, each with its reason; their rates of false alarm are in docs/report.md --------------------------

FEWEST_IMAGES = 20  # below it a 5th percentile is a single image: the scores are not judged
# A good regression shrinks towards the mean: at correlation r its scores spread over about r times the MOS. Half of
# that leaves room for skewed MOS, few images and averaging over patches; a side that is cut off reaches 0 to 0.3.
LEAST_REACH = 0.5  # of what shrinkage explains, from the mean of the MOS to their 5th or 95th percentile
REACH_NOISE = 1.0  # ... less this / sqrt(N): about one standard error of that share on N images
LEAST_SHRINKAGE = 0.5  # taken for the SRCC where it is lower: else scores that do not vary would be expected not to
MOST_SPREAD = 2.0  # times the spread (5th to 95th percentile) of the MOS; no shrinkage widens
MOST_BIAS = 0.2  # of the spread of the MOS: 10 points on KonIQ-10k; a loss of L1 removes a bias first of all
MOST_PILED = 0.1  # share of scores near an end, beyond that of the MOS: a tenth of the images cannot be told apart
PILE_NOISE = 0.6  # ... and this / sqrt(N) more: two standard errors of a share of a tenth
DEAD_DEVIATION = 0.001  # of a unit's activation over images, in (0, 1): it moves no score by a hundredth of the scale
SATURATED = (0.02, 0.98)  # outside, a sigmoid's slope is below 8% of its greatest
ALWAYS = 0.99  # share of images for which a saturated unit is so
MOST_LOST_UNITS = 0.5  # of a layer, dead or saturated
MOST_LOSS = 0.9  # of that of the constant: an L1 of 0.9 is what a correlation of about 0.44 leaves
LEAST_RISE = 0.002  # in SRCC: below the 0.003 that the report calls small

TRAININGS = "a comparison with it is one of trainings, not of ideas"


# ---- measures ------------------------------------------------------------------------------------------------


def score_health(scores: ArrayLike, mos: ArrayLike, mos_range: Sequence[float]) -> dict:
    """Where the scores [N] lie beside the MOS [N], in points of MOS; `mos_range` are the ends of the scale.

    The reach of a side is (mean MOS - 5th percentile of the scores) / (mean MOS - 5th percentile of the MOS), and
    likewise for the 95th: 1 where the scores reach as far as the MOS, about the correlation where they shrink as a
    regression does, 0 where they end in the middle; None where the MOS have no such side.
    """
    scores, mos = (np.asarray(values, dtype=np.float64) for values in (scores, mos))
    if scores.ndim != 1 or scores.shape != mos.shape or not len(mos):
        raise ValueError(f"scores and mos must be vectors of one length, got shapes {scores.shape} and {mos.shape}")
    if not (np.isfinite(scores).all() and np.isfinite(mos).all()):
        raise ValueError(f"{np.count_nonzero(~np.isfinite(scores + mos))} of {len(mos)} scores or MOS are not finite")
    near = NEAR_AN_END * (mos_range[1] - mos_range[0])
    found = {"scores": _places(scores), "mos": _places(mos)}
    return {
        "images": len(mos),
        "mos_range": [float(end) for end in mos_range],
        "srcc": correlate(scores, mos)[0],
        **found,
        "near_lowest": {"scores": _share(scores <= scores.min() + near), "mos": _share(mos <= mos.min() + near)},
        "near_highest": {"scores": _share(scores >= scores.max() - near), "mos": _share(mos >= mos.max() - near)},
        "reach_low": _reach(found, "p5"),
        "reach_high": _reach(found, "p95"),
        "bias": found["scores"]["mean"] - found["mos"]["mean"],
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


def _reach(found: dict, percentile: str) -> float | None:
    middle = found["mos"]["mean"]
    side = found["mos"][percentile] - middle
    return (found["scores"][percentile] - middle) / side if side else None


def layer_health(activations: ArrayLike) -> dict[str, float | None]:
    """Shares of the units of one hidden layer of sigmoids: activations [N images, units], in (0, 1), means over an image's patches.

    A unit is dead where its standard deviation over the images is below DEAD_DEVIATION: it gives all images the same.
    It is saturated where it lies outside SATURATED for 99% of the images or more: it hardly learns. "either" is the
    share that is one or both. None for each where one image leaves nothing to compare.
    """
    activations = np.asarray(activations, dtype=np.float64)
    if activations.ndim != 2 or not activations.size:
        raise ValueError(f"activations must be images by units, got shape {activations.shape}")
    if len(activations) < 2:
        return {"dead": None, "saturated": None, "either": None}
    with np.errstate(invalid="ignore"):  # a unit that is not finite passes nothing on: not >= is true of it
        dead = ~(activations.std(axis=0) >= DEAD_DEVIATION)
        inside = (activations >= SATURATED[0]) & (activations <= SATURATED[1])
    saturated = (~inside).mean(axis=0) >= ALWAYS
    return {"dead": _share(dead), "saturated": _share(saturated), "either": _share(dead | saturated)}


def epoch_health(selected_epoch: int, history: Sequence[dict], select_on: str, epochs: int | None = None) -> dict:
    """Where the chosen epoch lies, and whether the run was still improving.

    It was, where the chosen epoch is the last of several and its SRCC on the selection set exceeds the best before
    by more than LEAST_RISE and by more than the curve falls on average where it falls: a curve that goes up and down
    by as much cannot show a rise. `rise` and `mean_fall` are in SRCC; None where the lines of the epochs do not tell.
    """
    epochs = epochs or max((row["epoch"] for row in history), default=selected_epoch)
    key = f"{select_on}_srcc"
    curve = {row["epoch"]: row[key] for row in history if isinstance(row.get(key), Real) and math.isfinite(row[key])}
    earlier = [value for epoch, value in curve.items() if epoch < selected_epoch]
    changes = np.diff(list(curve.values()))
    falls = -changes[changes < 0]
    rise = curve[selected_epoch] - max(earlier) if earlier and selected_epoch in curve else None
    fall = float(falls.mean()) if len(falls) else 0.0
    last = selected_epoch == epochs > 1
    position = "only" if epochs == 1 else "last" if last else "first" if selected_epoch == 1 else "between"
    return {
        "chosen": selected_epoch,
        "trained": epochs,
        "position": position,
        "selected_on": select_on,
        "rise": rise,
        "mean_fall": fall if curve else None,
        "still_improving": last and (rise is None or rise > max(LEAST_RISE, fall)),
    }


def loss_health(train_loss: float | None, constant_loss: float | None, mos: ArrayLike) -> dict:
    """The training loss at the end (mean L1 of the last epoch) and that of the best constant, in points of MOS.

    The constant's is the mean absolute deviation of the training MOS from their median; where a run did
    not keep it, that of the test MOS stands for it.
    """
    known = constant_loss is not None
    mos = np.asarray(mos, dtype=np.float64)
    constant = float(constant_loss) if known else float(np.mean(np.abs(mos - np.median(mos))))
    usable = isinstance(train_loss, Real) and math.isfinite(train_loss)
    return {
        "training": float(train_loss) if usable else None,
        "constant": constant,
        "constant_from": "training MOS" if known else "test MOS",
        "share": float(train_loss) / constant if usable and constant > 0 else None,
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
    """What result.json holds under "health".

    Args:
        scores, mos: [N] of the test images in the chosen epoch.
        mos_range: the ends of the MOS scale.
        target_layers: `layer_health` of each hidden layer of the target network; None where it was not measured.
        selected_epoch: the chosen one, counted from 1.
        history: a line per epoch, with epoch, train_loss, val_srcc and test_srcc, as in metrics.jsonl, and train_l1 where
            the training made another loss small than L1.
        select_on: the set that chose the epoch, "val" or "test".
        train_loss: mean L1 of training images in the last epoch; None takes it from the history.
        constant_loss: mean absolute deviation of the training MOS from their median; None takes the test MOS.
        epochs: how many were trained; None takes it from the history.
    """
    if train_loss is None and history:
        train_loss = history[-1].get("train_l1", history[-1].get("train_loss"))
    return {
        "scores": score_health(scores, mos, mos_range),
        "target_layers": target_layers,
        "epochs": epoch_health(selected_epoch, history, select_on, epochs),
        "loss": loss_health(train_loss, constant_loss, mos),
    }


# ---- what is wrong -------------------------------------------------------------------------------------------


def findings(health: dict) -> list[dict[str, str]]:
    """The sick signs and notes of a run: {"id", "severity": "sick" or "note", "sentence"}, the sick ones first."""
    decimals = mos_decimals(health["scores"]["mos_range"])
    found = [
        *_of_scores(health["scores"], decimals),
        *_of_layers(health["target_layers"] or []),
        *_of_loss(health["loss"], health["scores"]["images"], decimals),
        *_of_epochs(health["epochs"]),
    ]
    return sorted(found, key=lambda finding: finding["severity"] == "note")


def is_sick(found: list[dict]) -> bool:
    return any(finding["severity"] == "sick" for finding in found)


def mos_decimals(mos_range: Sequence[float]) -> int:
    """Decimals of a MOS: a thousandth of the scale, or a little less."""
    low, high = mos_range
    return max(0, 3 - math.floor(math.log10(high - low))) if high > low else 1


def _sick(name: str, sign: str, consequence: str) -> dict[str, str]:
    return {"id": name, "severity": "sick", "sentence": f"{sign}: {consequence}, and {TRAININGS}."}


def _note(name: str, sentence: str) -> dict[str, str]:
    return {"id": name, "severity": "note", "sentence": f"{sentence}."}


def _of_scores(health: dict, decimals: int) -> list[dict]:
    if health["images"] < FEWEST_IMAGES:
        return [_note("few_images", f"{health['images']} test images are too few to judge the range of the scores")]
    scores, mos = (
        {name: f"{value:.{decimals}f}" for name, value in health[kind].items()} for kind in ("scores", "mos")
    )
    least = least_reach(health)
    short = {side for side in ("low", "high") if (reach := health[f"reach_{side}"]) is not None and reach < least}
    found = []
    if short == {"low", "high"}:
        found.append(
            _sick(
                "narrow",
                f"nine in ten scores lie between {scores['p5']} and {scores['p95']}, and nine in ten "
                f"MOS between {mos['p5']} and {mos['p95']}",
                "the scores hardly tell images apart",
            )
        )
    else:
        found += [_short_side(side, health, scores, mos, least) for side in sorted(short)]
    spreads = [health[kind]["p95"] - health[kind]["p5"] for kind in ("scores", "mos")]
    if spreads[0] > MOST_SPREAD * spreads[1]:
        found.append(
            _sick(
                "wide",
                f"nine in ten scores lie between {scores['p5']} and {scores['p95']}, and nine in ten "
                f"MOS between {mos['p5']} and {mos['p95']}",
                "the scores are not on the scale of the MOS",
            )
        )
    if abs(health["bias"]) > MOST_BIAS * spreads[1]:
        found.append(
            _sick(
                "bias",
                f"scores are {abs(health['bias']):.{decimals}f} too {_high_or_low(health['bias'])} on "
                f"average, {scores['mean']} where MOS are {mos['mean']}",
                "training did not come to its level",
            )
        )
    for side, end in (("low", "lowest"), ("high", "highest")):
        piled = health[f"near_{end}"]
        if not short and piled["scores"] - piled["mos"] > MOST_PILED + PILE_NOISE / math.sqrt(health["images"]):
            found.append(
                _sick(
                    f"pile_{side}",
                    f"{piled['scores']:.0%} of the scores lie within 1% of the scale of the {end}, "
                    f"{scores[end]}, and {piled['mos']:.0%} of the MOS so of theirs",
                    "it cannot tell these images apart",
                )
            )
    return found


def least_reach(health: dict) -> float:
    """The reach below which a side of the scores is called cut off, by the SRCC and the number of images."""
    return (LEAST_REACH - REACH_NOISE / math.sqrt(health["images"])) * max(health["srcc"] or 0.0, LEAST_SHRINKAGE)


def _short_side(side: str, health: dict, scores: dict, mos: dict, least: float) -> dict:
    """One end of the scale that the scores do not reach: by the very lowest score, or by all but 5% of them."""
    end, percentile, beyond = ("lowest", "p5", "below") if side == "low" else ("highest", "p95", "above")
    middle = health["mos"]["mean"]
    needed = middle + least * (health["mos"][percentile] - middle)
    none = health["scores"][end] >= needed if side == "low" else health["scores"][end] <= needed
    sign = (
        f"no score is {beyond} {scores[end]} where MOS reach {mos[end]}"
        if none
        else f"5% of the scores are {beyond} {scores[percentile]} where 5% of the MOS are {beyond} {mos[percentile]}"
    )
    return _sick(f"{side}_end", sign, f"it cannot rate the {side} end of the range")


def _high_or_low(difference: float) -> str:
    return "high" if difference > 0 else "low"


def _of_layers(layers: list[dict | None]) -> list[dict]:
    parts = []
    for number, layer in enumerate(layers, start=1):
        shares = {kind: (layer or {}).get(kind) or 0.0 for kind in ("dead", "saturated", "either")}
        if max(shares.values()) > MOST_LOST_UNITS:
            parts.append(
                f"in layer {number} {shares['dead']:.0%} of the units are dead and {shares['saturated']:.0%} saturated"
            )
    return (
        [
            _sick(
                "layers",
                f"of the target network, {'; '.join(parts)}",
                "what such a layer does not pass on, no score can depend on",
            )
        ]
        if parts
        else []
    )


def _of_loss(health: dict, images: int, decimals: int) -> list[dict]:
    judged = health["constant_from"] == "training MOS" or images >= FEWEST_IMAGES
    if health["share"] is None or health["share"] <= MOST_LOSS or not judged:
        return []
    source = "" if health["constant_from"] == "training MOS" else ", by the test MOS"
    return [
        _sick(
            "loss",
            f"the training loss ended at {health['training']:.{decimals}f}, {health['share']:.0%} of that of one "
            f"score for all images ({health['constant']:.{decimals}f}{source})",
            "it has learned next to nothing",
        )
    ]


def _of_epochs(health: dict) -> list[dict]:
    chosen, trained = health["chosen"], health["trained"]
    selected_on = "test" if health["selected_on"] == "test" else "validation"
    if health["position"] == "only":
        return [_sick("one_epoch", "one epoch was trained", "nothing shows that training had come to its end")]
    if health["still_improving"]:
        rise = "" if health["rise"] is None else f", with {selected_on} SRCC {health['rise']:.4f} above the best before"
        return [
            _sick(
                "still_improving",
                f"it was still improving in its last epoch, {chosen}, which was chosen{rise}",
                "more epochs may change which model is ahead",
            )
        ]
    if health["position"] == "first":
        return [
            _note(
                "first_epoch",
                f"the chosen epoch is the first of {trained}: none after it made {selected_on} SRCC "
                "higher, so look at the rate and at the training loss",
            )
        ]
    return []


# ---- the log -------------------------------------------------------------------------------------------------


def health_lines(health: dict) -> list[str]:
    """A few plain lines for the log of a run; none begins as a line that people grep does."""
    scores, decimals = health["scores"], mos_decimals(health["scores"]["mos_range"])
    layers = ", ".join(lost_units(layer) for layer in health["target_layers"] or []) or "not measured"
    loss = health["loss"]
    training = "unknown" if loss["training"] is None else f"{loss['training']:.{decimals}f}"
    return [
        "Health: scores of the test images beside their MOS, percentiles "
        f"{', '.join(map(str, PERCENTILES))}: {places(scores['scores'], decimals)}; MOS {places(scores['mos'], decimals)}",
        f"Health: within 1% of the scale of the lowest score {scores['near_lowest']['scores']:.1%} of the scores, "
        f"of the highest {scores['near_highest']['scores']:.1%}",
        f"Health: dead / saturated units of the target network, layer by layer: {layers}",
        f"Health: training loss {training} at the end, that of one score for all images {loss['constant']:.{decimals}f}; "
        f"epoch {health['epochs']['chosen']} of {health['epochs']['trained']} was chosen",
        *(
            f"{'Sick' if finding['severity'] == 'sick' else 'Note'}: {finding['sentence']}"
            for finding in findings(health)
        ),
    ]


def places(values: dict[str, float], decimals: int) -> str:
    """The percentiles: '12.1 20.3 61.0 80.2 85.0'"""
    return " ".join(f"{values[f'p{p}']:.{decimals}f}" for p in PERCENTILES)


def lost_units(layer: dict | None) -> str:
    """'0% / 12%', dead and saturated; 'unknown' where they were not measured."""
    if layer is None or layer.get("dead") is None or layer.get("saturated") is None:
        return "unknown"
    return f"{layer['dead']:.0%} / {layer['saturated']:.0%}"
