"""Which problem a row is of."""

import time
from dataclasses import replace

import pytest

from omr import recipe
from omr.data import prompts
from omr.data.held_out import problem
from omr.errors import RequestError
from omr.recipe import Prompt

TINY, REAL = recipe.CORPORA["tiny"], recipe.CORPORA["openmathreasoning"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Find $x$ with $x^2=4$.", "  find  $x$\nwith \\( x^2 = 4 \\)", True),
        ("Find $x$.", "Find $y$.", False),
        ("Zoë's 小明", "ZOË s 小明!", True),
        ("\\frac{1}{2}", "frac 1 2", True),
        ("12", "1 2", False),
        ("a_1", "a 1", True),
        ("Zoe\u0308", "Zo\u00eb", True),
        ("x²", "x2", True),
    ],
)
def test_a_problem_is_its_words(one, other, same):
    assert (problem.hashed(REAL, one) == problem.hashed(REAL, other)) is same


def test_tiny_words_a_sum_in_several_ways():
    worded = ("What is 12+30?", "Find the sum of 12 and 30. (🙂)", "12+30")
    assert len({problem.hashed(TINY, text) for text in worded}) == 1
    assert problem.hashed(TINY, "What is 12+31?") != problem.hashed(TINY, worded[0])


def corpus(tmp_path, user):
    """A recipe whose split `choice` asks with this user message."""
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "choice.yaml").write_text(
        "user: |-\n" + "".join(f"  {x}\n" for x in user.split("\n"))
    )
    return replace(REAL, prompts={"choice": Prompt(None, asks="choice")}, prompt_folder=tmp_path)


CHOICE = "Which?\nProblem: {problem}\n\nSolutions:\n{s}"


@pytest.mark.parametrize(
    ("user", "text", "found"),
    [
        (CHOICE, "Which?\nProblem: 1+1 is\nwhat?\n\nSolutions:\nS: 2", "1+1 is\nwhat?"),
        (CHOICE, "Which?\r\n Problem:\t1+1\r\n\r\nSolutions:\r\n2", "1+1"),
        (CHOICE, "Choose.\nProblem: 1+1\n\nSolutions:\n2", None),
        # The words of the prompt within the problem, and within a solution.
        (CHOICE, "Which?\nProblem: Two. Solutions: {1}\n\nSolutions:\nS", "Two. Solutions: {1}"),
        (CHOICE, "Which?\nProblem: Two.\n\nSolutions:\nIt has\nSolutions:\n2", "Two."),
        (CHOICE, "Not Which?\nProblem: 1\n\nSolutions:\n2", None),
        (CHOICE, "Which?\nProblem: 1\n\nSolutions: of it", None),
        ("A: {n}\nProblem: {problem}", "A: 5\nProblem: 1+1\nor 2", "1+1\nor 2"),
        ("{problem} Choose of {s}", "1+1 Choose of 2", "1+1"),
        ("in \\boxed{{}}: {problem}\n{s}", "in \\boxed{}: 1+1\n2", "1+1\n2"),
    ],
)  # fmt: skip
def test_a_problem_inside_a_prompt(tmp_path, user, text, found):
    assert problem.place(corpus(tmp_path, user), "choice").find(text) == found


@pytest.mark.parametrize(
    ("user", "said"),
    [("Which is right?\n{s}", "has no {problem}, so that VALIDATION"), ("{problem", "cannot be filled")],
)
def test_a_prompt_that_does_not_tell(tmp_path, user, said):
    with pytest.raises(RequestError, match=rf"choice\.yaml: {said}"):
        problem.place(corpus(tmp_path, user), "choice")


def test_where_the_column_is_the_problem():
    assert problem.place(TINY, "cot").find("Problem: x") == "Problem: x"


def test_a_run_of_blanks_takes_no_time(tmp_path):
    text = "Which?\nProblem: " + " " * 200_000 + "x" + "\n" * 200_000 + "no end"
    began = time.monotonic()
    assert problem.place(corpus(tmp_path, CHOICE), "choice").find(text) is None
    assert time.monotonic() - began < 20  # an hour, where each blank begins another search


@pytest.mark.parametrize(
    "text", ["Find $x$.", "Solutions: {1, 2}.", "Line one.\n\nProblem: two.", "braces {x} and \\boxed{1}"]
)
@pytest.mark.nemo
def test_the_published_genselect_prompt(text):
    pytest.importorskip("nemo_skills", reason="needs nemo-skills: make nemo")
    user = prompts.read_yaml(prompts.config_file(REAL, "openmath/genselect"))["user"]
    solutions = "Solution 0:\nIt is \\boxed{3}.\n\nSolution 1:\nIt is \\boxed{4}."
    asked = user.format(problem=text, solutions=solutions, num_solutions=2, max_idx=1)
    assert problem.place(REAL, "genselect").find(asked) == text
