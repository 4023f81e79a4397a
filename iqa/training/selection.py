"""Which epoch of a run counts, and by which set."""

from iqa.cli import say
from iqa.data.labels import QualityData


def choose_selection_set(name: str, data: QualityData) -> str:
    """The set whose SRCC chooses the epoch: validation; test where --select_on test asks for it or no other is there."""
    if len(data.sets["validation"]):
        return "val" if name == "auto" else name
    if name == "val":
        raise ValueError(f"--select_on val: the split of {data.root} has no validation images; use --select_on test")
    say("Warning: the split has no validation images, so the epoch is chosen on test: Selected Test is the peak.")
    return "test"


def best_epoch(history: list[dict], select_on: str) -> dict | None:
    """The line of the first epoch with the highest SRCC on the selection set, None where no epoch has one."""
    rows = [row for row in history if row[f"{select_on}_srcc"] is not None]
    return max(rows, key=lambda row: row[f"{select_on}_srcc"], default=None)
