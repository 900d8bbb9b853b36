"""VALIDATION: a share of the problems, or a file of some."""

import json

import pytest

from omr import recipe
from omr.data.held_out import choice, problem
from omr.errors import OmrError, RequestError

TINY = recipe.CORPORA["tiny"]
SUMS = [f"What is {a}+{b}?" for a in range(10, 100) for b in range(10, 100)]


def held(said):
    held_out = choice.of(TINY, said)
    return {text for text in SUMS if held_out.holds(problem.hashed(TINY, text))}


def test_a_share_of_the_problems():
    assert len(held("0.1")) == pytest.approx(len(SUMS) / 10, rel=0.1)
    assert held("0.01") < held(".1") < held("0.5")


@pytest.mark.parametrize(
    "said", ["0", "-0.1", "0.51", "1", "nan", "inf", "1e-400", "two", "10%", "", "a.txt"]
)
def test_what_is_no_share(said):
    with pytest.raises(
        RequestError, match=r"is neither a share of the problems up to 0\.5, like 0\.002, nor"
    ):
        choice.of(TINY, said)


def test_the_problems_of_a_file(tmp_path):
    path = tmp_path / "mine.jsonl"
    rows = [{"problem": "Compute 12+30.", "expected_answer": "42"}, {"problem": "What is 40+41?"}]
    path.write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)))
    assert held(str(path)) == {"What is 12+30?", "What is 40+41?"}
    identity = choice.of(TINY, str(path)).identity
    path.write_text(json.dumps(rows[0]))
    assert choice.of(TINY, str(path)).identity != identity


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no problems"),
        ("\n \n", "has no problems"),
        ('{"problem": "x"}\nnothing', ":2: is no line of JSON with a problem"),
        ('{"question": "x"}', ":1: is no line"),
        ('{"problem": 5}', ":1: is no line"),
        ("[1]", ":1: is no line"),
        ('{"problem": "\udc80"}', ":1: is no line"),
        ("[" * 100_000, ":1: is no line"),
        ("version https://git-lfs.github.com/spec/v1\n", "git-lfs"),
    ],
)
def test_a_file_that_is_none_of_problems(tmp_path, text, said):
    path = tmp_path / "mine.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(OmrError, match=said):
        choice.of(TINY, str(path))


def test_no_file(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path.with_suffix(".jsonl")):
        with pytest.raises(RequestError, match="no such file"):
            choice.of(TINY, str(path))
