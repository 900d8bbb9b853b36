"""Words, n-grams, signatures and loops, against the plainest way to find them."""

import random

import numpy as np
import pytest

from omr.data.quality import text

DRAW = random.Random(1)
LONG = [f"w{DRAW.randrange(3000)}" for _ in range(2000)]


def hashes(words):
    """The hash that each word has alone."""
    return [int(text.words(word)[0]) for word in words]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("one", "words"),
    [
        ("", []),
        (" \n$$ ", []),
        ("a", ["a"]),
        ("What is 12+34?", ["what", "is", "12", "34"]),
        (r"\frac{1}{2}, x_1", ["frac", "1", "2", "x", "1"]),
        ("Größe Unter", ["größe", "unter"]),
        ("a\ud800b", ["a", "b"]),  # a lone surrogate, as JSON may have one
    ],
)
def test_words(one, words):
    assert text.words(one).tolist() == hashes(words)


def test_wrapping_and_case_hide_nothing():
    one, other = "Find all  x\nsuch that x^2 = 4.", "find ALL x such\r\n\tthat X^2=4"
    assert text.words(one).tolist() == text.words(other).tolist()
    assert text.digest(text.words(one)) == text.digest(text.words(other))
    assert text.digest(text.words(one)) != text.digest(text.words(one + " 5"))


@pytest.mark.parametrize("n", [1, 5, 13])
def test_grams_are_equal_where_the_words_are(n):
    words = ["a", "b", "a", "b", "a", "b", "c", "a", "b", "c", "d"]
    found = text.grams(text.words(" ".join(words)), n).tolist()
    n = min(n, len(words))
    wanted = [tuple(words[at : at + n]) for at in range(len(words) - n + 1)]
    assert len(found) == len(wanted)
    assert len(set(zip(found, wanted, strict=True))) == len(set(found)) == len(set(wanted))


@pytest.mark.parametrize("changed", [0, 0.005, 0.02, 0.05, 0.2, 1])
def test_a_signature_tells_how_much_two_texts_have_in_common(changed):
    """Over several draws, because one estimate has a standard error of 0.05."""
    away = []
    for _ in range(20):
        other = [word if DRAW.random() >= changed else f"x{DRAW.random()}" for word in LONG]
        one, two = text.words(" ".join(LONG)), text.words(" ".join(other))
        mine, theirs = set(text.grams(one, 5).tolist()), set(text.grams(two, 5).tolist())
        true = len(mine & theirs) / len(mine | theirs)
        away.append(text.similarity(text.signature(one), text.signature(two)[None])[0] - true)
    assert abs(np.mean(away)) < 0.03 and max(map(abs, away)) < 0.25


def test_short_texts_have_signatures_too():
    same, other, none = (text.signature(text.words(t)) for t in ("it is 5", "no 7 or 8", ""))
    assert text.similarity(same, np.array([same, other, none])).tolist() == [1, 0, 0]


LOOPS = [
    ("nothing", LONG, False),
    (
        "a sentence ten times",
        [*LONG[:99], *["so", "x", "is", "5", "and", "we", "go", "on"] * 10, *LONG[:9]],
        True,
    ),
    ("three times only", [f"a{n}" for n in range(50)] * 3, False),
    ("four times", [f"a{n}" for n in range(50)] * 4, True),
    ("at the very end", [*LONG, *["wait"] * 40], True),
    ("a short table of zeros", [*LONG[:50], *["0"] * 20, *LONG[:50]], False),
    ("a period within another", [*["a", "b"] * 5, *["a", "c"] * 25], True),
    ("counting", [str(n) for n in range(500)], False),
    ("empty", [], False),
]


@pytest.mark.parametrize(("words", "told"), [loop[1:] for loop in LOOPS], ids=[loop[0] for loop in LOOPS])
def test_loops(words, told):
    assert text.repeats(text.words(" ".join(words))) == told


@pytest.mark.parametrize(
    ("one", "told"),
    [
        ("<|im_start|>", True),
        ("x<|endoftext|>", True),
        ("|x| < |y| > 2", False),
        ("<|1|>", False),
        ("a<b", False),
    ],
)
def test_special_tokens(one, told):
    assert bool(text.SPECIAL.search(one)) == told
