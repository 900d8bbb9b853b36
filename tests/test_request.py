"""What a training is asked with is checked at one door, whichever script asks."""

import os
import subprocess
import sys

import pytest

from omr import recipe
from omr.errors import RequestError
from omr.request import TrainRequest
from omr.settings import ROOT


@pytest.mark.parametrize("script", ["train", "plan", "pipeline", "prepare"])
@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"OVERRIDES": "sft.seed=7"}, "OVERRIDES=sft.seed=7 makes another run than the recipe's; add NAME="),
        ({"ENGINE": "foo"}, "ENGINE=foo is unknown; choose trl or nemo-rl"),
        ({"ENGINE": "trl"}, "ENGINE=trl makes another run than the recipe's; add NAME="),
        ({"LIMIT": "10"}, "LIMIT=10 makes another run than the recipe's; add NAME="),
        ({"STEPS": "20"}, "STEPS=20 makes another run than the recipe's; add NAME="),
        ({"NAME": "x", "ENGINE": "trl", "OVERRIDES": "a=1"}, "OVERRIDES are keys of NeMo-RL"),
        (
            {"NAME": "x", "RECOVERY": "2500", "OVERRIDES": "checkpointing.save_period=750"},
            "RECOVERY and OVERRIDES checkpointing.save_period both say when",
        ),
        ({"RECOVERY": "400"}, "RECOVERY=400 never meets the saves every 7,500 steps"),
    ],
)
@pytest.mark.slow
def test_no_script_lets_another_run_under_the_recipes_name(tmp_path, script, words, told):
    environ = {"OMR_ENV_FILE": "/nonexistent", "WORKSPACE": str(tmp_path)}
    environ |= {name: os.environ[name] for name in ("PATH", "PYTHONPATH")}
    command = [sys.executable, ROOT / "bin" / f"{script}.py", "--model", "7b"]
    done = subprocess.run(command, env=environ | words, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and told in done.stderr
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "request_",
    [
        TrainRequest.of(recipe.run("7b")),
        TrainRequest.of(recipe.run("7b", 2, "paper", name="x"), modes="tir,cot", limit=5),
        TrainRequest.of(recipe.run("tiny", steps=40, name="short")),
        TrainRequest.of(recipe.run("1.5b", name="hot"), overrides="sft.seed=7", engine="nemo-rl"),
        TrainRequest.of(recipe.run("14b", edition="published"), recovery=500),
    ],
    ids=lambda request: request.run.title,
)
def test_a_job_that_reads_the_words_asks_for_the_same(request_):
    words = {name.lower(): value for name, value in request_.words().items()}
    steps = int(words["steps"]) if "steps" in words else None
    limit = int(words["limit"]) if "limit" in words else None
    recovery = int(words["recovery"]) if "recovery" in words else None
    named = words.get("variant"), steps, words.get("name"), words["edition"]
    run = recipe.run(words["model"], words["round"], *named)
    more = {"modes": words["modes"], "limit": limit, "overrides": words.get("overrides")}
    assert TrainRequest.of(run, **more, recovery=recovery) == request_


@pytest.mark.parametrize(
    ("model", "steps", "near"),
    [("7b", 500, None), ("7b", 7_500, None), ("7b", 400, 375), ("7b", 8_000, 7_500), ("tiny", 7, None)],
)
def test_saves_for_recovery_meet_those_of_the_schedule(model, steps, near):
    """NeMo-RL has one save period; the one-box engine saves at any step."""
    run = recipe.run(model)
    if near is None:
        assert TrainRequest.of(run, recovery=steps).run == run  # it changes nothing that a run is
    else:
        with pytest.raises(RequestError, match=f"set a divisor of that, like RECOVERY={near}$"):
            TrainRequest.of(run, recovery=steps)
