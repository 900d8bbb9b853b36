"""Problems that are read from a file, or made; the text that a model is given for each."""

import json

import pytest

from omr import recipe
from omr.errors import RequestError
from omr.evaluation.problems import TINY, TINY_TOKENS, Problem, load_problems, prompt_texts
from omr.tiny import corpus
from omr.tiny.tokenizer import tiny_tokenizer

RUN = recipe.run("tiny")


def test_tiny_asks_its_held_out_problems():
    asked = load_problems(RUN, None, None)
    assert asked.source == TINY
    assert [problem.as_json() for problem in asked.problems] == corpus.held_out()
    assert asked.max_tokens == TINY_TOKENS
    assert asked.digest != load_problems(RUN, None, 7).digest


def test_a_file_of_problems_is_read_line_by_line(tmp_path):
    path = tmp_path / "problems.jsonl"
    rows = [{"problem": "a\u2028b", "expected_answer": 3, "more": 1}, {"input": "x", "expected_answer": "y"}]
    path.write_text("\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    asked = load_problems(recipe.run("7b"), path, None)
    assert tuple(problem.as_json() for problem in asked.problems) == (
        {"problem": "a\u2028b", "expected_answer": "3"},
        {"input": "x", "expected_answer": "y"},
    )
    assert asked.max_tokens == 32_768


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no problems"),
        ("{}", "line 1 has not"),
        ('{"problem": "x", "expected_answer": "y"}\n{"problem": "x"}', "line 2 has not"),
        ('{"problem": 3, "expected_answer": "y"}', "line 1 has not"),
        ("[1]", "line 1 has not"),
        ("{", "line 1 has not"),
        ('{"input": "", "expected_answer": "y"}', "line 1 has not"),
        (None, "cannot be read"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, text, told):
    path = tmp_path / "problems.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RequestError, match=told):
        load_problems(RUN, path, None)


def test_a_real_model_needs_problems():
    with pytest.raises(RequestError, match="PROBLEMS is not set"):
        load_problems(recipe.run("7b"), None, None)


def test_an_input_is_asked_as_it_stands_and_a_problem_in_the_recipe_s_prompt():
    asked = [Problem("2", problem="1+1?"), Problem("3", input="1+2="), Problem("4", "1+3?", "1+3=")]
    first, *others = prompt_texts(RUN, asked, tiny_tokenizer())
    assert "1+1?" in first and first.endswith("<|im_start|>assistant\n")
    assert others == ["1+2=", "1+3="]
