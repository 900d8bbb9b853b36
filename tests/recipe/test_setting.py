"""RECIPE on every target: in paths, names, jobs and containers; make new-recipe."""

import os
import re
import subprocess
import sys

import pytest

from omr import recipe
from omr.cluster.chain import job_name
from omr.containers import mounts
from omr.recipe import lookup
from omr.request import TrainRequest
from omr.runner import is_tiny
from omr.settings import ROOT, SETTINGS
from omr.workspace import Workspace


def script(folder, name, *args, **environ):
    """A script of bin/ in a folder, without a .env."""
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS}
    env |= {"OMR_ENV_FILE": "/dev/null", "PYTHONPATH": str(ROOT), **environ}
    command = [sys.executable, str(ROOT / "bin" / name), *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, timeout=120)


@pytest.fixture
def mine(tmp_path):
    """A copy of the published recipe, as new-recipe writes it."""
    done = script(tmp_path, "new_recipe.py", "--name", "mine")
    assert done.returncode == 0, done.stderr
    return tmp_path / "mine.toml"


@pytest.fixture
def in_force(mine, monkeypatch):
    monkeypatch.setenv("RECIPE", str(mine))
    recipe.forget()
    yield mine
    monkeypatch.delenv("RECIPE")
    recipe.forget()


@pytest.mark.slow
@pytest.mark.parametrize("name", recipe.SHIPPED)
def test_a_copy_says_the_same_and_begins_with_what_it_is(tmp_path, name):
    assert script(tmp_path, "new_recipe.py", "--name", "mine", "--from", name).returncode == 0
    text = (tmp_path / "mine.toml").read_text()
    assert text.startswith(f"# A recipe of one's own, which began as a copy of {name}.")
    shipped = script(tmp_path, "recipes.py", "--recipe", name)
    copied = script(tmp_path, "recipes.py", "--recipe", "mine.toml")
    assert copied.stdout == shipped.stdout != "" and copied.returncode == 0


@pytest.mark.parametrize(
    "words, said",
    [
        (["--name", "mine"], "mine.toml: is there already; edit it, or give another NAME"),
        (["--name", "tiny"], "NAME=tiny names no recipe"),
        (["--name", "my-own"], "NAME=my-own names no recipe; write small letters, digits and _"),
        ([], "NAME= names no recipe"),
        (["--name", "other", "--from", "tinny"], "RECIPE=tinny is no recipe (did you mean tiny?)"),
    ],
)
def test_what_new_recipe_refuses(mine, words, said):
    before = mine.read_text()
    done = script(mine.parent, "new_recipe.py", *words)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1
    assert mine.read_text() == before and [path.name for path in mine.parent.iterdir()] == ["mine.toml"]


@pytest.mark.slow
def test_a_broken_recipe_is_one_line_of_every_script_and_nothing_is_written(mine):
    mine.write_text(mine.read_text().replace("min_lr = 2e-7", "minlr = 2e-7"))
    for name, *args in (
        ("recipes.py",),
        ("data.py",),
        ("model.py", "--model", "7b"),
        ("train.py", "--model", "7b"),
    ):
        done = script(mine.parent, name, *args, "--recipe", "mine.toml")
        line = f"error: {mine}:\\d+: models.7b.minlr is unknown \\(did you mean min_lr\\?\\)\n"
        assert done.returncode == 2 and re.fullmatch(line, done.stderr), done.stderr
    assert [path.name for path in mine.parent.iterdir()] == ["mine.toml"]


def test_its_runs_carry_its_name(in_force, tmp_path):
    run = recipe.run("7b", 2)
    assert run.title == "mine-7b round2" and job_name(run) == "omr-mine-7b-round2"
    workspace = Workspace(tmp_path)
    assert workspace.run(run).root == tmp_path / "runs/mine-7b/round2"
    assert workspace.data(run.model.corpus, run.round.key) == tmp_path / "data/mine-round2.jsonl"
    assert recipe.words(run.model) == f"RECIPE={in_force} MODEL=7b"
    assert list(recipe.CORPORA) == ["mine"] and "tiny" not in recipe.MODELS


def test_its_jobs_are_told_of_it(in_force):
    words = TrainRequest.of(recipe.run("7b")).words()
    assert words["RECIPE"] == str(in_force) and words["MODEL"] == "7b"


def test_a_container_sees_it_and_what_it_names(in_force, tmp_path):
    environ = {"RECIPE": str(in_force), "WORKSPACE": str(tmp_path / "w"), "HF_HOME": str(tmp_path / "h")}
    assert str(tmp_path) in [mount.target for mount in mounts.mounts(environ)]
    assert "RECIPE" not in mounts.paths({**environ, "RECIPE": "tiny"})


@pytest.mark.parametrize("word, here", [("tiny", True), ("openmathreasoning", False)])
def test_a_recipe_without_gpus_runs_where_the_user_stands(monkeypatch, word, here):
    monkeypatch.setenv("RECIPE", word)
    assert is_tiny([], os.environ) is here


def test_a_relative_path_becomes_absolute(mine, monkeypatch):
    monkeypatch.setenv("RECIPE", "")
    monkeypatch.chdir(mine.parent)
    lookup.use("mine.toml")
    assert os.environ["RECIPE"] == str(mine)
