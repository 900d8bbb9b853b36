"""What an evaluation would lack on its node, said on the login node."""

import importlib.util
from importlib.machinery import ModuleSpec

import pytest

from omr import recipe
from omr.cluster.evaluation import checks
from omr.errors import RequestError


@pytest.fixture
def installed(space, tmp_path, monkeypatch):
    """A nemo-skills with two data sets; None for none."""

    def install(there=True):
        sets = tmp_path / "nemo_skills" / "dataset"
        for name in ("comp-math-24-25", "aime25"):
            (sets / name).mkdir(parents=True, exist_ok=True)
            (sets / name / "__init__.py").touch()
        spec = ModuleSpec("nemo_skills", None, is_package=True)
        spec.submodule_search_locations.append(str(tmp_path / "nemo_skills"))
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if there else None)

    install()
    return install


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({}, None),
        ({"BENCHMARK": "aime25"}, None),
        ({"BENCHMARK": "aime52"}, "aime52 is no data set of nemo-skills.*aime25.*set PROBLEMS"),
        ({"BENCHMARK": "hle"}, "compared by a judge, .*; add LAUNCHER=ns"),
        ({"PROBLEMS": "problems.jsonl"}, "give the whole path"),
        ({"PROBLEMS": "/nowhere/p.jsonl"}, "is not there"),
        ({"PROBLEMS": __file__}, None),
        ({"PROBLEMS": __file__, "BENCHMARK": "aime25"}, "are both set"),
    ],
)
def test_problems(installed, words, says, monkeypatch):
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    if says is None:
        checks.problems(recipe.run("7b"))
    else:
        with pytest.raises(RequestError, match=says):
            checks.problems(recipe.run("7b"))


def test_without_nemo_skills(installed, monkeypatch):
    installed(there=False)
    checks.problems(recipe.run("tiny"))
    with pytest.raises(RequestError, match="nemo-skills is not installed; run make nemo"):
        checks.problems(recipe.run("7b"))
    monkeypatch.setenv("CONTAINER", "/images/omr.sqsh")  # which has its own
    checks.problems(recipe.run("7b"))
