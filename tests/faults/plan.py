"""Which faults befall which stages: a seed decides it."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from .families import FAMILIES
from .families.base import Fault

LEAST = 5  # trials of a family of fewer faults, in a hundred


@dataclass(frozen=True)
class Planned:
    """A trial that is to be made."""

    number: int
    family: str
    fault: Fault
    stage: str
    seed: str


def plan(seed: int, count: int) -> list[Planned]:
    """`count` trials, of faults and stages in an order that `seed` decides.

    The families take turns by how many faults they have, so that a hundred trials have each of them. A longer
    campaign of the same seed begins with the shorter one.
    """
    # A family draws with dice of its own: a fault more in one leaves the trials of the others as they are.
    decks = {name: _deck(faults, random.Random(f"{seed}-{name}")) for name, faults in FAMILIES.items()}
    drawn = [(family, turn, *next(decks[family])) for family, turn in _turns(count)]
    return [
        Planned(number, family, fault, stage, f"{seed}-{family}-{turn}")
        for number, (family, turn, fault, stage) in enumerate(drawn, 1)
    ]


def _turns(count: int) -> Iterator[tuple[str, int]]:
    """Families, each as often as it has faults, or LEAST, and which of its turns it is from 1.

    The one that is furthest behind is next.
    """
    had = dict.fromkeys(FAMILIES, 0)
    for _ in range(count):
        family = min(had, key=lambda name: had[name] / max(LEAST, len(FAMILIES[name])))
        had[family] += 1
        yield family, had[family]


def _deck(faults: tuple[Fault, ...], dice: random.Random) -> Iterator[tuple[Fault, str]]:
    """Every fault before one comes twice, and every stage of a fault; stages take turns."""
    pairs = [(fault, stage) for fault in faults for stage in fault.stages]
    while True:
        dice.shuffle(pairs)
        left = list(pairs)
        seen: dict[Fault | str, int] = {}
        while left:
            least = min(left, key=lambda pair: (seen.get(pair[0], 0), seen.get(pair[1], 0)))
            left.remove(least)
            for word in least:
                seen[word] = seen.get(word, 0) + 1
            yield least
