"""Numbers -> the sentences and cells that all pages share, and the rule for what a verdict may say.

The rule. A comparison is *shown* when its p-value, after Holm's correction over the comparisons made, is below
0.05; else it is *undecided*, whatever its sign. What it is about depends on the trainings behind it:

* **sick**: a run that it rests on is not sound (iqa/health.py). The two trained models may be said to differ, and
  the comparison is one of trainings, not of ideas.
* **models**: one or two seeds. The trained models differ by so much on these images, and nothing is said of the ideas:
  one seed cannot tell an idea from its training, and with two the interval covers the truth in as little as 90%
  of the cases where seeds vary much (tests/simulate_coverage.py).
* **ideas**: three seeds or more, all sound. Only then an idea "improves" or "lowers" SRCC, with the interval over images
  and seeds.

The size of a gain is compared with a published one through the whole 95% interval [low, high], in multiples of the
published gain, by the first row of SIZE_RULES that holds: that of the ideas, or, with few seeds, that between the
trained models. What rests on a sick run is not compared with published figures.
"""

from collections.abc import Iterable

from iqa.health import mos_decimals
from iqa.report.numbers import COMPARISONS, all_comparisons
from iqa.report.rows import CNN, FULL

ALPHA = 0.05
SEEDS_FOR_IDEAS = 3  # with as many the interval covers in 94% or more, whether seeds vary much or little

PUBLISHED = {
    "hyperiqa": {
        "label": "ResNet50 (HyperIQA, published)",
        "backbone": "ResNet50",
        "srcc": 0.8998,
        "plcc": 0.9098,
        "delta": None,
        "protocol": "its own split, crops and schedule; not run here",
    },
    "smart_iqa": {
        "label": "SMART-IQA (Swin-Base, published)",
        "backbone": "Swin-B",
        "srcc": 0.9378,
        "plcc": 0.9485,
        "delta": 0.0380,
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


def basis(comparison: dict) -> str:
    """What a comparison is about: 'sick' trainings, two trained 'models', or the 'ideas'."""
    if comparison["sick"]:
        return "sick"
    return "ideas" if comparison["srcc"]["seeds"] >= SEEDS_FOR_IDEAS else "models"


def reading(comparison: dict) -> str:
    """`decision`, with what it is about where that is not the ideas: 'higher (trained models)'."""
    found, about = decision(comparison), basis(comparison)
    if about == "sick":
        return f"{found} (a run is not sound)"
    return f"{found} (trained models)" if about == "models" and found != "undecided" else found


def size_words(low: float, high: float, gain: float) -> str:
    """The words of SIZE_RULES for an interval against a published gain."""
    return next((words for words, holds in SIZE_RULES if holds(low / gain, high / gain)), UNDECIDED_SIZE)


def against_published(comparison: dict, gain: float, what: str) -> str:
    """One sentence, without its full stop: the measured gain of both ideas beside a published gain."""
    named = f"{what} ({signed(gain)})"
    about = basis(comparison)
    if about == "sick":
        return f"Not compared with {named}, since a run that the comparison rests on is not sound"
    sentence = _beside_published(comparison, gain, named)
    return sentence if about == "ideas" else f"Between the trained models, {sentence[:1].lower()}{sentence[1:]}"


def _beside_published(comparison: dict, gain: float, named: str) -> str:
    interval = comparison["srcc"]
    words = size_words(interval["low"], interval["high"], gain)
    verdict = decision(comparison)
    if verdict == "higher":
        return f"The gain is {words} {named}"
    if verdict == "lower":
        return f"There is a loss where {named} is a gain"
    if words in ("much smaller than", "smaller than"):
        return f"No gain is shown, and any gain is {words} {named}"
    return (
        f"It is undecided: the interval holds no gain at all and one as large as {named}"
        if interval["low"] <= 0 and interval["high"] >= gain
        else f"It is undecided how any gain compares with {named}"
    )


def published(numbers: dict) -> dict:
    """The published rows, and how the measured numbers stand to them; nothing of the kind for a demo's or a sick run's."""
    full, both, comparable = (
        numbers["family"]["rows"][FULL],
        numbers["comparisons"]["both"],
        not numbers["dataset_note"],
    )
    whole = numbers["variants"][full] if full not in {run["variant"] for run, _ in sick_runs(numbers)} else None
    return {
        "rows": PUBLISHED,
        "distance_to_swin_base": PUBLISHED["smart_iqa"]["srcc"] - whole["srcc"]["estimate"]
        if whole and comparable
        else None,
        "sentences": [
            f"{against_published(both, gain, what)}: {source}."
            for name, (gain, what, source) in PUBLISHED_GAINS.items()
            if name != "total"
            or numbers["family"]["kind"] == CNN  # a Transformer's own backbone is no part of its gain
        ]
        if both and comparable
        else [],
    }


# ---- sentences -----------------------------------------------------------------------------------------------


def verdict(numbers: dict) -> list[str]:
    """Both ideas together; each alone; and, where it is not about the ideas, why not."""
    both = numbers["comparisons"]["both"]
    first = comparison_sentence("both", both, numbers) if both else missing_sentence(numbers)
    return [f"{capitalised(sentence)}." for sentence in (first, taken_apart(numbers), *not_of_ideas(numbers))]


def taken_apart(numbers: dict) -> str:
    alone = ("multiscale", "attention")
    parts = [_clause(name, numbers["comparisons"][name]) for name in alone if numbers["comparisons"][name]]
    return "Taken apart, " + "; ".join(parts) if parts else "There is nothing to take apart"


def comparison_sentence(name: str, comparison: dict, numbers: dict) -> str:
    return difference_sentence(
        *(sentence_name(numbers, ending) for ending in COMPARISONS[name][:2]), comparison, numbers
    )


def difference_sentence(before: str, after: str, comparison: dict, numbers: dict) -> str:
    """One sentence, without its full stop: how `after` stands to `before`, each as it is called in a sentence."""
    interval, of_ideas = comparison["srcc"], basis(comparison) == "ideas"
    models = "two trained models" if interval["seeds"] == 1 else "trained models"
    sample = sample_words(numbers, interval["seeds"])
    p_value = f"p {p_words(interval['p_holm'], '= ')} after Holm's correction"
    if comparison["identical"]:
        return f"no difference: {after} and {before} give every image the same score ({sample})"
    found = decision(comparison)
    if found == "undecided":
        between, pair = (
            ("", f"{after} and {before}") if of_ideas else ("between them ", f"the {models}, {after} and {before},")
        )
        ruled_out = f"{between}one larger than {reach(interval):.4f} is ruled out at 95%"
        return (
            f"no difference in SRCC can be shown between {pair} with {sample} "
            f"({with_interval(interval)}{correction(interval)}); "
            + (ruled_out if interval["low"] < interval["high"] else "the images are too few for an interval")
        )
    if not of_ideas:
        return (
            f"the {models} differ: {after} is {unsigned_interval(interval)} {found} in SRCC than {before}, "
            f"with {sample} (95% interval over images{' and seeds' * (interval['seeds'] > 1)}; {p_value})"
        )
    verb, against = ("improves", "over") if found == "higher" else ("lowers", "against")
    return (
        f"{after} {verb} SRCC by {unsigned_interval(interval)} {against} {before}, with {sample} "
        f"(95% interval over images and seeds; {p_value})"
    )


def _clause(name: str, comparison: dict) -> str:
    subject = {"multiscale": "multi-scale fusion alone", "attention": "attention on top of it"}[name]
    found, interval, of_ideas = decision(comparison), comparison["srcc"], basis(comparison) == "ideas"
    if found == "undecided":
        models = "" if of_ideas else " between the trained models"
        return f"no difference is shown{models} for {subject} ({with_interval(interval)}{correction(interval)})"
    if not of_ideas:
        return f"the trained models differ by {with_interval(interval)} for {subject}"
    verb = "improves" if found == "higher" else "lowers"
    return f"{subject} {verb} SRCC by {unsigned_interval(interval)}"


def not_of_ideas(numbers: dict) -> list[str]:
    """Why the verdict is about trained models: runs that are not sound, and too few seeds."""
    comparisons = all_comparisons(numbers)
    resting = {folder for comparison in comparisons for folder in comparison["sick"]}
    sick = [run for run in numbers["health"] if run["folder"] in resting]
    sentences = []
    if sick:
        *others, last = (f"of {run_words(run, numbers)}" for run in sick)
        names = f"{', '.join(others)} and {last}" if others else last
        sentences.append(
            f"the training{'s' * (len(sick) > 1)} {names} {'is' if len(sick) == 1 else 'are'} not sound: what rests on "
            f"{'it' if len(sick) == 1 else 'them'} is a comparison of trainings, not of ideas"
        )
    if comparisons and seeds_compared(numbers) < SEEDS_FOR_IDEAS:
        sentences.append(
            "one seed cannot tell the idea from the training"
            if seeds_compared(numbers) == 1
            else "two seeds are too few to tell the ideas from the trainings"
        )
    return sentences


def sentence_name(numbers: dict, ending: str) -> str:
    """What a variant is called in a sentence, by the ending of its log name."""
    return numbers["rows"][numbers["family"]["rows"][ending]]["sentence"]


def run_words(run: dict, numbers: dict) -> str:
    """'multi-scale fusion', with its seed where there are several."""
    seed = f" (seed {run['seed']})" if len(numbers["seeds"]) > 1 else ""
    return numbers["rows"][run["variant"]]["sentence"] + seed


def sick_runs(numbers: dict) -> list[tuple[dict, str]]:
    """Every run that is not sound, with a sentence for each sign of it."""
    return [
        (run, finding["sentence"])
        for run in numbers["health"]
        for finding in run["findings"]
        if finding["severity"] == "sick"
    ]


def health_notes(numbers: dict) -> list[str]:
    """What a reader may weigh in the health of the runs, and what is not known of it."""
    found = [
        f"{run['folder']}: {finding['sentence']}"
        for run in numbers["health"]
        for finding in run["findings"]
        if finding["severity"] == "note"
    ]
    unknown = [run["folder"] for run in numbers["health"] if not run["health"]["target_layers"]]
    return found + ([f"the layers of the target network were not measured in {listed(unknown)}."] if unknown else [])


def correction(interval: dict) -> str:
    """What to add where the interval of one comparison excludes 0 and the correction over all undoes that."""
    excludes_zero = interval["low"] * interval["high"] > 0
    return f", but p {p_words(interval['p_holm'], '= ')} after Holm's correction" if excludes_zero else ""


def missing_sentence(numbers: dict) -> str:
    absent = [variant for variant, found in numbers["variants"].items() if not found]
    return f"the comparison of both ideas with the baseline is missing, for want of {' and '.join(absent)}"


def seeds_compared(numbers: dict) -> int:
    """The seeds behind the comparison that has the fewest; of the runs where there is no comparison."""
    return min((c["srcc"]["seeds"] for c in all_comparisons(numbers)), default=len(numbers["seeds"]))


def sample_words(numbers: dict, seeds: int) -> str:
    """'2,015 images and one seed'"""
    return f"{numbers['test_images']:,} images and {'one seed' if seeds == 1 else f'{seeds} seeds'}"


def warnings(numbers: dict) -> list[str]:
    """What must be said before any number."""
    found = []
    if numbers["dataset_note"]:
        found.append(not_koniq(numbers))
    if numbers["selected_on"] != ["val"]:
        found.append("The epoch was chosen on the test images themselves, so every number here is optimistic.")
    found += [f"Compared in spite of a mismatch (--allow_mismatch): {mismatch}." for mismatch in numbers["mismatches"]]
    found += [f"{variant} is missing." for variant in numbers["missing"] if variant not in _begun(numbers)]
    found += [f"{folder} is unfinished: it has no result.json." for folder in numbers["unfinished"]]
    if seeds_compared(numbers) == 1:
        which = f" ({numbers['seeds'][0]})" if len(numbers["seeds"]) == 1 else " in a comparison"
        found.append(
            f"One seed{which}: the intervals are over images, and how much another seed would change is not known."
        )
    if seeds_compared(numbers) == 2:
        found.append(
            "Two seeds are few: where seeds vary much, the intervals cover the truth in about 90% rather than 95%."
        )
    if numbers["test_images"] < 100:
        found.append(f"{numbers['test_images']} test images are few: the intervals are rough.")
    undefined = max(v["srcc"]["undefined_draws"] for v in numbers["variants"].values() if v)
    if undefined:
        found.append(
            f"{undefined} of {numbers['bootstrap']['draws']} bootstrap draws held images of one score and "
            "were left out."
        )
    return found + numbers["notes"]


def not_koniq(numbers: dict) -> str:
    return (
        f"Not results on KonIQ-10k: {numbers['dataset_note']}. The published rows stand beside them for the layout "
        "only."
    )


def _begun(numbers: dict) -> set[str]:
    return {variant for variant in numbers["missing"] for f in numbers["unfinished"] if f.startswith(variant)}


# ---- cells ---------------------------------------------------------------------------------------------------


def mos_digits(numbers: dict) -> int:
    return mos_decimals(numbers["mos_range"])


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


def with_article(name: str) -> str:
    """'a ResNet50', 'an EfficientNet-lite0'"""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def counted(number: int, noun: str) -> str:
    """'1 run', '9 runs'"""
    return f"{number} {noun}{'s' * (number != 1)}"


def listed(items: Iterable[object]) -> str:
    return ", ".join(str(item) for item in items)
