"""The texts that models are asked with: those of training, to the letter."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import pytest

from omr import recipe
from omr.errors import RequestError
from omr.evaluation import benchmarks
from omr.evaluation.modes.genselect import Candidate
from omr.evaluation.modes.prompts import CodeTags, Prompts, sources
from omr.evaluation.problems import Problem
from omr.tiny import corpus
from omr.tiny.tokenizer import tiny_tokenizer

TINY, REAL = recipe.CORPORA["tiny"], recipe.CORPORA["openmathreasoning"]


@pytest.fixture
def prompts():
    return Prompts(TINY, tiny_tokenizer())


def test_tiny_is_asked_as_it_was_trained(prompts):
    from omr.data import prompts as of_training

    for split in ("cot", "tir"):
        trained = of_training.load(TINY, split, tiny_tokenizer())
        values = {"problem": "What is 12+30?", "total_code_executions": 8}
        assert prompts.of(split, Problem("42", "What is 12+30?")) == trained.fill(values)


def test_tiny_s_comparisons_are_those_of_its_rows(prompts):
    from omr.data import prompts as of_training

    row = next(corpus.split_rows("genselect", 1))
    trained = of_training.load(TINY, "genselect", tiny_tokenizer()).fill({"problem": row["problem"]})
    question, *lines = row["problem"].splitlines()
    asked = question.removeprefix("Which solution of ").removesuffix(" is right?")
    a, b = asked.split("+")
    solutions = [Candidate(n, line.split(": ")[1], "…") for n, line in enumerate(lines)]
    for problem in (f"What is {a}+{b}?", f"Zoë has {a} apples and gets {b} more. How many apples are there?"):
        assert prompts.comparison(Problem("?", problem), solutions) == trained


def test_an_input_is_asked_as_it_stands(prompts):
    assert prompts.of("cot", Problem("3", "1+2?", "1+2=")) == "1+2="


def test_what_only_a_row_has_is_refused():
    prompt = dataclasses.replace(TINY.prompts["cot"], fields={"hint": "problem_source"})
    asked = Prompts(dataclasses.replace(TINY, prompts={"cot": prompt}), tiny_tokenizer())
    with pytest.raises(
        RequestError, match="MODE=cot: its prompt has hint from problem_source of a row, which"
    ):
        asked.of("cot", Problem("3", "1+2?"))
    assert asked.of("cot", Problem("3", "1+2?", "1+2=")) == "1+2="


def test_a_problem_that_is_the_whole_message_has_no_file():
    plain = dataclasses.replace(TINY.prompts["cot"], config=None)
    assert sources(dataclasses.replace(TINY, prompts={"cot": plain}), ["cot"]) != sources(TINY, ["cot"])


def test_the_words_after_an_output(prompts):
    tags = prompts.code_tags()
    assert tags.output("42\n", "completed", 1) == (
        "```output\n42\n```\n```system\nRemaining code executions: 1\n```\n"
    )
    assert tags.output("", "error", 0) == (
        "```output\n```\n```system\nYou have run out of code executions!\n```\n"
    )
    text = next(
        row["generated_solution"]
        for row in corpus.split_rows("tir", 50)
        if "executions: 1" in row["generated_solution"]
    )
    output = text.split("</tool_call>\n")[1].split("```output\n")[1].split("```\n")[0]
    assert f"</tool_call>\n{tags.output(output, 'completed', 1)}" in text


def test_what_prompts_are_made_from_is_told_apart():
    assert sources(TINY, ["cot"]) != sources(TINY, ["tir"]) != sources(TINY, ["genselect"])
    assert sources(TINY, ["cot"]) == sources(TINY, ["cot"])


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def nemo_skills():
    """The folder of the installed nemo-skills."""
    found = importlib.util.find_spec("nemo_skills")
    if found is None:
        pytest.skip("nemo_skills is not installed; run make nemo")
    return Path(found.submodule_search_locations[0])


@pytest.mark.nemo
def test_prompts_are_upstream_s_own_for_twenty_problems(nemo_skills, tmp_path):
    """By its own get_prompt, asked as its evaluation does it: an empty system message, the openmath tags."""
    from nemo_skills.prompt.utils import get_prompt

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CHATML
    ours = Prompts(REAL, tokenizer)
    asked = benchmarks.load(recipe.run("7b"), None, None, tmp_path).problems[::13][:20]
    assert len(asked) == 20
    cot = get_prompt("generic/math", tokenizer=tokenizer, system_message="")
    tir = get_prompt("openmath/tir", tokenizer=tokenizer, code_tags="openmath", system_message="")
    choice = get_prompt("openmath/genselect", tokenizer=tokenizer, system_message="")
    for problem in asked:
        assert ours.of("cot", problem) == cot.fill({"problem": problem.problem})
        assert ours.of("tir", problem) == tir.fill({"problem": problem.problem, "total_code_executions": 8})
        solutions = [Candidate(n, str(n), f"So it is \\boxed{{{n}}}.") for n in range(3)]
        told = "\n\n".join(f"Solution {n}:\nSo it is \\boxed{{{n}}}." for n in range(3))
        values = {"problem": problem.problem, "solutions": told, "num_solutions": 3, "max_idx": 2}
        assert ours.comparison(problem, solutions) == choice.fill(values)


@pytest.mark.nemo
def test_the_words_after_an_output_are_upstream_s_own(nemo_skills):
    from nemo_skills.code_execution.utils import format_code_output

    tags = Prompts(REAL, tiny_tokenizer()).code_tags()
    assert (tags.begin, tags.end) == ("<tool_call>", "</tool_call>")
    assert isinstance(tags, CodeTags) and json.dumps(tags.identity)
    for text, left in (("3\n", 7), ("", 1), ("Traceback …", 0)):
        theirs = format_code_output(
            {"process_status": "completed", "stdout": text, "stderr": ""},
            "\n```output\n",
            "```\n",
            "qwen",
            left,
        )
        assert tags.output(text, "completed", left) == theirs
