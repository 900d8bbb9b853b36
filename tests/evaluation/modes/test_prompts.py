"""The texts that models are asked with: those of training, to the letter."""

import dataclasses
import importlib.util
import json
import re
from pathlib import Path

import pytest

from omr import recipe
from omr.errors import RequestError
from omr.evaluation import benchmarks
from omr.evaluation.modes.genselect import Candidate
from omr.evaluation.modes.prompts import CodeTags, Prompts, sources
from omr.evaluation.problems import Problem
from omr.recipe import reader
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


@pytest.fixture
def mine(tmp_path):
    """A recipe with prompts of its own, for solutions that call code and for a choice among them."""
    (tmp_path / "words/config").mkdir(parents=True)
    (tmp_path / "words/code_tags").mkdir()
    (tmp_path / "words/config/run.yaml").write_text("user: |-\n  {problem}\n  Runs: {runs}\n")
    choose = tmp_path / "words/config/choose.yaml"
    choose.write_text("user: |-\n  {problem}\n  {solutions}\n  0 to {max_idx}?\n")
    tags = {
        "begin": "<c>",
        "end": "</c>",
        "output_begin": "<o>",
        "output_end": "</o>",
        "output_format": "plain",
    }
    (tmp_path / "words/code_tags/mine.yaml").write_text(
        "".join(f'code_{key}: "{value}"\n' for key, value in tags.items())
    )
    text = (reader.FOLDER / "tiny.toml").read_text().replace('"../tiny/prompts"', '"words"')
    fields = 'prompt = "run", code_tags = "mine", fields = {runs = "execution_count()"}'
    text = re.sub("^tir .*", f"tir = {{{fields}}}", text, flags=re.MULTILINE)
    text = re.sub("^genselect .*", 'genselect = {asks = "choose"}', text, flags=re.MULTILINE)
    text = text.replace("code_executions = 8", "code_executions = 3")
    (tmp_path / "mine.toml").write_text(text)
    return reader.read(tmp_path / "mine.toml")


def test_a_recipe_s_own_words(mine):
    asked = Prompts(mine.corpus, tiny_tokenizer(), mine.evaluation.code_executions)
    assert "user\n1+2?\nRuns: 3<|im_end|>" in asked.of("tir", Problem("3", "1+2?"))
    tags = asked.code_tags()
    assert (tags.begin, tags.end, tags.own) == ("<c>", "</c>", True)
    assert tags.output("7\n", "completed", 2).startswith("<o>7\n</o>")
    two = [Candidate(0, "3", "first"), Candidate(1, "4", "second")]
    text = asked.comparison(Problem("3", "1+2?"), two)
    assert "1+2?\nSolution 0:\nfirst\n\nSolution 1:\nsecond\n0 to 1?" in text


@pytest.mark.parametrize("text", ["", "code_begin: <c>", "[", "- a", "code_begin: [1]", None])
def test_code_tags_that_are_not_whole(mine, text):
    path = mine.corpus.prompt_folder / "code_tags/mine.yaml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(RequestError, match=r"mine.yaml: is no file of code tags; write code_begin, code_end"):
        Prompts(mine.corpus, tiny_tokenizer()).code_tags()


def test_a_recipe_without_code_tags():
    prompt = dataclasses.replace(TINY.prompts["tir"], code_tags=None)
    asked = Prompts(dataclasses.replace(TINY, prompts={"tir": prompt}), tiny_tokenizer())
    with pytest.raises(RequestError, match=r"names none; write code_tags into splits\.tir"):
        asked.code_tags()


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
