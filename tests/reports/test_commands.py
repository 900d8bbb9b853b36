"""What a page tells its reader to type is what the Makefile takes."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from omr import recipe
from omr.evaluation.request import sampling_of
from omr.reports import commands
from omr.reports.run import page
from omr.request import TrainRequest
from omr.run import frozen
from omr.settings import ROOT
from tests.evaluation.kit import found
from tests.reports import kit


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (("7b", 1), "MODEL=7b ROUND=1"),
        (("7b", 2), "MODEL=7b ROUND=2"),
        (("7b", 2, "paper"), "MODEL=7b ROUND=2 VARIANT=paper"),
        (("tiny", 1, None, 8, "mine"), "MODEL=tiny ROUND=1 NAME=mine STEPS=8"),
        (("tiny", 1, None, None, "mine"), "MODEL=tiny ROUND=1 NAME=mine"),
        (("14b", 2, "paper", None, "mine", "published"),
         "MODEL=14b ROUND=2 VARIANT=paper EDITION=published NAME=mine"),
    ],
)  # fmt: skip
def test_a_run_in_words(run, words):
    assert recipe.run_words(recipe.run(*run)) == words


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"corpus": "tiny", "round": "round1"}, "DATASET=tiny ROUND=1"),
        ({"corpus": "openmathreasoning", "round": "round2"}, "DATASET=openmathreasoning ROUND=2"),
        ({"corpus": "tiny", "round": "round2-paper"}, "DATASET=tiny ROUND=2 VARIANT=paper"),
        ({"corpus": "tiny", "round": "round1", "modes": ["cot"], "seed": 5, "limit": 9},
         "DATASET=tiny ROUND=1 MODES=cot SEED=5 LIMIT=9"),
        ({"corpus": "tiny", "round": "round1", "modes": ["cot", "tir", "genselect"], "seed": 0},
         "DATASET=tiny ROUND=1"),
        ({"corpus": "mine", "round": "round1"}, "RECIPE=mine.toml DATASET=mine ROUND=1"),
        ({"corpus": "tiny", "round": "roundx-y"}, "DATASET=tiny ROUND=x VARIANT=y"),
        ({"corpus": "tiny", "round": "round1", "bad_rows": "skip"}, "DATASET=tiny ROUND=1 BAD_ROWS=skip"),
        ({"corpus": None}, None),
        ({}, None),
    ],
)  # fmt: skip
def test_a_data_file_in_words(inputs, words):
    key = f"{inputs.get('corpus')}-{inputs.get('round')}"
    assert commands.of_data(Path(f"{key}.jsonl"), {"inputs": inputs}) == words


@pytest.mark.parametrize(
    ("file", "more", "words"),
    [
        ("tiny-round1-clean", {}, "NAME=clean"),
        ("tiny-round1-cot+tir-clean", {"modes": ["cot", "tir"]}, "MODES=cot,tir NAME=clean"),
        ("tiny-round1-clean", {"drop": "ab", "said": "DROP=a/wrong.txt NAME=clean data.py"},
         "DROP=a/wrong.txt NAME=clean"),
        ("tiny-round1-clean", {"drop": "ab", "said": "data.py --drop x"}, "DROP=… NAME=clean"),
        ("tiny-round1-clean", {"drop": "ab", "said": 5}, "DROP=… NAME=clean"),
        ("tiny-round1", {"unlike": {"cot": {}}}, "ALLOW=rows"),
        ("tiny-round1-held", {"validation": {"share": 0.002}}, "VALIDATION=0.002 NAME=held"),
        ("tiny-round1-held", {"validation": {"problems": "ab"}, "said": "VALIDATION=a/b.jsonl NAME=held"},
         "VALIDATION=a/b.jsonl NAME=held"),
        ("tiny-round1-held", {"validation": 5}, "VALIDATION=… NAME=held"),
    ],
)  # fmt: skip
def test_a_data_file_that_is_not_the_recipes(file, more, words):
    beside = {"command": more.pop("said", ""), "unlike_published": more.pop("unlike", {})}
    origin = {"inputs": {"corpus": "tiny", "round": "round1", **more}, **beside}
    found = commands.of_data(Path(f"{file}.jsonl"), origin)
    assert shlex.split(found) == ["DATASET=tiny", "ROUND=1", *words.split()]


def test_data_of_another_recipe_names_its_file(tmp_path, monkeypatch):
    path = tmp_path / "my own" / "mine.toml"
    path.parent.mkdir()
    path.write_text((ROOT / "omr/recipes/openmathreasoning.toml").read_text())
    monkeypatch.setenv("RECIPE", str(path))
    words = commands.of_data(Path("mine-round1.jsonl"), {"inputs": {"corpus": "mine", "round": "round1"}})
    assert shlex.split(words) == [f"RECIPE={path}", "DATASET=mine", "ROUND=1"]
    words = commands.of_data(Path("tiny-round1.jsonl"), {"inputs": {"corpus": "tiny", "round": "round1"}})
    assert words == "DATASET=tiny ROUND=1"


def test_the_commands_that_repeat_a_run(tmp_path):
    _, folder = kit.begin(tmp_path)
    began = page.look(folder).began
    origin = {"inputs": {"corpus": "tiny", "round": "round1", "modes": ["cot", "tir"], "seed": 5}}
    asked = {
        **vars(began),
        "code": "a" * 40,
        "limit": 100,
        "overrides": "a.b=1 c.d=$(id)",
        "engine": "nemo-rl",
    }
    lines = list(commands.repeat(frozen.FrozenRun(**asked), origin, {"cot": found("tiny")}))
    assert lines == [
        f"git checkout {'a' * 40}",
        "make data DATASET=tiny ROUND=1 MODES=cot,tir SEED=5",
        "make model MODEL=tiny",
        "make train MODEL=tiny ROUND=1 NAME=page STEPS=8"
        " ENGINE=nemo-rl LIMIT=100 'OVERRIDES=a.b=1 c.d=$(id)'",
        "make eval MODEL=tiny ROUND=1 NAME=page STEPS=8 MODE=cot SAMPLES=64 MAX_TOKENS=32768",
        "make report MODEL=tiny ROUND=1 NAME=page STEPS=8",
    ]


def test_splits_are_named_where_the_file_has_them(tmp_path):
    _, folder = kit.begin(tmp_path)
    began = page.look(folder).began
    origin = {"inputs": {"corpus": "tiny", "round": "round1", "modes": ["cot", "tir"]}}
    assert "MODES" not in commands.of_training(began, origin)
    subset = replace(began.data, path=began.data.path.with_stem("tiny-round1-cot+tir"))
    words = commands.of_training(replace(began, data=subset), origin)
    assert words == "MODEL=tiny ROUND=1 NAME=page STEPS=8 MODES=cot,tir"


@pytest.mark.parametrize(("first", "name"), [("round1/final", ""), ("round1-mine/final", " NAME=mine")])
def test_round_2_names_the_round_1_that_it_began_with(tmp_path, first, name):
    began = page.look(kit.begin(tmp_path)[1]).began
    base = replace(began.base, path=tmp_path / "runs/tiny" / first)
    second = replace(began, run=recipe.run("tiny", 2, name="mine"), base=base)
    assert f"make train MODEL=tiny ROUND=1{name}" in list(commands.repeat(second, {}, {}))


@pytest.mark.parametrize(
    ("benchmark", "solutions", "words"),
    [
        ("aime24", None, "MODE=cot BENCHMARK=aime24"),
        ("/a b/own.jsonl", "tir", "MODE=cot 'PROBLEMS=/a b/own.jsonl'"),
        ("tiny", "cot", "MODE=cot SOLUTIONS=cot"),
    ],
)
def test_an_evaluation_names_its_problems(tmp_path, benchmark, solutions, words):
    began = page.look(kit.begin(tmp_path)[1]).began
    result = found("tiny")
    usual = replace(result.inputs, sampling=sampling_of(began.run), solutions=solutions)
    result = replace(result, benchmark=benchmark, inputs=usual)
    [line] = [line for line in commands.repeat(began, {}, {"cot": result}) if line.startswith("make eval")]
    assert line == f"make eval MODEL=tiny ROUND=1 NAME=page STEPS=8 {words}"


def test_they_are_words_of_the_makefile_and_name_this_very_run(tmp_path):
    run, folder = kit.begin(tmp_path)
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    known = set(re.search(r"^WORDS := ((?:.*\\\n)*.*)", makefile, re.MULTILINE)[1].split())
    began = page.look(folder).began
    for line in commands.repeat(
        began, {"inputs": {"corpus": "tiny", "round": "round1"}}, {"cot": found("tiny")}
    ):
        program, target, *words = shlex.split(line)
        if program == "make":
            assert target in targets and {word.partition("=")[0] for word in words} <= known
    given = dict(word.split("=") for word in recipe.run_words(run).split())
    again = recipe.run(given["MODEL"], given["ROUND"], None, int(given["STEPS"]), given["NAME"])
    assert TrainRequest.of(again).run == run
