r"""A text as words, n-grams and a signature, and whether it repeats itself: hashes, by compiled loops.

A word is a run of letters and digits, whatever stands between, in lower case (of A to Z): neither other line
ends nor another case hide that two texts are the same. `\frac{1}{2}` is `frac 1 2`.

The signature is a MinHash of one permutation (Li, Owen, Zhang: One Permutation Hashing, NIPS 2012): the
hashes (64 bits) of all n-grams fall into BINS bins, of each the least counts, and of that 8 bits are kept
(b-bit minwise hashing, Li and König 2010). It costs one hash an n-gram and 64 bytes a row, where datasketch
has a Python object for each row, and numpy compares one with many at once.
"""

import functools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

BINS = 64  # of a signature: a standard error of 0.05 at a similarity of 0.8
SHINGLE = 5  # words of an n-gram of a signature
REPEATED, LOOP = 4, 40  # a loop: so many times in a row the same words, and at least so many words in all
# Tokens that only a chat template, or a tokenizer, may write: <|im_start|>, <|endoftext|>.
SPECIAL = re.compile(r"<\|[a-zA-Z_]{2,40}\|>")


@dataclass(frozen=True)
class _Loops:
    """The compiled loops; processes that are forked after the first call of `compiled` share their code."""

    words: "Callable[[np.ndarray], np.ndarray]"
    grams: "Callable[[np.ndarray, int], np.ndarray]"
    signature: "Callable[[np.ndarray], np.ndarray]"
    loop: "Callable[[np.ndarray, int, int], bool]"


def words(text: str) -> "np.ndarray":
    """The hash of each word, in their order (uint64)."""
    import numpy as np

    return compiled().words(np.frombuffer(bytearray(text.encode("utf-8", "replace") + b" "), np.uint8))


def grams(words: "np.ndarray", n: int) -> "np.ndarray":
    """The hash of each n words in a row (uint64); of a shorter text of all its words together."""
    return compiled().grams(words, max(1, min(n, len(words))))


def digest(words: "np.ndarray") -> int:
    """One hash of all the words: that of a problem, however it is wrapped."""
    return int(grams(words, len(words))[0]) if len(words) else 0


def signature(words: "np.ndarray") -> "np.ndarray":
    """The signature of a text (BINS uint8), of which `similarity` compares two."""
    return compiled().signature(grams(words, SHINGLE) if len(words) else words)


def similarity(one: "np.ndarray", others: "np.ndarray") -> "np.ndarray":
    """The share of n-grams that a text has in common with each of others (their Jaccard index), estimated.

    A bin that both leave empty (255) tells nothing; equal 8 bits stand for equal hashes but for 1 in 255.
    """
    import numpy as np

    empty = (one == 255) & (others == 255)
    same = ((one == others) & ~empty).sum(axis=1)
    counted = np.maximum(1, BINS - empty.sum(axis=1))
    return np.clip((same / counted - 1 / 255) / (1 - 1 / 255), 0, 1)


def repeats(words: "np.ndarray") -> bool:
    """Whether some words come REPEATED times in a row, LOOP words or more in all: a model in circles."""
    return bool(compiled().loop(words, REPEATED, LOOP))


@functools.cache
def compiled() -> _Loops:
    """The loops, compiled by the first call."""
    import numba
    import numpy as np

    start, prime = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, 64 bits
    step, one, two = (
        np.uint64(0x9E3779B97F4A7C15),
        np.uint64(0xBF58476D1CE4E5B9),
        np.uint64(0x94D049BB133111EB),
    )
    s30, s27, s31, s58, low = (np.uint64(n) for n in (30, 27, 31, 58, 0xFF))

    @numba.njit("uint64(uint64)", inline="always")
    def mix(x: int) -> int:  # splitmix64's finish: every bit of the result depends on every bit
        x = (x ^ (x >> s30)) * one
        x = (x ^ (x >> s27)) * two
        return x ^ (x >> s31)

    @numba.njit("uint64[::1](uint8[::1])")
    def words(text: np.ndarray) -> np.ndarray:
        found, count = np.empty(len(text) // 2 + 1, np.uint64), 0
        hashed, inside = start, False
        for byte in text:
            if 65 <= byte <= 90:
                byte += 32  # to lower case
            if (48 <= byte <= 57) or (97 <= byte <= 122) or byte >= 128:
                hashed, inside = (hashed ^ np.uint64(byte)) * prime, True
            elif inside:
                found[count] = mix(hashed)
                count += 1
                hashed, inside = start, False
        return found[:count].copy()

    @numba.njit("uint64[::1](uint64[::1], int64)")
    def grams(words: np.ndarray, n: int) -> np.ndarray:
        found = np.empty(max(0, len(words) - n + 1), np.uint64)
        for at in range(len(found)):
            hashed = start
            for word in words[at : at + n]:
                hashed = mix(hashed * step + word)
            found[at] = hashed
        return found

    @numba.njit("uint8[::1](uint64[::1])")
    def signature(grams: np.ndarray) -> np.ndarray:
        least = np.full(BINS, np.uint64(0xFFFFFFFFFFFFFFFF))
        for gram in grams:
            place = gram >> s58  # the first 6 bits choose one of 64 bins
            least[place] = min(least[place], gram)
        found = np.empty(BINS, np.uint8)
        for place in range(BINS):
            empty = least[place] == np.uint64(0xFFFFFFFFFFFFFFFF)
            found[place] = 255 if empty else (mix(least[place]) & low) % np.uint64(255)
        return found

    @numba.njit("boolean(uint64[::1], int64, int64)")
    def loop(words: np.ndarray, repeated: int, least: int) -> bool:
        # Where the last words stood before says how long a loop would be; then it is followed as it goes on.
        size = 1
        while size < 2 * len(words):
            size *= 2
        last, mask = np.full(size, -1), np.uint64(size - 1)
        period, run = 0, 0
        for at in range(1, len(words)):
            if period and words[at] == words[at - period]:
                run += 1
                if run >= (repeated - 1) * period and run + period >= least:
                    return True
            else:
                period, run = 0, 0
            place = mix(words[at] * step + words[at - 1]) & mask
            before = last[place]
            if (
                not period
                and before > 0
                and words[before] == words[at]
                and words[before - 1] == words[at - 1]
            ):
                period, run = at - before, 2
            last[place] = at
        return False

    return _Loops(words, grams, signature, loop)
