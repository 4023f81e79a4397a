"""Parts of the test images -> sentences; the rule for what they may say is that of iqa/report/words.py."""

from iqa.report import words
from iqa.report.numbers import COMPARISONS, views
from iqa.report.parts import inside


def both_sentences(numbers: dict, part: dict) -> list[str]:
    """How both ideas stand to the baseline on the images of a part: a sentence for each backbone."""
    found = [(view, view["comparisons"]["both"]) for view in views(inside(numbers, part))]
    return [
        f"{words.capitalised(words.comparison_sentence('both', both, view) if both else words.missing_sentence(view))}."
        for view, both in found
    ]


def group_sentences(numbers: dict) -> list[str]:
    """What telling the groups apart is worth, and how the variants stand within them."""
    groups = numbers["groups"]
    between, within = groups["between"], groups["within"]
    sentences = [
        f"A model that gave every image the mean MOS of its group, and told nothing else apart, would have SRCC "
        f"{between['srcc']:.4f} and PLCC {between['plcc']:.4f} on all {numbers['test_images']:,} images."
    ]
    if within:
        sentences += [
            f"Within the groups: {sentence[:1].lower()}{sentence[1:]}" for sentence in both_sentences(numbers, within)
        ]
    return sentences


def without_sentences(numbers: dict) -> list[str]:
    """What was left out, and how both ideas stand to the baseline on what remains."""
    found = numbers["without"]
    unknown = (
        f"; {words.counted(found['unknown'], 'name')} of it {'is' if found['unknown'] == 1 else 'are'} not among them"
        if found["unknown"]
        else ""
    )
    return [
        f"{found['left_out']:,} of the {found['of']:,} test images are named in {found['file']} and left out here{unknown}.",
        *both_sentences(numbers, found["part"]),
    ]


def elsewhere_sentences(numbers: dict) -> list[str]:
    """Whether the order of the variants holds on other data sets; how both ideas stand there; what limits it."""
    found = numbers["elsewhere"]
    measured = [part for part in found["parts"] if not part["error"]]
    sentences = [order["sentence"] for order in found["order"]]
    sentences += [
        f"On {part['name']}: {sentence[:1].lower()}{sentence[1:]}"
        for part in measured
        for sentence in both_sentences(numbers, part)
    ]
    sentences += [
        f"{part['name']} does not lie outside the training data: {part['seen']}."
        for part in found["parts"]
        if part["seen"]
    ]
    sentences += [
        f"Not evaluated on {part['name']}: {words.listed(part['without'])}."
        for part in found["parts"]
        if part["without"]
    ]
    sentences += [
        f"Compared in spite of a mismatch (--allow_mismatch): {mismatch}." for mismatch in found["mismatches"]
    ]
    return sentences + found["left_out"]


def order_of(numbers: dict, view: dict) -> dict:
    """Whether the order of one backbone's variants on the test images holds outside the training data.

    Args:
        view: the backbone's numbers, of `iqa.report.numbers.views`.
    """
    parts = [part for part in numbers["elsewhere"]["parts"] if not (part["seen"] or part["error"])]
    there = {part["name"]: _same_backbone(view, views(inside(numbers, part))) for part in parts}
    claims = {
        name: decision
        for name, found in view["comparisons"].items()
        if found and (decision := words.decision(found)) != "undecided"
    }
    fates = {
        name: {place: _fate(decision, other["comparisons"][name]) for place, other in there.items()}
        for name, decision in claims.items()
    }
    reading = _reading([fate for of_places in fates.values() for fate in of_places.values()], bool(there))
    on = f" on {view['family']['title']}" if "backbones" in numbers else ""
    orders = {place: _ranking(other) for place, other in there.items()}
    return {
        "reading": reading,
        "order": _ranking(view),
        "elsewhere": orders,
        "shown": claims,
        "fates": fates,
        "sentence": _order_sentence(numbers, view, reading, orders, fates, on),
    }


def _same_backbone(view: dict, others: list[dict]) -> dict:
    return next(other for other in others if other["family"]["backbone"] == view["family"]["backbone"])


def _fate(decision: str, found: dict | None) -> str:
    """What becomes of a difference elsewhere."""
    if not found:
        return "cannot be told"
    there = words.decision(found)
    return "holds" if there == decision else "is not shown" if there == "undecided" else "is reversed"


def _reading(fates: list[str], outside: bool) -> str:
    if not outside:
        return "not measured"
    if not fates:
        return "nothing to hold"
    if "is reversed" in fates:
        return "does not hold"
    held = fates.count("holds")
    return "holds" if held == len(fates) else "holds in part" if held else "not shown"


def _ranking(view: dict) -> list[str]:
    """The log names of the variants that have numbers, the highest SRCC first."""
    found = {row: view["variants"][row] for row in view["family"]["rows"].values() if view["variants"].get(row)}
    return sorted(found, key=lambda row: -found[row]["srcc"]["estimate"])


def _order_sentence(numbers: dict, view: dict, reading: str, orders: dict, fates: dict, on: str) -> str:
    if reading == "not measured":
        return (
            f"Whether the order of the variants{on} holds outside the training data is not measured: no data set with numbers "
            "lies outside it."
        )
    rows = numbers["rows"]

    def ranked(order: list[str]) -> str:
        return ", then ".join(rows[row]["sentence"] for row in order)

    home = _ranking(view)
    same = [place for place, order in orders.items() if order == home]
    others = [f"on {place} {ranked(order)}" for place, order in orders.items() if order != home]
    by_estimate = (
        f"By the estimates of SRCC alone the order on the test images is {ranked(home)}"
        + (f"; the same on {words.listed(same)}" if same else "")
        + "".join(f"; {text}" for text in others)
    )
    about = (
        ""
        if all(words.basis(found) == "ideas" for found in view["comparisons"].values() if found)
        else " This is said of the trained models, not of the ideas."
    )
    if reading == "nothing to hold":
        return (
            f"No difference between the variants{on} is shown on the test images, so there is no order that could hold outside "
            f"the training data. {by_estimate}.{about}"
        )
    verdicts = {
        "holds": "holds outside the training data",
        "does not hold": "does not hold outside the training data",
        "holds in part": "holds outside the training data in part",
        "not shown": "is not shown outside the training data",
    }
    told = "; ".join(
        f"{COMPARISONS[name][2][:1].lower()}{COMPARISONS[name][2][1:]} "
        + ", ".join(f"{fate} on {place}" for place, fate in places.items())
        for name, places in fates.items()
    )
    return (
        f"The order of the variants{on} {verdicts[reading]}: of the differences shown on the test images, {told}. "
        f"{by_estimate}.{about}"
    )


def readings(numbers: dict) -> None:
    """Put the sentences beside the numbers, for report.json and for all pages."""
    if numbers["elsewhere"]:
        numbers["elsewhere"]["order"] = [order_of(numbers, view) for view in views(numbers)]
    for key, sentences in (
        ("elsewhere", elsewhere_sentences),
        ("groups", group_sentences),
        ("without", without_sentences),
    ):
        if numbers[key]:
            numbers[key]["sentences"] = sentences(numbers)
