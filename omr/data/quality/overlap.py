"""Problems of a benchmark in the training data: n-grams of 13 words that both have, as shares of either.

13 words are what GPT-3's authors looked for (arXiv 2005.14165, appendix C); a benchmark's problem that is
shorter is looked for as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from omr.data.quality import text

if TYPE_CHECKING:
    import numpy as np

N = 13  # words
SHORTEST = 4  # words; what is shorter than that is in many a text
FLAGGED = 0.5  # of the n-grams of either


@dataclass(frozen=True)
class Pair:
    """A row's problem and one of the benchmark that share words."""

    known: int  # number of the benchmark's problem, from 0
    of_known: float  # share of its n-grams that the row has
    of_row: float  # share of the row's n-grams that it has

    @property
    def worst(self) -> float:
        """The larger of both shares: one of them may be a part of the other."""
        return max(self.of_known, self.of_row)


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's problems, to look for."""

    problems: Sequence[str]

    @cached_property
    def _sizes(self) -> "dict[int, tuple[np.ndarray, np.ndarray]]":
        """n -> hashes of n-grams in order, and the problem that each is of."""
        import numpy as np

        found: dict[int, list[tuple[np.ndarray, int]]] = {}
        for number, problem in enumerate(self.problems):
            words = text.words(problem)
            if len(words) >= SHORTEST:
                n = min(N, len(words))
                found.setdefault(n, []).append((np.unique(text.grams(words, n)), number))
        sizes = {}
        for n, entries in found.items():
            grams = np.concatenate([grams for grams, _ in entries])
            owners = np.concatenate([np.full(len(grams), number) for grams, number in entries])
            order = np.argsort(grams, kind="stable")
            sizes[n] = grams[order], owners[order]
        return sizes

    def find(self, words: "np.ndarray") -> Pair | None:
        """The problem that shares most with a row's words, if that is FLAGGED of either; None without one."""
        import numpy as np

        best: Pair | None = None
        for n, (grams, owners) in self._sizes.items():
            if len(words) < n:
                continue
            mine = text.grams(words, n)
            if not (grams[np.searchsorted(grams[:-1], mine)] == mine).any():
                continue  # so it is for nearly every row
            mine = np.unique(mine)
            first, last = np.searchsorted(grams, mine, "left"), np.searchsorted(grams, mine, "right")
            hits = np.concatenate([owners[a:b] for a, b in zip(first, last, strict=True) if b > a])
            for number, shared in zip(*np.unique(hits, return_counts=True), strict=True):
                pair = Pair(int(number), shared / (owners == number).sum(), shared / len(mine))
                if pair.worst >= FLAGGED and (best is None or pair.worst > best.worst):
                    best = pair
        return best
