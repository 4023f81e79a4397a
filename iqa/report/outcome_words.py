"""The readings of iqa/report/outcomes.py in words, and which of the older note's three conclusions holds.

**Conclusions** (`choice`), from the first CNN and the first Transformer of a grid, each part "shown" as in words.py:

* both contribute: the backbone's gain between the baselines is shown, and the method's gain on both backbones;
* the method has good generality: the method's gain is shown on both backbones, and the backbone's is not;
* hierarchical features are crucial: the backbone's gain is shown, the method's on the CNN is not, and either the
  interaction is shown above 0 or outcome C is shown on the CNN: that something is undecided proves nothing;
* in all other cases it is undecided which of them holds.
"""

from iqa.report import words
from iqa.report.outcomes import OUTCOMES, SHOWN
from iqa.report.rows import CNN, FULL, TRANSFORMER

PUBLISHED_DEEP = 0.9967
CHOICES = {
    "hierarchical": "hierarchical features are crucial",
    "generality": "the method has good generality",
    "both": "both contribute",
}


# ---- the three outcomes ------------------------------------------------------------------------------------


def readings(view: dict) -> dict:
    """What is said of one backbone's outcome and attention."""
    return {"outcome_sentence": outcome_sentence(view), "attention_sentence": attention_sentence(view)}


def outcome_is_shown(outcome: dict, both: dict) -> bool:
    """Whether the bootstrap and the comparison agree on it: the draws alone make too much of few seeds."""
    if outcome["shares"][outcome["outcome"]] < SHOWN:
        return False
    if outcome["outcome"] == "C":
        return both["srcc"]["high"] < OUTCOMES["B"][0] * outcome["baseline_srcc"]
    return words.decision(both) == "higher"


def outcome_reading(outcome: dict | None, both: dict | None) -> str:
    """In a cell: 'A', 'A (trained models)', 'undecided' or why there is none."""
    if not outcome or not both:
        return "no relative gain" if both else "missing"
    if words.basis(both) == "sick":
        return "not read (a run is not sound)"
    if not outcome_is_shown(outcome, both):
        return "undecided"
    return outcome["outcome"] + (" (trained models)" if words.basis(both) == "models" else "")


def outcome_sentence(view: dict) -> str:
    """One sentence, with its full stop, for one backbone."""
    outcome, both, title = view["outcome"], view["comparisons"]["both"], view["family"]["title"]
    if not outcome or not both:
        return f"There is no outcome on {title}: " + (
            "the baseline's SRCC is not above 0." if both else "the full variant or the baseline is missing."
        )
    if words.basis(both) == "sick":
        return f"The outcome on {title} is not read, since a run that it rests on is not sound."
    shares = words.listed(f"{share:.1%} in {name}" for name, share in outcome["shares"].items())
    estimate = f"{outcome['relative_gain']:+.2%} of the baseline's SRCC is in {outcome['outcome']}, {OUTCOMES[outcome['outcome']][1]}"
    found = f"outcome {outcome['outcome']}" if outcome_is_shown(outcome, both) else "the outcome is undecided"
    between = "between the trained models, " if words.basis(both) == "models" else ""
    return words.capitalised(
        f"{between}{found} on {title}: the gain of both ideas, {estimate}; of the bootstrap {shares}."
    )


# ---- the three conclusions -----------------------------------------------------------------------------------


def choose(backbone: str, on_cnn: str, on_transformer: str, interaction: str, c_is_shown: bool) -> str | None:
    """A key of CHOICES, from what `words.decision` says of each part; None where it is undecided."""
    if on_cnn == on_transformer == "higher":
        return "both" if backbone == "higher" else "generality"
    if backbone == "higher" and on_cnn != "higher" and (interaction == "higher" or c_is_shown):
        return "hierarchical"
    return None


def choice(numbers: dict) -> dict | None:
    """Which conclusion holds, and in what words; None where no CNN and no Transformer were set against each other."""
    kinds = {name: found["family"]["kind"] for name, found in numbers["backbones"].items()}
    pair = next(
        (
            pair
            for pair in numbers["decomposition"]
            if (kinds[pair["reference"]], kinds[pair["other"]]) == (CNN, TRANSFORMER)
        ),
        None,
    )
    if not pair:
        return None
    cnn, transformer = (numbers["backbones"][pair[place]] for place in ("reference", "other"))
    parts = {
        "backbone": pair["contrasts"]["backbone_baseline"],
        "on_cnn": cnn["comparisons"]["both"],
        "on_transformer": transformer["comparisons"]["both"],
        "interaction": pair["contrasts"]["interaction"],
    }
    which = "Which holds of " + ", ".join(f"'{text}'" for text in CHOICES.values())
    if not all(parts.values()):
        return {"choice": None, "about": None, "sentence": f"{which} cannot be told, for want of rows."}
    bases = {words.basis(part) for part in parts.values()}
    about = next(basis for basis in ("sick", "models", "ideas") if basis in bases)
    if about == "sick":
        return {
            "choice": None,
            "about": about,
            "sentence": f"{which} is not read, since a run that it rests on is not sound.",
        }
    decisions = {name: words.decision(part) for name, part in parts.items()}
    c_is_shown = (
        bool(cnn["outcome"]) and cnn["outcome"]["outcome"] == "C" and outcome_is_shown(cnn["outcome"], parts["on_cnn"])
    )
    found = choose(**decisions, c_is_shown=c_is_shown)
    told = (
        f"gain of the backbone {decisions['backbone']}; of the method on {cnn['family']['title']} {decisions['on_cnn']} and on "
        f"{transformer['family']['title']} {decisions['on_transformer']}; interaction {decisions['interaction']}"
    )
    if not found:
        sentence = f"{which} is undecided ({told})."
    elif about == "models":
        sentence = (
            f"Between the trained models the pattern is that of '{CHOICES[found]}' ({told}), which so few seeds cannot "
            "make a finding."
        )
    else:
        sentence = f"{words.capitalised(CHOICES[found])} ({told})."
    return {"choice": found, "about": about, "sentence": sentence}


# ---- attention -----------------------------------------------------------------------------------------------

ATTENTION_WORDS = {
    "seen": "the published pattern is seen",
    "in part": "the published shift towards the deep stages is seen, its size or the balance is not",
    "reverse": "the reverse of the published shift is seen",
    "not seen": "the published pattern is not seen",
    "differs": "whether the published pattern is seen differs between the seeds",
}


def attention_sentence(view: dict) -> str | None:
    """Whether the published use of the scales is seen on one backbone; with a full stop."""
    found, title = view["attention_reading"], view["family"]["title"]
    if not found:
        return None
    if view["dataset_note"]:
        return "Not compared with the published attention: these are not KonIQ-10k's photographs."
    full = view["family"]["rows"][FULL]
    if any(run["variant"] == full for run, _ in words.sick_runs(view)):
        return f"Not compared with the published attention on {title}, since a run is not sound."
    where = (
        f"on {title}"
        if found["seeds"] >= words.SEEDS_FOR_IDEAS
        else f"in the trained model{'s' * (found['seeds'] > 1)} on {title}"
    )
    return (
        f"{words.capitalised(where)}, {ATTENTION_WORDS[found['reading']]}: stages 3 and 4 have {found['deep_in_best']:.1%} of the "
        f"weight in the best tenth and {found['deep_in_worst']:.1%} in the worst. SMART-IQA's paper reports "
        f"{PUBLISHED_DEEP:.2%} on the deep stages for good images, and a balance for bad ones."
    )
