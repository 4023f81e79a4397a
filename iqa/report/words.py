"""Numbers -> the sentences and cells that all pages share, and the rule for comparing with published gains.

The rule. A comparison is *shown* when its p-value, after Holm's correction over the comparisons made, is below
0.05; else it is *undecided*, whatever its sign. The size of a gain is compared with a published one through the
whole 95% interval [low, high], in multiples of the published gain, by the first row of SIZE_RULES that holds.
"""

import math
from collections.abc import Sequence

from iqa.report.numbers import COMPARISONS
from iqa.report.runs import VARIANTS

ALPHA = 0.05

PUBLISHED = {
    "hyperiqa": {
        "label": "ResNet50 (HyperIQA, published)", "srcc": 0.8998, "plcc": 0.9098, "delta": None,
        "protocol": "its own split, crops and schedule; not run here",
    },
    "smart_iqa": {
        "label": "SMART-IQA (Swin-Base, published)", "srcc": 0.9378, "plcc": 0.9485, "delta": 0.0380,
        "protocol": "7,046 training and 2,010 test images, no validation set named, 20 patches per test image; "
                    "not run here",
    },
}

# The published gains of the Swin model in SRCC; the first is the one in the results table.
PUBLISHED_GAINS = {
    "total": (
        0.9378 - 0.8998,
        "the published total gain of the Swin-Base model over HyperIQA",
        "the difference of two published figures under different protocols, and most of it is the other backbone's",
    ),
    "same_backbone": (
        0.9378 - 0.9338,
        "the published gain from the same two ideas on the Swin-Base backbone",
        "0.9338 without and 0.9378 with both, one run each, from the ablation table of its authors",
    ),
}

# (words, holds for the interval (low, high) in multiples of the published gain)
SIZE_RULES = [
    ("much smaller than", lambda low, high: high < 0.5),
    ("similar to", lambda low, high: low >= 0.8 and high <= 1.25),
    ("comparable to", lambda low, high: low >= 0.5 and high <= 2.0),
    ("smaller than", lambda low, high: high < 1.0),
    ("much larger than", lambda low, high: low > 2.0),
    ("larger than", lambda low, high: low > 1.0),
]
UNDECIDED_SIZE = "not distinguishable in size from"


# ---- decisions -----------------------------------------------------------------------------------------------


def decision(comparison: dict, metric: str = "srcc") -> str:
    """'higher', 'lower' or 'undecided'."""
    if comparison["identical"] or comparison[metric]["p_holm"] >= ALPHA:
        return "undecided"
    return "higher" if comparison[metric]["estimate"] > 0 else "lower"


def size_words(low: float, high: float, gain: float) -> str:
    """The words of SIZE_RULES for an interval against a published gain."""
    return next((words for words, holds in SIZE_RULES if holds(low / gain, high / gain)), UNDECIDED_SIZE)


def against_published(comparison: dict, gain: float, what: str) -> str:
    """One sentence, without its full stop: the measured gain of both ideas beside a published gain."""
    interval, named = comparison["srcc"], f"{what} ({signed(gain)})"
    words = size_words(interval["low"], interval["high"], gain)
    verdict = decision(comparison)
    if verdict == "higher":
        return f"The gain is {words} {named}"
    if verdict == "lower":
        return f"There is a loss where {named} is a gain"
    if words in ("much smaller than", "smaller than"):
        return f"No gain is shown, and any gain is {words} {named}"
    return f"It is undecided: the interval holds no gain at all and one as large as {named}" \
        if interval["low"] <= 0 and interval["high"] >= gain else f"It is undecided how any gain compares with {named}"


def published(numbers: dict) -> dict:
    """The published rows, and how the measured numbers stand to them; nothing of the kind for a demo's numbers."""
    both, whole = numbers["comparisons"]["both"], numbers["variants"]["exp3_multiscale_attention"]
    comparable = not numbers["dataset_note"]
    return {
        "rows": PUBLISHED,
        "distance_to_swin_base":
            PUBLISHED["smart_iqa"]["srcc"] - whole["srcc"]["estimate"] if whole and comparable else None,
        "sentences": [
            f"{against_published(both, gain, what)}: {source}." for gain, what, source in PUBLISHED_GAINS.values()
        ] if both and comparable else [],
    }


# ---- sentences -----------------------------------------------------------------------------------------------


def verdict(numbers: dict) -> list[str]:
    """Two sentences: both ideas together, then each alone."""
    both, alone = numbers["comparisons"]["both"], ("multiscale", "attention")
    first = _sentence("both", both, numbers) if both else _missing(numbers)
    parts = [_clause(name, numbers["comparisons"][name]) for name in alone if numbers["comparisons"][name]]
    second = "Taken apart, " + "; ".join(parts) if parts else "There is nothing to take apart"
    return [capitalised(first) + ".", second + "."]


def _sentence(name: str, comparison: dict, numbers: dict) -> str:
    before, after = (VARIANTS[variant][1] for variant in COMPARISONS[name][:2])
    interval = comparison["srcc"]
    sample = sample_words(numbers, interval["seeds"])
    if comparison["identical"]:
        return f"no difference: {after} and {before} give every image the same score ({sample})"
    found = decision(comparison)
    if found == "undecided":
        ruled_out = f"one larger than {reach(interval):.4f} is ruled out at 95%"
        return (f"no difference in SRCC can be shown between {after} and {before} with {sample} "
                f"({with_interval(interval)}{_correction(interval)}); "
                + (ruled_out if interval["low"] < interval["high"] else "the images are too few for an interval"))
    verb, against = ("improves", "over") if found == "higher" else ("lowers", "against")
    return (f"{after} {verb} SRCC by {unsigned_interval(interval)} {against} {before}, with {sample} "
            f"(95% interval; p {p_words(interval['p_holm'], '= ')} after Holm's correction)")


def _clause(name: str, comparison: dict) -> str:
    subject = {"multiscale": "multi-scale fusion alone", "attention": "attention on top of it"}[name]
    found, interval = decision(comparison), comparison["srcc"]
    if found == "undecided":
        return f"no difference is shown for {subject} ({with_interval(interval)}{_correction(interval)})"
    verb = "improves" if found == "higher" else "lowers"
    return f"{subject} {verb} SRCC by {unsigned_interval(interval)}"


def _correction(interval: dict) -> str:
    """What to add where the interval of one comparison excludes 0 and the correction over all undoes that."""
    excludes_zero = interval["low"] * interval["high"] > 0
    return f", but p {p_words(interval['p_holm'], '= ')} after Holm's correction" if excludes_zero else ""


def _missing(numbers: dict) -> str:
    absent = [variant for variant, found in numbers["variants"].items() if not found]
    return f"the comparison of both ideas with the baseline is missing, for want of {' and '.join(absent)}"


def seeds_compared(numbers: dict) -> int:
    """The seeds behind the comparison that has the fewest; of the runs where there is no comparison."""
    return min((c["srcc"]["seeds"] for c in numbers["comparisons"].values() if c), default=len(numbers["seeds"]))


def sample_words(numbers: dict, seeds: int) -> str:
    """'2,015 images and one seed'"""
    return f"{numbers['test_images']:,} images and {'one seed' if seeds == 1 else f'{seeds} seeds'}"


def warnings(numbers: dict) -> list[str]:
    """What must be said before any number."""
    found = []
    if numbers["dataset_note"]:
        found.append(f"Not results on KonIQ-10k: {numbers['dataset_note']}. The published rows stand beside them "
                     "for the layout only.")
    if numbers["selected_on"] != ["val"]:
        found.append("The epoch was chosen on the test images themselves, so every number here is optimistic.")
    found += [f"Compared in spite of a mismatch (--allow_mismatch): {mismatch}." for mismatch in numbers["mismatches"]]
    found += [f"{variant} is missing." for variant in numbers["missing"] if variant not in _begun(numbers)]
    found += [f"{folder} is unfinished: it has no result.json." for folder in numbers["unfinished"]]
    if seeds_compared(numbers) == 1:
        which = f" ({numbers['seeds'][0]})" if len(numbers["seeds"]) == 1 else " in a comparison"
        found.append(f"One seed{which}: the intervals are over images, and how much another seed would change is not known.")
    if seeds_compared(numbers) == 2:
        found.append("Two seeds are few: where seeds vary much, the intervals cover the truth in 88% rather than 95%.")
    if numbers["test_images"] < 100:
        found.append(f"{numbers['test_images']} test images are few: the intervals are rough.")
    undefined = max(v["srcc"]["undefined_draws"] for v in numbers["variants"].values() if v)
    if undefined:
        found.append(f"{undefined} of {numbers['bootstrap']['draws']} bootstrap draws held images of one score and "
                     "were left out.")
    return found + numbers["notes"]


def _begun(numbers: dict) -> set[str]:
    return {variant for variant in numbers["missing"] for f in numbers["unfinished"] if f.startswith(variant)}


# ---- cells ---------------------------------------------------------------------------------------------------


def mos_digits(numbers: dict) -> int:
    """Decimals of a MOS: a thousandth of the scale, or a little less."""
    low, high = numbers["mos_range"]
    return max(0, 3 - math.floor(math.log10(high - low))) if high > low else 1


def signed(value: float) -> str:
    return f"{value:+.4f}"


def with_interval(interval: dict) -> str:
    """'+0.0041 [+0.0012, +0.0071]'"""
    return f"{interval['estimate']:+.4f} [{interval['low']:+.4f}, {interval['high']:+.4f}]"


def unsigned_interval(interval: dict) -> str:
    """The size of a change and its interval, both as positive as the change: '0.0041 [0.0012, 0.0071]'"""
    ends = sorted(abs(interval[end]) for end in ("low", "high"))
    return f"{abs(interval['estimate']):.4f} [{ends[0]:.4f}, {ends[1]:.4f}]"


def level(interval: dict) -> str:
    """'0.9012 [0.8921, 0.9094]', with the deviation over seeds where there are several"""
    spread = f" ± {interval['seed_deviation']:.4f} (n = {interval['seeds']})" if interval["seeds"] > 1 else ""
    return f"{interval['estimate']:.4f}{spread} [{interval['low']:.4f}, {interval['high']:.4f}]"


def reach(interval: dict) -> float:
    """The largest difference, either way, that the interval leaves possible."""
    return max(abs(interval["low"]), abs(interval["high"]))


def p_words(p_value: float, equals: str = "") -> str:
    return "< 0.001" if p_value < 0.001 else f"{equals}{p_value:.3f}"


def duration(seconds: float) -> str:
    """'47.1 s', '12 min 03 s' or '3 h 05 min'"""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def listed(items: Sequence[object]) -> str:
    return ", ".join(str(item) for item in items)
