"""Which problems are asked: tiny's own, a data set of nemo-skills, a file."""

import importlib.util
import json
import types

import pytest

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.evaluation.benchmarks import load
from omr.evaluation.published import published
from omr.tiny import corpus

SUBSETS = recipe.shipped("openmathreasoning").evaluation.subsets
TINY, REAL = recipe.run("tiny"), recipe.run("7b")
ROW = {"id": "a-0", "subset_for_metrics": "aime24", "problem": "1+1?", "expected_answer": "2"}
MAKES = f"from pathlib import Path\nPath('test.jsonl').write_text({json.dumps(ROW)!r})\n"


@pytest.fixture
def nemo_skills(tmp_path, monkeypatch):
    """A stand-in for the installed package: data sets in each of the forms that they have."""
    folder = tmp_path / "nemo_skills" / "dataset"
    files = {
        "comp-math-24-25": {"test.txt": json.dumps(ROW)},
        "ready": {"test.jsonl": json.dumps(ROW), "test.txt": "no JSON"},
        "made": {"prepare.py": MAKES},
        "away": {"prepare.py": "raise OSError('no route to host')"},
        "other": {"prepare.py": "pass"},
    }
    for name, content in files.items():
        (folder / name).mkdir(parents=True)
        for file, text in {"__init__.py": "", **content}.items():
            (folder / name / file).write_text(text)
    found = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / "nemo_skills")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    return folder


def test_tiny_asks_its_held_out_problems(tmp_path):
    asked = load(TINY, None, None, tmp_path)
    assert asked.source == "tiny"
    assert [(p.problem, p.expected_answer) for p in asked.problems] == [
        (row["problem"], row["expected_answer"]) for row in corpus.held_out(20)
    ]


@pytest.mark.parametrize("name", [None, "comp-math-24-25", "ready", "made"])
def test_a_real_model_is_asked_a_data_set_of_nemo_skills(nemo_skills, tmp_path, name):
    for _ in range(2):  # what was made once stays
        asked = load(REAL, name, None, tmp_path / "made")
        (problem,) = asked.problems
        assert (asked.source, problem.subset) == (name or "comp-math-24-25", "aime24")
        assert (problem.problem, problem.expected_answer) == ("1+1?", "2")
        (nemo_skills / "made" / "prepare.py").write_text("1 / 0")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("reddy", r"BENCHMARK=reddy is no data set of nemo-skills \(did you mean ready\?\); choose one"),
        ("../../../x", "is no data set of nemo-skills"),
        ("away", r"its prepare step failed \(OSError: no route to host\); give it the network it needs"),
        ("other", r"its prepare step made no test\.jsonl"),
    ],
)
def test_a_data_set_that_is_not_there_is_told(nemo_skills, tmp_path, name, told):
    with pytest.raises(OmrError, match=told) as refused:
        load(REAL, name, None, tmp_path / "made")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "made" / "away").exists()


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(ROW))
    assert load(REAL, None, path, tmp_path).source == str(path)
    with pytest.raises(RequestError, match="are both set; leave one out"):
        load(REAL, "ready", path, tmp_path)


def test_without_nemo_skills_it_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RequestError, match="run make nemo"):
        load(REAL, None, None, tmp_path)


@pytest.mark.nemo
def test_the_recipe_s_benchmark_has_its_256_problems(tmp_path):
    pytest.importorskip("nemo_skills", reason="run make nemo")
    asked = load(REAL, None, None, tmp_path)
    counted = {name: sum(p.subset == name for p in asked.problems) for name in SUBSETS}
    assert counted == {"aime24": 30, "aime25": 30, "hmmt-24-25": 196}
    assert len({p.id for p in asked.problems}) == 256


def test_published_numbers():
    benchmark = "comp-math-24-25"
    assert published("7b", "cot", benchmark, "aime24") == (74.8, 80.0)
    assert published("32b", "genselect", benchmark, "hmmt-24-25") == (None, 73.5)
    assert published("tiny", "cot", "tiny", "all") is None
    assert published("7b", "cot", "aime24", "aime24") is None
    assert published("7b", "cot", benchmark, "all") is None
    for model in ("1.5b", "7b", "14b", "32b"):
        for mode in ("cot", "tir", "genselect"):
            for subset in SUBSETS:
                one = published(model, mode, benchmark, subset)
                assert 30 < (one.pass1 or one.majority) <= one.majority < 100
