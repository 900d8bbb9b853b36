"""Where a stage runs and whether it is dry: one answer, from arguments, environment and .env."""

import os
import subprocess
import sys

import click
import pytest

from omr import runner, settings
from omr.errors import RequestError
from omr.settings import ROOT


@pytest.fixture
def say(tmp_path):
    """Set the environment and .env of a test; nothing of this machine's own is left."""
    before = dict(os.environ)
    for name in settings.SETTINGS:
        os.environ.pop(name, None)

    def put(env_file="", **environ):
        (tmp_path / ".env").write_text(env_file)
        os.environ.update(OMR_ENV_FILE=str(tmp_path / ".env"), **environ)

    put()
    yield put
    os.environ.clear()
    os.environ.update(before)


@pytest.mark.parametrize(
    ("args", "environ", "expected"),
    [
        (["--model", "7b"], {}, "7b"),
        (["--model=7b"], {}, "7b"),
        (["--model", "7b", "--model=14b"], {}, "14b"),
        ([], {"MODEL": "7b"}, "7b"),
        (["--model", "14b"], {"MODEL": "7b"}, "14b"),
        (["--name", "tiny"], {}, None),
        ([], {"MODEL": ""}, None),
    ],
)
def test_what_a_script_will_take_for_a_setting(args, environ, expected):
    assert runner.argument("MODEL", args, environ) == expected


@pytest.mark.parametrize(
    ("args", "environ", "expected"),
    [
        (["--model", "tiny"], {}, "host"),
        (["--model=tiny"], {}, "host"),
        (["--dataset", "tiny"], {}, "host"),
        ([], {"MODEL": "tiny"}, "host"),
        ([], {"DATASET": "tiny"}, "host"),
        # A word that happens to be `tiny` is no recipe.
        (["--model", "7b", "--name", "tiny"], {}, "slurm"),
        (["--model", "7b"], {"NAME": "tiny"}, "slurm"),
        (["--model", "7b"], {"DATASET": "tiny"}, "slurm"),
        (["--model", "tiny"], {"RUNNER": "docker"}, "docker"),
        ([], {}, "slurm"),
    ],
)
def test_the_tiny_recipe_alone_stays_here(say, args, environ, expected):
    say("RUNNER=slurm\n", **environ)
    assert runner.decide(args) == (expected, False)


def test_without_a_runner_nothing_is_said(say):
    assert runner.decide(["--model", "7b"]) == ("", False)


def test_an_unknown_runner_is_refused(say):
    say(RUNNER="cloud")
    with pytest.raises(RequestError, match="RUNNER=cloud is unknown; choose host, docker or slurm"):
        runner.decide([])


@pytest.mark.parametrize(
    "word", ["1", "0", "y", "n", "yes", "no", "t", "f", "true", "false", "on", "off", "N"]
)
def test_a_dry_run_is_what_click_takes_for_one(say, word):
    say(DRY_RUN=word)
    assert runner.decide([])[1] is click.BOOL(word)


@pytest.mark.parametrize("word", ["--dry-run", "--dry_run"])
def test_a_dry_run_may_be_an_argument(say, word):
    assert runner.decide(["--model", "tiny", word]) == ("host", True)


@pytest.mark.parametrize(("word", "dry"), [("n", False), ("y", True)])
@pytest.mark.slow
def test_the_shell_and_the_script_agree(tmp_path, word, dry):
    plain = {k: v for k, v in os.environ.items() if k not in settings.SETTINGS}
    environ = {**plain, "OMR_VENV": sys.prefix, "OMR_ENV_FILE": "/dev/null", "WORKSPACE": str(tmp_path / "w")}
    done = subprocess.run(
        [ROOT / "docker/run", "data", "bin/model.py", "--model", "tiny"],
        env={**environ, "DRY_RUN": word},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "w").exists() is not dry
