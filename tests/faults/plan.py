"""Which faults befall which stages: a seed decides it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .families import FAMILIES
from .families.base import Fault


@dataclass(frozen=True)
class Planned:
    """A trial that is to be made."""

    number: int
    family: str
    fault: Fault
    stage: str
    seed: str


def plan(seed: int, count: int) -> list[Planned]:
    """`count` trials: the families in turn, each family's faults and stages in an order that `seed` decides.

    A longer campaign of the same seed begins with the shorter one.
    """
    dice = random.Random(seed)
    decks = {family: _deck(faults, dice) for family, faults in FAMILIES.items()}
    turns = [family for _ in range(count) for family in decks][:count]
    drawn = [(family, *next(decks[family])) for family in turns]
    return [
        Planned(number, family, fault, stage, f"{seed}-{number}")
        for number, (family, fault, stage) in enumerate(drawn, 1)
    ]


def _deck(faults: tuple[Fault, ...], dice: random.Random) -> Iterator[tuple[Fault, str]]:
    """Every fault with every stage of its own before any comes twice; faults and stages take turns."""
    pairs = [(fault, stage) for fault in faults for stage in fault.stages]
    while True:
        dice.shuffle(pairs)
        left = list(pairs)
        seen: dict[str, int] = {}
        while left:
            least = min(left, key=lambda pair: seen.get(pair[1], 0) + seen.get(pair[0].name, 0))
            left.remove(least)
            for word in (least[1], least[0].name):
                seen[word] = seen.get(word, 0) + 1
            yield least
