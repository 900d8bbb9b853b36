"""The accuracies that the recipe publishes, in percent: what an evaluation is held against.

Source: NeMo-Skills, docs/releases/openmathreasoning/index.md at the commit in docker/pins.env; its table is
of comp-math-24-25, 64 samples a problem. GenSelect is its "self genselect": one number, a majority.
"""

from typing import NamedTuple

BENCHMARK = "comp-math-24-25"
SUBSETS = ("aime24", "aime25", "hmmt-24-25")


class Published(NamedTuple):
    """Accuracy on a subset; `pass1` is None where only a majority is published."""

    pass1: float | None
    majority: float


# fmt: off
_TABLE = {
    #  model  mode          pass@1 and majority@64 of aime24, aime25, hmmt-24-25
    ("1.5b", "cot"):       ((61.6, 80.0), (49.5, 66.7), (39.9, 53.6)),
    ("1.5b", "tir"):       ((52.0, 83.3), (39.7, 70.0), (37.2, 60.7)),
    ("1.5b", "genselect"): ((None, 83.3), (None, 70.0), (None, 62.2)),
    ("7b",   "cot"):       ((74.8, 80.0), (61.2, 76.7), (49.7, 57.7)),
    ("7b",   "tir"):       ((72.9, 83.3), (57.5, 76.7), (54.6, 66.3)),
    ("7b",   "genselect"): ((None, 86.7), (None, 76.7), (None, 68.4)),
    ("14b",  "cot"):       ((76.3, 83.3), (63.0, 76.7), (52.1, 60.7)),
    ("14b",  "tir"):       ((76.3, 86.7), (61.3, 76.7), (58.6, 70.9)),
    ("14b",  "genselect"): ((None, 86.7), (None, 76.7), (None, 72.4)),
    ("32b",  "cot"):       ((76.5, 86.7), (62.5, 73.3), (53.0, 59.2)),
    ("32b",  "tir"):       ((78.4, 93.3), (64.2, 76.7), (59.7, 70.9)),
    ("32b",  "genselect"): ((None, 93.3), (None, 80.0), (None, 73.5)),
}
# fmt: on


def published(model: str, mode: str, benchmark: str, subset: str) -> Published | None:
    """What the recipe publishes for a row of its table; None where it says nothing."""
    row = _TABLE.get((model, mode))
    if row is None or benchmark != BENCHMARK or subset not in SUBSETS:
        return None
    return Published(*row[SUBSETS.index(subset)])
