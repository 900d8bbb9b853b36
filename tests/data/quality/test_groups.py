"""Rows of one problem: several answers, and solutions that are nearly the same."""

import random

import numpy as np

from omr.data.quality import groups, text


def record(problem, answer, shard, row, solution):
    return (problem, answer, shard, row, text.signature(text.words(solution)))


def table(*rows):
    return np.array([record(*row) for row in rows], groups.record())


def places(records):
    return [(int(r["shard"]), int(r["row"])) for r in records]


def test_problems_come_whole_and_in_order():
    rows = table((7, 1, 1, 4, "a"), (3, 1, 0, 9, "b"), (7, 1, 0, 5, "c"), (7, 1, 1, 2, "d"))
    assert [places(p) for p in groups.by_problem(rows)] == [[(0, 9)], [(0, 5), (1, 2), (1, 4)]]
    assert not list(groups.by_problem(table()))


def test_several_answers():
    assert groups.several_answers(table((1, 5, 0, 0, ""), (1, 5, 0, 1, ""), (1, 0, 0, 2, ""))) is None
    several = groups.several_answers(table((1, 6, 0, 0, ""), (1, 5, 0, 1, ""), (1, 5, 0, 2, "")))
    assert several.answers == [5, 6] and places(several.rows) == [(0, 0), (0, 1), (0, 2)]


def test_the_first_of_near_duplicates_stays():
    draw = random.Random(2)
    words = [f"w{draw.randrange(900)}" for _ in range(1500)]
    nearly = [*words[:700], "another", *words[701:]]
    other = [f"v{draw.randrange(900)}" for _ in range(1500)]
    one = table(
        *((1, 0, 0, 0, " ".join(words)), (1, 0, 0, 1, " ".join(other))),
        *((1, 0, 0, 2, "\n".join(nearly).upper()), (1, 0, 2, 0, " ".join(words))),
    )
    assert places(groups.near_duplicates(one)) == [(0, 2), (2, 0)]
    assert places(groups.near_duplicates(one[:2])) == []
