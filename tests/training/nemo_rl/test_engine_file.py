"""nemo_rl.yaml of a request: where it lies, what settings make of it, when a run may not go on with it."""

from pathlib import Path

import pytest
import yaml

from omr import recipe
from omr.errors import RequestError
from omr.request import TrainRequest
from omr.run.frozen import BaseModel, FrozenRun, TrainingData
from omr.training.nemo_rl import engine_file
from omr.workspace import Workspace

RUN = recipe.run("7b", steps=20, name="smoke")


@pytest.fixture
def space(tmp_path, monkeypatch):
    for name in ("NEMO_RL", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    return Workspace(tmp_path)


def began(rows, limit=None):
    data = TrainingData(Path("/d.jsonl"), "0", 1, rows)
    return FrozenRun(RUN, "nemo-rl", BaseModel(Path("/base"), "0"), data, limit, None)


def test_a_request_has_a_file_of_its_own(space):
    request = TrainRequest.of(RUN, nodes=2, gpus=4, overrides="sft.seed=7")
    file = engine_file.of(request, space, base=Path("/base"))
    assert file.path == space.run(RUN).root / "nemo_rl.yaml" and not file.path.exists()
    values = yaml.safe_load(file.text)
    assert values["cluster"] == {"gpus_per_node": 4, "num_nodes": 2} and values["sft"]["seed"] == 7
    assert values["policy"]["model_name"] == "/base"
    assert values["data"]["train"]["data_path"] == str(space.data("openmathreasoning", "round1"))
    assert values["defaults"] == "/opt/nemo-rl/examples/configs/sft.yaml"
    assert "OVERRIDES=sft.seed=7 is worked in" in file.text


def test_the_settings_of_the_machine(space, monkeypatch):
    monkeypatch.setenv("NEMO_RL", "/src/RL")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    request = TrainRequest.of(RUN)
    quiet = yaml.safe_load(engine_file.of(request, space).text)
    assert quiet["defaults"] == "/src/RL/examples/configs/sft.yaml"
    assert quiet["logger"]["wandb_enabled"] is False
    logged = yaml.safe_load(engine_file.of(request, space, secrets=["WANDB_API_KEY"]).text)["logger"]
    assert logged["wandb_enabled"] is True
    assert (logged["wandb"]["project"], logged["wandb"]["entity"]) == ("openmathreasoning", "team")


def test_too_few_rows_for_the_steps(space):
    file = engine_file.of(TrainRequest.of(RUN), space)
    engine_file.check(file, began(10_000))
    for given in (began(1_000), began(10_000, limit=1_000)):
        with pytest.raises(RequestError, match="1,000 rows make 0 steps an epoch"):
            engine_file.check(file, given)


def test_a_run_goes_on_with_the_values_that_it_began_with(space):
    file = engine_file.of(TrainRequest.of(RUN), space)
    file.path.parent.mkdir(parents=True)
    file.path.write_text(file.text)
    engine_file.check(file, began(10_000))
    # On how many nodes is no part of what is learned; the seed is.
    engine_file.check(engine_file.of(TrainRequest.of(RUN, nodes=2), space), began(10_000))
    other = engine_file.of(TrainRequest.of(RUN, overrides="sft.seed=7"), space)
    with pytest.raises(RequestError, match=r"the run began with other values: sft\.seed was 42"):
        engine_file.check(other, began(10_000))
