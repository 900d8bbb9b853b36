"""The Makefile: what is typed is text, a slip is refused, the help knows everything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from omr import settings

ROOT = settings.ROOT
MAKEFILE = (ROOT / "Makefile").read_text()
WORDS = re.search(r"^WORDS := ((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE)[1].replace("\\", " ").split()


def make(*words, **environ):
    """Run make in the repository with no .env and the environment given."""
    env = {k: v for k, v in os.environ.items() if k not in WORDS and not k.startswith(("MAKE", "MFLAGS"))}
    env |= {"OMR_ENV_FILE": "/dev/null", **environ}
    return subprocess.run(
        ["make", "-C", str(ROOT), *words], capture_output=True, text=True, env=env, timeout=120
    )


def test_make_knows_every_documented_word():
    secrets = {s.name for s in settings.SETTINGS.values() if s.secret}
    # A secret on a command line would be in the process list: it comes from .env or the environment.
    assert set(WORDS) == set(settings.SETTINGS) - secrets | {"PYTHON"}


def test_the_help_names_every_target_and_setting():
    shown = make().stdout
    for target in re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE):
        assert f"make {target} " in shown
    for name in settings.SETTINGS:
        assert re.search(rf"^  {name} ", shown, re.MULTILINE)
    phony = re.search(r"^\.PHONY: ((?:.*\\\n)*.*)", MAKEFILE, re.MULTILINE)[1].replace("\\", " ").split()
    assert set(phony) == set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_the_help_shows_where_a_value_comes_from(tmp_path):
    (tmp_path / ".env").write_text("ACCOUNT=from-file\nHF_TOKEN=hf_abc\n")
    shown = make("MODEL=7b", OMR_ENV_FILE=str(tmp_path / ".env")).stdout
    assert re.search(r"^  MODEL +7b +given ", shown, re.MULTILINE)
    assert re.search(r"^  ACCOUNT +from-file +\.env ", shown, re.MULTILINE)
    assert re.search(r"^  HF_TOKEN +set +\.env ", shown, re.MULTILINE)
    assert "hf_abc" not in shown


EVIL = ["$(shell touch {0})", "`touch {0}`"]
MORE_EVIL = ["$(touch {0})", "'; touch {0}; '", '"; touch {0}; "', "$$(touch {0})", "a\ntouch {0}"]


@pytest.mark.parametrize("evil", [*EVIL, *(pytest.param(evil, marks=pytest.mark.slow) for evil in MORE_EVIL)])
@pytest.mark.parametrize("where", ["command line", "environment"])
def test_nothing_typed_is_run(tmp_path, evil, where):
    planted = tmp_path / "planted"
    value = evil.format(planted)
    for spared in ("PYTHON", "RUNNER"):  # with a hostile RUNNER docker/run stops before the script
        typed = dict.fromkeys({*WORDS} - {"PYTHON", spared}, value)
        for target in ("model", "train"):
            if where == "command line":
                make(target, *(f"{word}={text}" for word, text in typed.items()))
            else:
                make(target, **typed)
    assert not planted.exists()


def test_a_typed_value_arrives_as_it_is(tmp_path):
    refused = make("train", "MODEL=$(shell id)$x")
    assert "MODEL=$(shell id)$x is unknown; choose tiny" in refused.stderr
    assert refused.returncode == 2


def test_a_slip_is_refused_and_not_expanded(tmp_path):
    planted = tmp_path / "planted"
    refused = make("recipes", f"MODLE=$(shell touch {planted})")
    assert "MODLE is no setting of this Makefile" in refused.stderr
    assert refused.returncode == 2
    assert not planted.exists()


def script(name, *words, **environ):
    """Run a script of bin/ as docker/run does."""
    env = {k: v for k, v in os.environ.items() if k not in WORDS} | {"OMR_ENV_FILE": "/dev/null", **environ}
    command = [sys.executable, str(ROOT / "bin" / f"{name}.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)


@pytest.mark.parametrize(
    "stage, words, said",
    [
        ("model", {"MODEL": "9b"}, "MODEL=9b is unknown; choose tiny, 1.5b, 7b, 14b or 32b"),
        ("train", {}, "MODEL is not set; choose MODEL=tiny, 1.5b, 7b, 14b or 32b"),
        ("train", {"MODEL": "32b", "ROUND": "2"}, "32b trains in round 1 only"),
        ("train", {"MODEL": "tiny", "ROUND": "3"}, "ROUND=3 is unknown; choose 1 or 2"),
        ("train", {"MODEL": "tiny", "ROUND": "2", "VARIANT": "foo"}, "VARIANT=foo is unknown"),
        ("data", {"DATASET": "tiny", "ROUND": "3"}, "ROUND=3 is unknown; choose 1 or 2"),
        ("data", {"DATASET": "huge"}, "DATASET=huge is unknown; choose openmathreasoning or tiny"),
        (
            "data",
            {"DATASET": "tiny", "MODES": "cot,foo"},
            "MODES=foo is unknown; choose cot, tir or genselect",
        ),
        ("data", {"DATASET": "tiny", "SEED": "abc"}, "SEED=abc is not a whole number from 0 up"),
        ("train", {"MODEL": "tiny", "STEPS": "8"}, "STEPS=8 makes another run than the recipe's; add NAME="),
        ("train", {"MODEL": "tiny", "NAME": "a/../b", "STEPS": "8"}, "NAME=a/../b is no name"),
        ("train", {"MODEL": "tiny", "ROUND": "2"}, "round 1's final model is not there; run make train"),
        ("train", {"MODEL": "7b"}, "RUNNER"),
        ("picture", {}, "there is no report; run make demo first"),
        ("data", {"DATASET": "tiny", "FORCE": "perhaps"}, "Invalid value for '--force'"),
    ],
)
@pytest.mark.slow
def test_refused_in_one_line_and_nothing_written(tmp_path, stage, words, said):
    workspace = tmp_path / "workspace"
    refused = script(stage, **{"WORKSPACE": str(workspace), **words})
    assert refused.returncode == 2, refused.stderr
    assert refused.stdout == ""
    assert refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1
    assert said in refused.stderr
    assert not workspace.exists()


@pytest.mark.parametrize("stage", ["data", "model", "train"])
def test_a_corrupt_env_file_is_refused(tmp_path, stage):
    (tmp_path / ".env").write_text("ACCOUNT=a\nnot a line\n")
    refused = script(
        stage,
        MODEL="tiny",
        DATASET="tiny",
        WORKSPACE=str(tmp_path / "w"),
        OMR_ENV_FILE=str(tmp_path / ".env"),
    )
    assert refused.returncode == 2
    assert refused.stderr.startswith(f"error: {tmp_path}/.env:2: is not NAME=value")
    assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("stage", ["data", "model", "train"])
def test_an_unwritable_workspace_is_refused(stage):
    # Root may write anywhere but below a file that is no folder.
    refused = script(stage, MODEL="tiny", DATASET="tiny", WORKSPACE="/dev/null/workspace")
    assert refused.returncode == 2
    assert "WORKSPACE=/dev/null/workspace is not writable" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.mark.slow
def test_the_light_environment_is_enough_to_plan(tmp_path):
    venv = tmp_path / "venv"
    environ = {**os.environ, "OMR_VENV": str(venv), "OMR_ENV_FILE": "/dev/null"}
    del environ["PYTHONPATH"]  # the environment itself knows the package
    subprocess.run([str(ROOT / "docker/venv"), "cli"], env=environ, check=True, capture_output=True)
    installed = subprocess.run(
        [venv / "bin/pip", "list", "--format=freeze"], capture_output=True, text=True
    ).stdout
    assert "torch" not in installed and "click" in installed
    for name in sorted(p.stem for p in Path(ROOT, "bin").glob("*.py")):
        asked = subprocess.run(
            [venv / "bin/python", ROOT / f"bin/{name}.py", "--help"],
            env=environ,
            capture_output=True,
            text=True,
        )
        assert asked.returncode == 0, f"{name}: {asked.stderr}"
    dry = subprocess.run(
        [ROOT / "docker/run", "train", "bin/train.py"],
        env=environ | {"MODEL": "7b", "DRY_RUN": "1", "RUNNER": "slurm", "WORKSPACE": str(tmp_path / "w")},
        capture_output=True,
        text=True,
    )
    assert dry.returncode == 0, dry.stderr
    assert "max_num_steps: 30000" in dry.stdout
    assert not (tmp_path / "w").exists()


PACKAGE = "MAJOR = 0\nMINOR = 7\nPATCH = 0\n"


@pytest.mark.parametrize(
    ("files", "words", "said"),
    [
        (
            None,
            {},
            "NEMO_RL_SOURCE is not set; set it to a folder made by: git clone --branch v0.6.0 https://",
        ),
        ({}, {}, " is no checkout of NeMo-RL; make one by: git clone"),
        ({"package_info.py": PACKAGE}, {}, " is NeMo-RL v0.7.0; make one by: git clone --branch v0.6.0"),
        (
            {"package_info.py": PACKAGE.replace("7", "6")},
            {"NEMO_SKILLS": "/nonexistent"},
            "NEMO_SKILLS=/nonexistent is no checkout of nemo-skills; clone https://",
        ),
    ],
)
def test_the_tests_of_nemo_rl_need_its_checkout(tmp_path, files, words, said):
    """Refused in one line, before any environment is made."""
    (tmp_path / "nemo_rl").mkdir()
    for name, text in (files or {}).items():
        (tmp_path / "nemo_rl" / name).write_text(text)
    given = {} if files is None else {"NEMO_RL_SOURCE": str(tmp_path)}
    refused = make("test-nemo", *(f"{key}={value}" for key, value in {**given, **words}.items()))
    assert refused.returncode == 2 and said in refused.stderr
    lines = [line for line in refused.stderr.splitlines() if not line.startswith("make")]
    assert len(lines) == 1 and lines[0].startswith("error: ")
