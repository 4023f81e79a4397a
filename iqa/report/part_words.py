"""Parts of the test images -> sentences; the rule for what they may say is that of iqa/report/words.py."""

from iqa.report import words
from iqa.report.numbers import views
from iqa.report.parts import inside


def both_sentences(numbers: dict, part: dict) -> list[str]:
    """How both ideas stand to the baseline on the images of a part: a sentence for each backbone."""
    found = [(view, view["comparisons"]["both"]) for view in views(inside(numbers, part))]
    return [f"{words.capitalised(words.comparison_sentence('both', both, view) if both else words.missing_sentence(view))}."
            for view, both in found]


def group_sentences(numbers: dict) -> list[str]:
    """What telling the groups apart is worth, and how the variants stand within them."""
    groups = numbers["groups"]
    between, within = groups["between"], groups["within"]
    sentences = [f"A model that gave every image the mean MOS of its group, and told nothing else apart, would have SRCC "
                 f"{between['srcc']:.4f} and PLCC {between['plcc']:.4f} on all {numbers['test_images']:,} images."]
    if within:
        sentences += [f"Within the groups: {sentence[:1].lower()}{sentence[1:]}" for sentence in both_sentences(numbers, within)]
    return sentences


def without_sentences(numbers: dict) -> list[str]:
    """What was left out, and how both ideas stand to the baseline on what remains."""
    found = numbers["without"]
    unknown = f"; {words.counted(found['unknown'], 'name')} of it {'is' if found['unknown'] == 1 else 'are'} not among them" \
        if found["unknown"] else ""
    return [f"{found['left_out']:,} of the {found['of']:,} test images are named in {found['file']} and left out here{unknown}.",
            *both_sentences(numbers, found["part"])]


def readings(numbers: dict) -> None:
    """Put the sentences beside the numbers, for report.json and for all pages."""
    for key, sentences in (("groups", group_sentences), ("without", without_sentences)):
        if numbers[key]:
            numbers[key]["sentences"] = sentences(numbers)
