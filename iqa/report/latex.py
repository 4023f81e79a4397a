"""Numbers -> report.tex: a subsection and its table for an article that loads no package beyond graphicx."""

import re

from iqa.report import part_sections, words
from iqa.report.markdown import complexity_cells
from iqa.report.numbers import views
from iqa.report.rows import FULL, MULTISCALE

ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"$<$",
        ">": r"$>$",
        "Δ": r"$\Delta$",
        "±": r"$\pm$",
        "–": "--",
        "—": "---",
        "×": r"$\times$",
        "’": "'",
        "…": "...",
    }
)

PAGE = r"""%% Written by report_ablation.py from finished runs; needs \usepackage{graphicx}.
\subsection{Generalization to CNN Backbones}
\label{sec:cnn-backbones}

%(warning)s%(question)s

%(health)s%(verdict)s %(published)s

%(limits)s

\begin{table}[htbp]
\centering
\caption{%(caption)s}
\label{tab:cnn-backbones}
\resizebox{\columnwidth}{!}{%%
\begin{tabular}{lcccr}
\hline
Configuration & SRCC & PLCC & $\Delta$ SRCC [95\%%] & Time \\
\hline
%(rows)s
\hline
\end{tabular}}
\end{table}

%(complexity)s%(elsewhere)s

\IfFileExists{figures/delta_srcc.pdf}{%%
\begin{figure}[htbp]
\centering
\includegraphics[width=\columnwidth]{figures/delta_srcc.pdf}
\caption{%(figure)s}
\label{fig:cnn-backbones}
\end{figure}}{}
"""


COMPLEXITY = r"""\begin{table}[htbp]
\centering
\caption{Complexity%(caption)s.}
\label{tab:cnn-backbones-complexity}
\resizebox{\columnwidth}{!}{%%
\begin{tabular}{llrrr}
\hline
Configuration & Backbone & Parameters & GFLOPs per patch & Patches/s in training \\
\hline
%(rows)s
\hline
\end{tabular}}
\end{table}"""


def escaped(text: str) -> str:
    """Text as LaTeX shows it letter by letter; what its default fonts lack becomes a question mark."""
    plain = text.translate(ESCAPES).encode("ascii", "replace").decode("ascii")
    return re.sub(r"(?<![\w.)-])-(?=\.?\d)", "$-$", plain)  # a minus, which as text would be a hyphen


def page(numbers: dict) -> str:
    """The whole of report.tex."""
    note, title = numbers["dataset_note"], escaped(words.with_article(numbers["family"]["title"]))
    return PAGE % {
        "complexity": complexity_table(numbers),
        "elsewhere": part_sections.latex(numbers, escaped),
        "warning": rf"\textbf{{{escaped(f'Not results on KonIQ-10k: {note}.')}}} " if note else "",
        "question": "To see whether multi-scale fusion and channel attention help a plain CNN as well, we train three "
        f"variants of a HyperIQA-style model on {title} with the same settings (Table~"
        r"\ref{tab:cnn-backbones}).",
        "health": escaped(health(numbers)),
        "verdict": escaped(" ".join(numbers["verdict"])),
        "published": escaped(" ".join([*numbers["published"]["sentences"], numbers["outcome_sentence"]])),
        "limits": escaped(limits(numbers)),
        "caption": escaped(_caption(numbers)),
        "rows": "\n".join(rows(numbers)),
        "figure": escaped(
            f"Differences in SRCC with 95% intervals, {words.sample_words(numbers, words.seeds_compared(numbers))}."
            + (f" Not results on KonIQ-10k: {note}." if note else "")
        ),
    }


def complexity_table(numbers: dict) -> str:
    """The second table: what each row costs, on the device that it was trained on."""
    timed = any(found and found["patches_per_second"] is not None for found in numbers["variants"].values())
    devices = {str(run["device"]) for run in numbers["setup"] if run["device"]} if timed else set()
    rows = [
        " & ".join(
            [
                escaped(numbers["rows"][row]["title"]),
                escaped(numbers["rows"][row]["backbone"]),
                *complexity_cells(found),
            ]
        )
        + r" \\"
        for row, found in numbers["variants"].items()
    ]
    where = f"; patches per second were measured on {', '.join(sorted(devices))}" if devices else ""
    return COMPLEXITY % {"caption": escaped(where), "rows": "\n".join(rows)}


def health(numbers: dict) -> str:
    """The signs of runs that are not sound, each in a sentence, and a blank line; nothing where there are none."""
    sentences = [
        f"{words.capitalised(words.run_words(run, numbers))}: {sentence}" for run, sentence in words.sick_runs(numbers)
    ]
    return f"Not every training is sound. {' '.join(sentences)}\n\n" if sentences else ""


def limits(numbers: dict) -> str:
    """What the runs cannot show, and the differences between them that were allowed."""
    chosen = "the validation images" if numbers["selected_on"] == ["val"] else "the test images, which is optimistic"
    sentences = [f"The epoch was chosen on {chosen}."]
    for view in views(numbers):
        if not view["comparisons"]["both"]:
            continue
        power = view["comparisons"]["both"]["power"]
        on = f" on {view['family']['title']}" if "backbones" in numbers else ""
        sentences.append(
            f"The predictions of the two models{on} correlate at {power['prediction_srcc']:.3f} (SRCC), so that one run of "
            f"each on these images resolves differences of {power['resolvable']:.4f} or more with 80% power in a single test."
        )
    if words.seeds_compared(numbers) == 1:
        sentences.append("One seed was trained, and the intervals do not cover what another would change.")
    sentences += [f"Compared in spite of a mismatch: {mismatch}." for mismatch in numbers["mismatches"]]
    return " ".join(sentences)


def _caption(numbers: dict) -> str:
    note = numbers["dataset_note"]
    return " ".join(
        [
            f"Not results on KonIQ-10k: {note}."
            if note
            else "Multi-scale fusion and channel attention on "
            f"{words.with_article(numbers['family']['title'])}, KonIQ-10k.",
            f"{words.capitalised(words.sample_words(numbers, words.seeds_compared(numbers)))}; differences to the baseline are paired by image. The "
            "published rows were measured under other protocols.",
        ]
    )


def rows(numbers: dict) -> list[str]:
    """The lines of the table's body."""
    first, last = (_published_row(row) for row in words.PUBLISHED.values())
    log_names = numbers["family"]["rows"]
    deltas = {log_names[MULTISCALE]: "multiscale", log_names[FULL]: "both"}
    return [
        first,
        *(
            _row(escaped(numbers["rows"][variant]["title"]), found, numbers["comparisons"].get(deltas.get(variant, "")))
            for variant, found in numbers["variants"].items()
        ),
        last,
    ]


def _published_row(row: dict) -> str:
    delta = f"${words.signed(row['delta'])}$" if row["delta"] else "--"
    return rf"{row['label']} & {row['srcc']:.4f} & {row['plcc']:.4f} & {delta} & -- \\"


def _row(label: str, found: dict | None, delta: dict | None) -> str:
    if not found:
        return " & ".join([label, *["missing"] * 4]) + r" \\"
    change = maths(words.with_interval(delta["srcc"])) if delta else "--"
    return (
        " & ".join(
            [
                label,
                level(found["srcc"]),
                level(found["plcc"]),
                change,
                words.duration(found["seconds"]),
            ]
        )
        + r" \\"
    )


def level(interval: dict) -> str:
    spread = rf" $\pm$ {interval['seed_deviation']:.4f}" if interval["seeds"] > 1 else ""
    return f"{interval['estimate']:.4f}{spread}"


def maths(text: str) -> str:
    return f"${text}$".replace(" [", r"\ [").replace(", ", r",\ ")
