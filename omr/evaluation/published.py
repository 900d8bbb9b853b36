"""The accuracies that a recipe publishes, in percent: what an evaluation is held against."""

from typing import NamedTuple

from omr import recipe


class Published(NamedTuple):
    """Accuracy on a subset; `pass1` is None where only a majority is published."""

    pass1: float | None
    majority: float


def published(model: str, mode: str, benchmark: str, subset: str) -> Published | None:
    """What the recipe publishes for a row of its table; None where it says nothing."""
    found = next((r for r in recipe.in_force() if model in r.models), None)
    row = found.published.get((model, mode)) if found else None
    if row is None or benchmark != found.evaluation.benchmark or subset not in found.evaluation.subsets:
        return None
    return Published(*row[found.evaluation.subsets.index(subset)])
