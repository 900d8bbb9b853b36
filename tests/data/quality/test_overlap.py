"""A benchmark's problems in training data: found however they are written, told by both shares."""

import pytest

from omr.data.quality import text
from omr.data.quality.overlap import Benchmark

PROBLEM = (
    "Let $x, y$ be real numbers with $x + y = 12$ and $xy = 7$. Find the largest value that the sum"
    " of their fourth powers may take over all such pairs of numbers"
)
OTHER = (
    "How many ways are there to seat seven guests at a round table so that no two of the three"
    " brothers sit next to each other and the host faces the door"
)
BENCHMARK = Benchmark([OTHER, PROBLEM, "What is 12+34?", "1+1"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("problem", "known", "of_known", "of_row"),
    [
        (PROBLEM, 1, 1, 1),
        (PROBLEM.upper().replace(" ", "\n"), 1, 1, 1),
        (f"{OTHER}\n\nSolution 0: 5\n" + "and one more word " * 30, 0, 1, None),
        (" ".join(PROBLEM.split()[:20]), 1, None, 1),
        ("Now what is 12 + 34", 2, 1, None),
    ],
    ids=["the same", "other case and lines", "within a longer one", "a part of it", "a short one"],
)
def test_found(problem, known, of_known, of_row):
    pair = BENCHMARK.find(text.words(problem))
    assert pair.known == known
    assert of_known is None or pair.of_known == of_known
    assert of_row is None or pair.of_row == of_row
    assert pair.worst == max(pair.of_known, pair.of_row)


@pytest.mark.parametrize(
    "problem",
    [
        "",
        "1+1",
        "What is 12+35?",
        "Find the largest value that the sum of their squares may take",
        " ".join(PROBLEM.split()[:12])
        + " and then something else entirely happens to all of these real numbers",
        " ".join(reversed(PROBLEM.split())),
    ],
)
def test_not_found(problem):
    assert BENCHMARK.find(text.words(problem)) is None


def test_the_one_that_shares_most_is_told():
    near = Benchmark([PROBLEM.replace("largest", "smallest"), PROBLEM])
    assert near.find(text.words(PROBLEM)).known == 1
