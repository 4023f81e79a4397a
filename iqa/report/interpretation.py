"""Numbers -> the numbers with what they are read as: the verdict, what each comparison is about, published figures."""

from iqa.report import grid_words as grid_words
from iqa.report import outcome_words as outcome_words
from iqa.report import part_words, words
from iqa.report.numbers import smart_iqa_view


def interpret(numbers: dict) -> None:
    """Put the readings beside the numbers, for report.json and for all pages."""
    part_words.readings(numbers)
    if "backbones" not in numbers:
        numbers |= {
            "verdict": words.verdict(numbers),
            "verdict_is_about": _about(numbers["comparisons"]),
            "published": words.published(numbers),
            **outcome_words.readings(numbers),
        }
        return
    for backbone, view in zip(numbers["backbones"].values(), grid_words.views(numbers), strict=True):
        backbone |= {
            "verdict_is_about": _about(view["comparisons"]),
            "published": grid_words.published_of(view),
            **outcome_words.readings(view),
        }
    numbers["published_attention"]["attention_sentence"] = outcome_words.attention_sentence(smart_iqa_view(numbers))
    numbers |= {
        "verdict": grid_words.verdict(numbers),
        "published": grid_words.published(numbers),
        "conclusion": outcome_words.choice(numbers),
        "verdict_is_about": [_about(pair["contrasts"]) for pair in numbers["decomposition"]],
    }


def _about(comparisons: dict[str, dict | None]) -> dict[str, str | None]:
    return {name: words.basis(found) if found else None for name, found in comparisons.items()}
