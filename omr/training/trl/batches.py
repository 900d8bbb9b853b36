"""Which rows train at which step, and how a step's rows are grouped into micro-batches."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy

SEED = 42  # of the order of rows: NeMo-Skills' sft.seed
PADDED_TOKENS = 8192  # of a padded micro-batch on a CPU: small enough to stay in its caches
LONGEST_TO_SHORTEST = 1.3  # of the rows of a padded micro-batch, so that little of it is padding
GroupRows = Callable[[Sequence[int]], list[list[int]]]  # lengths in tokens -> micro-batches of indices


class EpochOrder:
    """Which rows train at which step: each epoch is a new permutation, and begins where the last one ends.

    No row is dropped at the end of an epoch: a step may have rows of two. The permutations come from a bit
    generator's raw output, which numpy promises not to change, so that a run goes on in the same order after
    an upgrade.
    """

    def __init__(self, rows: int, batch: int, seed: int = SEED) -> None:
        self.rows, self.batch, self.seed = rows, batch, seed
        self._epoch, self._permutation = -1, None

    def rows_of(self, step: int) -> list[int]:
        """Row numbers of a step's batch; steps count from 0."""
        first = step * self.batch
        return [int(self._permuted(n // self.rows)[n % self.rows]) for n in range(first, first + self.batch)]

    def _permuted(self, epoch: int) -> "numpy.ndarray":
        """Row numbers in the order of an epoch; the last epoch that was asked for is kept."""
        import numpy as np

        if epoch != self._epoch:
            keys = np.random.PCG64([self.seed, epoch]).random_raw(self.rows)
            self._epoch, self._permutation = epoch, np.argsort(keys, kind="stable")
        return self._permutation


def grouping(packed: bool, sequence_length: int) -> GroupRows:
    """How rows become micro-batches: set end to end, at most `sequence_length` tokens, or padded."""
    if packed:
        return partial(packed_groups, tokens=sequence_length)
    return partial(padded_groups, tokens=max(PADDED_TOKENS, sequence_length))


def padded_groups(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Group rows of like length, by their index in `lengths` (tokens each), the shortest rows first.

    A group that is padded to its longest row has at most `tokens` tokens, except that a longer row is a group
    of its own.
    """
    groups: list[list[int]] = []
    for n in sorted(range(len(lengths)), key=lambda n: (lengths[n], n)):
        group = groups[-1] if groups else []
        alike = bool(group) and lengths[n] <= LONGEST_TO_SHORTEST * lengths[group[0]]
        if alike and lengths[n] * (len(group) + 1) <= tokens:
            group.append(n)
        else:
            groups.append([n])
    return groups


def packed_groups(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Group rows that are set end to end, at most `tokens` tokens in all, by their index in `lengths`.

    First fit decreasing: the longest row first, each into the first group that has room for it.
    """
    groups: list[list[int]] = []
    room: list[int] = []  # tokens that are left in each group
    for n in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        for g, left in enumerate(room):
            if lengths[n] <= left:
                groups[g].append(n)
                room[g] -= lengths[n]
                break
        else:
            groups.append([n])
            room.append(tokens - lengths[n])
    return groups
