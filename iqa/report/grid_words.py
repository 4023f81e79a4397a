"""The numbers of a grid -> its sentences: what the backbone adds, what the method adds on each, and their interaction.

The rules are those of iqa/report/words.py: a contrast is shown or undecided by its p-value after Holm's correction over
every comparison of the grid, and it is about the ideas only with three seeds or more whose runs are all sound.
"""

from iqa.report import words
from iqa.report.decomposition import CONTRASTS
from iqa.report.numbers import COMPARISONS, views
from iqa.report.rows import BASELINE, CNN, FULL, SMART_IQA, TRANSFORMER

# What the measured numbers of Swin-B over ResNet50 are set beside: contrast -> (gain, what it is, where it is from)
PUBLISHED_CONTRASTS = {
    "total": words.PUBLISHED_GAINS["total"][:2]
    + ("the difference of two published figures under different protocols",),
    "backbone_baseline": (
        0.9338 - 0.8998,
        "the published gain of the Swin-Base backbone without the two ideas",
        "0.9338, one run of its authors' ablation, less HyperIQA's 0.8998 under another protocol",
    ),
}

NOUNS = {
    "backbone_baseline": "the gain of the backbone",
    "backbone_full": "the gain of the backbone under both ideas",
    "interaction": "the interaction of method and backbone",
    "total": "the total gain",
}


def title(numbers: dict, backbone: str) -> str:
    return numbers["backbones"][backbone]["family"]["title"]


def heading(numbers: dict) -> str:
    """'ResNet50 and Swin-B'"""
    titles = [backbone["family"]["title"] for backbone in numbers["backbones"].values()]
    return f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) > 1 else titles[0]


def labelled(numbers: dict) -> list[tuple[str, dict | None]]:
    """Every comparison within a backbone, with its name in tables, which says the backbone where there are several."""
    if "backbones" not in numbers:
        return [(COMPARISONS[name][2], found) for name, found in numbers["comparisons"].items()]
    return [
        (f"{view['family']['title']}: {COMPARISONS[name][2][:1].lower()}{COMPARISONS[name][2][1:]}", found)
        for view in views(numbers)
        for name, found in view["comparisons"].items()
    ]


def contrasts(numbers: dict) -> list[tuple[str, dict | None]]:
    """Every contrast between backbones, and that of the two published models, with its name in tables."""
    several = len(numbers["decomposition"]) > 1
    found = [
        (CONTRASTS[name].title + (f" ({title(numbers, pair['other'])})" if several else ""), contrast)
        for pair in numbers["decomposition"]
        for name, contrast in pair["contrasts"].items()
    ]
    if any(row.startswith("published_") for row in numbers["variants"]):
        found.append(("SMART-IQA over HyperIQA (both run here)", numbers["published_models"]))
    return found


# ---- the verdict ---------------------------------------------------------------------------------------------


def verdict(numbers: dict) -> list[str]:
    """The method on each backbone, the backbone, the interaction, the total, and what limits them."""
    sentences = []
    for view in views(numbers):
        both = view["comparisons"]["both"]
        sentences.append(
            words.comparison_sentence("both", both, view)
            if both
            else f"on {view['family']['title']}, {words.missing_sentence(view)}"
        )
    for pair in numbers["decomposition"]:
        sentences += [contrast_sentence(name, pair, numbers) for name in ("backbone_baseline", "interaction", "total")]
    if numbers["published_models"]:
        names = (numbers["rows"][row]["sentence"] for row in ("published_hyperiqa", "published_smart_iqa"))
        sentences.append(words.difference_sentence(*names, numbers["published_models"], numbers))
    return [f"{words.capitalised(sentence)}." for sentence in (*sentences, *words.not_of_ideas(numbers))]


def contrast_sentence(name: str, pair: dict, numbers: dict) -> str:
    """One sentence, without its full stop."""
    contrast = pair["contrasts"][name]
    if not contrast:
        return f"{NOUNS[name]} cannot be told, for want of {' and '.join(absent(name, pair, numbers))}"
    if name == "interaction":
        return interaction_sentence(contrast, title(numbers, pair["reference"]), title(numbers, pair["other"]))
    (_, _, after), (_, _, before) = CONTRASTS[name].terms
    rows = (
        numbers["backbones"][pair[place]]["family"]["rows"][ending]
        for place, ending in (("reference", before), ("other", after))
    )
    return words.difference_sentence(*(numbers["rows"][row]["sentence"] for row in rows), contrast, numbers)


def absent(name: str, pair: dict, numbers: dict) -> list[str]:
    """The log names of the rows without which a contrast cannot be made."""
    rows = [
        numbers["backbones"][pair["other" if of_other else "reference"]]["family"]["rows"][ending]
        for _, of_other, ending in CONTRASTS[name].terms
    ]
    return [row for row in numbers["variants"] if row in rows and not numbers["variants"][row]]


def interaction_sentence(contrast: dict, reference: str, other: str) -> str:
    """Does the method do more for the other backbone?"""
    found, interval, of_ideas = words.decision(contrast), contrast["srcc"], words.basis(contrast) == "ideas"
    gains = f"both ideas on {other} and on {reference}"
    between = "" if of_ideas else "between the trained models, "
    if contrast["identical"]:
        return f"{between}no difference between the gains of {gains}: they are the same in every draw"
    p_value = f"p {words.p_words(interval['p_holm'], '= ')} after Holm's correction"
    if found == "undecided":
        ruled_out = (
            f"; a difference larger than {words.reach(interval):.4f} is ruled out at 95%"
            if interval["low"] < interval["high"]
            else ""
        )
        return (
            f"{between}it is undecided whether the gains of {gains} differ: the difference of the two is "
            f"{words.with_interval(interval)}{words.correction(interval)}{ruled_out}"
        )
    more = "more" if found == "higher" else "less"
    size = f"by {words.unsigned_interval(interval)} in SRCC (95% interval over images{' and seeds' * (interval['seeds'] > 1)}; {p_value})"
    if of_ideas:
        return f"both ideas together do {more} for {other} than for {reference}, {size}"
    return f"between the trained models, the gain of both ideas is {'larger' if more == 'more' else 'smaller'} on {other} than on {reference}, {size}"


# ---- beside published figures --------------------------------------------------------------------------------


def published(numbers: dict) -> dict:
    """How the measured contrasts of Swin-B over ResNet50 stand to the published ones; nothing where the data are others."""
    pairs = [pair for pair in numbers["decomposition"] if (pair["reference"], pair["other"]) == ("resnet50", "swin_b")]
    if numbers["dataset_note"] or not pairs:
        return {"sentences": []}
    return {
        "sentences": [
            labelled_sentence(
                NOUNS[name], f"{words.against_published(pairs[0]['contrasts'][name], gain, what)}: {source}."
            )
            for name, (gain, what, source) in PUBLISHED_CONTRASTS.items()
            if pairs[0]["contrasts"][name]
        ]
    }


def published_of(view: dict) -> dict:
    """`words.published` of one backbone, its sentences told apart from those of the others."""
    found = words.published(view)
    name = f"both ideas on {view['family']['title']}"
    return found | {"sentences": [labelled_sentence(name, sentence) for sentence in found["sentences"]]}


def labelled_sentence(name: str, sentence: str) -> str:
    return f"{words.capitalised(name)}: {sentence[:1].lower()}{sentence[1:]}"


def delta(numbers: dict, row: str) -> dict | None:
    """The comparison of a row with the baseline of its backbone, and of SMART-IQA with HyperIQA; None for those."""
    if row == SMART_IQA:
        return numbers["published_models"]
    for view in views(numbers):
        endings = {log_name: ending for ending, log_name in view["family"]["rows"].items()}
        for first, second, _ in COMPARISONS.values():
            if first == BASELINE and endings.get(row) == second:
                return view["comparisons"]["both" if second == FULL else "multiscale"]
    return None


def blocks(numbers: dict) -> list[tuple[str, dict, list[str]]]:
    """Each block of a table: its name, the published figure of its kind, and the log names of its rows."""
    return [
        (
            f"{kind}-based",
            words.PUBLISHED[figure],
            [row for row in numbers["variants"] if numbers["rows"][row]["kind"] == kind],
        )
        for kind, figure in ((CNN, "hyperiqa"), (TRANSFORMER, "smart_iqa"))
    ]
