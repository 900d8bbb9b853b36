"""What every family has in common."""

from collections.abc import Callable
from dataclasses import dataclass

from ..trial import Trial

ALL = ("data", "model", "prepare", "train", "convert", "average", "eval")


@dataclass(frozen=True)
class Fault:
    """Something that happens."""

    name: str
    stages: tuple[str, ...]
    inflict: Callable[
        [Trial], None
    ]  # begins the stage, does it, waits for the end; what mends it is in `undo`
