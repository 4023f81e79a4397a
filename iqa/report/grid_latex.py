"""The numbers of a grid -> report.tex: a subsection and its table, by kind of backbone."""

from iqa.report import grid_words as grid_words
from iqa.report import part_sections, words
from iqa.report.latex import complexity_table, escaped, health, level, limits, maths

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
\begin{tabular}{llcc}
\hline
Configuration & Backbone & SRCC & $\Delta$ [95\%%] \\
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


def page(numbers: dict) -> str:
    """The whole of report.tex."""
    note, sample = numbers["dataset_note"], words.sample_words(numbers, words.seeds_compared(numbers))
    title = grid_words.heading(numbers)
    sentences = [
        sentence for backbone in numbers["backbones"].values() for sentence in backbone["published"]["sentences"]
    ]
    return PAGE % {
        "warning": rf"\textbf{{{escaped(f'Not results on KonIQ-10k: {note}.')}}} " if note else "",
        "question": "To see which part of the gain the backbone brings and which the method, we train three variants of a HyperIQA-style "
        f"model, without and with multi-scale fusion and channel attention, on {escaped(title)} with the same "
        r"settings (Table~\ref{tab:cnn-backbones}).",
        "health": escaped(health(numbers)),
        "verdict": escaped(" ".join(numbers["verdict"])),
        "published": escaped(
            " ".join(
                [
                    *numbers["published"]["sentences"],
                    *dict.fromkeys(sentences),
                    *(backbone["outcome_sentence"] for backbone in numbers["backbones"].values()),
                    *([numbers["conclusion"]["sentence"]] if numbers["conclusion"] else []),
                ]
            )
        ),
        "complexity": complexity_table(numbers),
        "elsewhere": part_sections.latex(numbers, escaped),
        "limits": escaped(limits(numbers)),
        "caption": escaped(_caption(numbers, title, sample)),
        "rows": "\n".join(rows(numbers)),
        "figure": escaped(
            f"Differences in SRCC with 95% intervals, {sample}."
            + (f" Not results on KonIQ-10k: {note}." if note else "")
        ),
    }


def _caption(numbers: dict, title: str, sample: str) -> str:
    note = numbers["dataset_note"]
    return " ".join(
        [
            f"Not results on KonIQ-10k: {note}."
            if note
            else f"Multi-scale fusion and channel attention on {title}, KonIQ-10k.",
            f"{words.capitalised(sample)}; differences are to the baseline on the same backbone, for SMART-IQA to HyperIQA, paired by "
            "image. The rows in italics are published figures, measured under other protocols.",
        ]
    )


def rows(numbers: dict) -> list[str]:
    """The lines of the table's body: a block for each kind of backbone."""
    lines = []
    for name, figure, names in grid_words.blocks(numbers):
        lines += [r"\hline"] * bool(lines) + [rf"\multicolumn{{4}}{{l}}{{\textit{{{name}}}}} \\"]
        delta = f"${words.signed(figure['delta'])}$" if figure["delta"] else "--"
        lines.append(
            rf"\textit{{{escaped(figure['label'])}}} & {figure['backbone']} & \textit{{{figure['srcc']:.4f}}} & {delta} \\"
        )
        lines += [_row(numbers, row) for row in names]
    return lines


def _row(numbers: dict, row: str) -> str:
    found, names = numbers["variants"][row], [escaped(numbers["rows"][row][key]) for key in ("title", "backbone")]
    if not found:
        return " & ".join([*names, *["missing"] * 2]) + r" \\"
    change = grid_words.delta(numbers, row)
    return (
        " & ".join([*names, level(found["srcc"]), maths(words.with_interval(change["srcc"])) if change else "--"])
        + r" \\"
    )
