"""Problems that are read from a file: what is one, and what is refused."""

import dataclasses
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from omr.errors import OmrError, RequestError
from omr.evaluation import problems
from omr.evaluation.problems import Problem, ProblemSet


def texts(problem):
    """The texts of a problem that are set."""
    values = dataclasses.asdict(problem)
    return {key: value for key, value in values.items() if value is not None}


def test_a_file_of_problems_is_read_line_by_line(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [{"problem": "a\u2028b", "expected_answer": 3, "more": 1}, {"input": "x", "expected_answer": "y"}]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert [texts(problem) for problem in problems.read(path)] == [
        {"problem": "a\u2028b", "expected_answer": "3"},
        {"input": "x", "expected_answer": "y"},
    ]


def test_a_problem_is_named_by_its_texts_and_a_set_by_all_that_is_graded():
    one = Problem("3", "1+2?")
    assert one.id == Problem("4", "1+2?", subset="easy").id
    assert len({one.id, Problem("3", "1+2? ").id, Problem("3", input="1+2?").id}) == 3
    others = [Problem("4", "1+2?"), Problem("3", "1+2?", subset="easy"), Problem("3", "1+3?")]
    assert len({ProblemSet("x", (problem,)).digest for problem in [one, *others]}) == 4


def read(tmp_path, content):
    """The problems of a file with these bytes."""
    path = tmp_path / "problems.jsonl"
    path.write_bytes(content)
    return [texts(problem) for problem in problems.read(path)]


@pytest.mark.parametrize(
    ("line", "row"),
    [
        (b'\xef\xbb\xbf{"problem": "x", "expected_answer": "y"}', {"problem": "x", "expected_answer": "y"}),
        (b'{"problem": "x", "expected_answer": 2.50}\r\n', {"problem": "x", "expected_answer": "2.50"}),
        (b'{"problem": "x", "expected_answer": 0}', {"problem": "x", "expected_answer": "0"}),
        (b'{"problem": "x", "expected_answer": -1e400}', {"problem": "x", "expected_answer": "-1e400"}),
        (
            b'{"problem": "x", "expected_answer": ' + b"7" * 5000 + b"}",
            {"problem": "x", "expected_answer": "7" * 5000},
        ),
        (
            b'{"problem": null, "input": "x", "expected_answer": "y"}',
            {"input": "x", "expected_answer": "y"},
        ),
        (
            b'{"problem": "x", "expected_answer": "y", "subset_for_metrics": "aime24"}',
            {"problem": "x", "expected_answer": "y", "subset": "aime24"},
        ),
        (
            b'{"problem": "x", "expected_answer": "y", "subset_for_metrics": null}',
            {"problem": "x", "expected_answer": "y"},
        ),
        (
            b'{"problem": "\\ud83d\\ude00", "expected_answer": "y"}',
            {"problem": "\U0001f600", "expected_answer": "y"},
        ),
    ],
)
def test_what_is_a_problem(tmp_path, line, row):
    assert read(tmp_path, line) == [row]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no problems; "),
        ("\n \n", "has no problems; "),
        ("\ufeff", "has no problems; "),
        ("{}", "line 1 has no problem or input and no expected_answer, only nothing; "),
        (
            '{"question": "x", "expected_answer": "y"}',
            "line 1 has no problem or input, only 'question', 'expected_answer'; add or rename the keys",
        ),
        (
            '{"problem": "x", "expected_answer": "y"}\n\n{"problem": "x"}',
            "line 3 has no expected_answer",
        ),
        ('{"a\\nb": "x"}', "line 1 has no problem or input and no expected_answer, only 'a\\\\nb'"),
        ('{"problem": 3, "expected_answer": "y"}', "line 1: problem is a number; give a text"),
        ('{"problem": ["x"], "expected_answer": "y"}', "line 1: problem is a list; give a text"),
        (
            '{"problem": "x", "expected_answer": null}',
            "line 1: expected_answer is null; give a text or a number",
        ),
        ('{"problem": "x", "expected_answer": ["y"]}', "line 1: expected_answer is a list; "),
        ('{"problem": "x", "expected_answer": {"y": 1}}', "line 1: expected_answer is an object; "),
        ('{"problem": "x", "expected_answer": true}', "line 1: expected_answer is true; "),
        ('{"problem": "x", "expected_answer": NaN}', "line 1 has NaN, which is no JSON; "),
        ('{"problem": "x", "expected_answer": ""}', "line 1: expected_answer is empty; "),
        ('{"problem": "x", "expected_answer": " "}', "line 1: expected_answer is empty; "),
        (
            '{"problem": "x", "expected_answer": "y", "subset_for_metrics": 3}',
            "line 1: subset_for_metrics is a number; give a text",
        ),
        ('{"input": "", "expected_answer": "y"}', "line 1: input is empty; "),
        ('{"problem": "x", "input": "", "expected_answer": "y"}', "line 1: input is empty; "),
        ('{"problem": "\\ud800", "expected_answer": "y"}', "line 1: problem has half of a surrogate pair"),
        ('{"problem": "x", "expected_answer": "a\\udfffb"}', r"line 1: expected_answer has half .*\\udfff"),
        ('{"problem": "a\\u0000", "expected_answer": "y"}', "line 1: problem has a NUL character; remove it"),
        ('{"problem": "a\0", "expected_answer": "y"}', "line 1 is no JSON"),
        ('{"problem": "x", "problem": "z", "expected_answer": "y"}', "line 1 has the key 'problem' twice; "),
        ("[1]", "line 1 is a list; give an object"),
        ("null", "line 1 is null; give an object"),
        ('"x"', "line 1 is a text; give an object"),
        ("{", r"line 1 is no JSON \(.*, column 2\); "),
        ("[" * 100_000, "line 1 is nested too deeply; "),
        ("x" * 10_000_001, "line 1 has over 10,000,000 bytes; "),
        (
            b'{"problem": "x", "expected_answer": "y"}\n{"problem": "\xf6"}',
            "line 2 is not UTF-8 text .byte 13.; ",
        ),
        ('{"problem": "x", "expected_answer": "y"}'.encode("utf-16"), "is text in UTF-16; save it"),
        (b"PK\3\4\x14\0", "is a spreadsheet or zip archive; save it as JSON lines in UTF-8"),
        (b"\x1f\x8b\x08\0", "is compressed by gzip; "),
        (b"PAR1\0", "is a parquet file; "),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, told):
    with pytest.raises(RequestError, match=f"problems.jsonl: {told}") as refused:
        read(tmp_path, text if isinstance(text, bytes) else text.encode())
    assert "\n" not in str(refused.value)


def test_a_git_lfs_pointer_is_named(tmp_path):
    with pytest.raises(
        OmrError, match=r"problems\.jsonl: is a git-lfs pointer in place of the file; run git lfs"
    ):
        read(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(RequestError, match=r"cannot be read \(.*\); name a JSON-lines file"):
            list(problems.read(path))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
ROW = st.fixed_dictionaries({}, optional=dict.fromkeys(("problem", "input", "expected_answer", "more"), JSON))
LINE = ROW.map(lambda row: json.dumps(row).encode()) | JSON.map(lambda value: json.dumps(value).encode())


@st.composite
def damaged(draw):
    """Lines of JSON, some with bytes cut out, doubled or put in."""
    text = b"\n".join(draw(st.lists(LINE, max_size=4)))
    at = draw(st.integers(0, len(text)))
    return draw(
        st.just(text)
        | st.just(text[:at])
        | st.just(text[:at] + text)
        | st.binary(max_size=4).map(lambda noise: text[:at] + noise + text[at:])
    )


@pytest.mark.slow
@settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(damaged())
def test_any_file_is_read_whole_or_refused_in_one_line(tmp_path, content):
    """What is read can be asked, written down and hashed."""
    try:
        rows = read(tmp_path, content)
    except RequestError as refused:
        assert str(refused).startswith(f"{tmp_path}/problems.jsonl: ") and "\n" not in str(refused)
        return
    assert rows and all(row["expected_answer"].strip() for row in rows)
    assert ProblemSet("x", tuple(problems.read(tmp_path / "problems.jsonl"))).digest
    assert json.dumps(rows, ensure_ascii=False).encode()
