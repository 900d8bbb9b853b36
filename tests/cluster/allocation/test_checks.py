"""What a link checks before it trains: what NeMo-RL reads, the prepared data, the converted base."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from omr import manifest, recipe
from omr.cluster import job_environment, train
from omr.cluster.allocation import checks
from omr.cluster.allocation.attempt import Attempt
from omr.errors import OmrError
from omr.models import convert
from omr.request import TrainRequest
from omr.run import frozen, validation
from omr.training.nemo_rl import prepared_data
from omr.workspace import Workspace
from tests.training import kit


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """7b on two nodes: base, data, prepared data and nemo_rl.yaml as a submission leaves them."""
    monkeypatch.setenv("NODES", "2")
    monkeypatch.setenv("OMR_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.delenv("GPUS", raising=False)
    space, run = Workspace(tmp_path), recipe.run("7b", 1, steps=20, name="smoke")
    base, data = space.model("7b"), space.data("openmathreasoning", "round1")
    base.mkdir(parents=True)
    manifest.write(base, {}, files={"config.json": {"sha256": "0", "size": 1}})
    data.parent.mkdir()
    data.write_text("{}\n")
    manifest.write(data, {}, sha256="00ff", size=3, rows=10_000)
    request = TrainRequest.of(run, nodes=2, gpus=8)
    attempt = Attempt(request, space.run(run), space, "7", 0, "1 of 2", None)
    file = train.engine_file_of(request, space)
    path = file.path
    path.parent.mkdir(parents=True)
    path.write_text(file.text)
    made = prepared_data.folder(space, "00ff", None)
    made.mkdir(parents=True)
    (made / "data-00000-of-00001.arrow").write_bytes(b"0123456789")
    manifest.write(made, prepared_data.inputs("00ff", None), files={"data-00000-of-00001.arrow": 10})

    def check(**changed):
        given = replace(request, **changed)
        checks.check_nemo_rl(replace(attempt, request=given), frozen.inputs(given, space))

    def reused(job="7"):
        monkeypatch.setattr(attempt, "job", job)
        frozen.freeze(attempt.folder, frozen.inputs(request, space))
        return checks.reused_inputs(attempt)

    check.write = lambda: path.write_text(train.engine_file_of(request, space).text)
    check.path, check.prepared, check.data = path, made, data
    check.reused, check.base, check.space = reused, base, space
    return check


def test_what_was_submitted_is_read(submitted):
    submitted()


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("sft", "seed", 7, "sft.seed was 7, is 42"),
        ("policy", "model_name", "/elsewhere", "policy.model_name was /elsewhere"),
        ("cluster", "num_nodes", 64, "cluster.num_nodes was 64, is 2"),
        ("logger", "wandb_enabled", True, None),  # where it logs is its user's business
    ],
)
def test_a_file_that_was_changed_since_is_refused(submitted, section, key, value, says):
    values = yaml.safe_load(submitted.path.read_text())
    values[section][key] = value
    submitted.path.write_text(yaml.safe_dump(values))
    if says is None:
        submitted()
        return
    with pytest.raises(OmrError, match=says):
        submitted()


def test_a_file_that_is_gone_or_no_yaml_is_refused(submitted):
    submitted.path.write_text("sft: [")
    with pytest.raises(OmrError, match="no YAML any more"):
        submitted()
    submitted.path.unlink()
    with pytest.raises(OmrError, match="is gone"):
        submitted()


def test_prepared_data_that_is_not_whole_is_refused(submitted):
    """Without it NeMo-RL would read the whole file at every start, LIMIT or not."""
    with pytest.raises(OmrError, match="prepared data is not there"):
        submitted(limit=5000)
    part = submitted.prepared / "data-00000-of-00001.arrow"
    part.write_bytes(b"012345678")
    with pytest.raises(OmrError, match="prepared data is not there, or not whole"):
        submitted()
    part.unlink()
    with pytest.raises(OmrError, match="prepared data is not there, or not whole"):
        submitted()


def test_held_out_rows_are_a_part_of_the_prepared_data(submitted, monkeypatch):
    kit.hold_out(submitted.data, cot=[{"input": "2+2?", "output": "4"}] * 3)
    with pytest.raises(
        OmrError, match=r"is not what this run reads: .*data.validation was None, is \[.*cot.jsonl"
    ):
        submitted()
    submitted.write()
    with pytest.raises(OmrError, match="-validation: the prepared data is not there, or not whole"):
        submitted()
    prepared_data._make_held_out(submitted.space, validation.files_of(submitted.data))
    submitted()
    monkeypatch.setattr(checks.slurm, "is_active", lambda job: False)
    folder = Path(submitted.reused()["OMR_VALIDATION"])
    assert (folder / "cot" / "state.json").exists() and "OMR_VALIDATION" in job_environment.ENGINE_NAMES
    next((folder / "cot").glob("*.arrow")).unlink()
    with pytest.raises(OmrError, match=f"{folder}: the prepared data is not there"):
        submitted()


def converted(cache):
    """What a driver leaves in the conversion cache once every rank has loaded from it."""
    cache.mkdir(parents=True)
    (cache / "weights.distcp").write_bytes(b"01234")
    (cache / convert.CONVERTED).write_text(json.dumps({"files": {"weights.distcp": 5}}))


@pytest.mark.parametrize(
    ("harm", "kept"),
    [
        (lambda cache: None, True),
        (lambda cache: (cache / "weights.distcp").write_bytes(b"0123456"), True),
        (lambda cache: (cache / "weights.distcp").write_bytes(b"0123"), False),
        (lambda cache: (cache / "weights.distcp").unlink(), False),
        (lambda cache: (cache / convert.CONVERTED).unlink(), False),
        (lambda cache: (cache / convert.CONVERTED).write_text("{"), False),
    ],
)
def test_the_converted_base_is_reused_where_it_is_whole(submitted, monkeypatch, harm, kept):
    monkeypatch.setattr(checks.slurm, "is_active", lambda job: False)
    cache = convert.cache(submitted.space, submitted.base)
    converted(cache)
    harm(cache)
    found = submitted.reused()
    assert found == {"OMR_DATA": str(submitted.prepared), "NRL_MEGATRON_CHECKPOINT_DIR": str(cache)}
    assert cache.exists() is kept


def test_two_runs_do_not_convert_into_one_folder(submitted, monkeypatch):
    """The second makes a copy of its own as long as the first is at it, and finds it made afterwards."""
    monkeypatch.setattr(checks.slurm, "is_active", lambda job: True)
    cache = convert.cache(submitted.space, submitted.base)
    place = "NRL_MEGATRON_CHECKPOINT_DIR"
    assert submitted.reused("7")[place] == str(cache)
    assert submitted.reused("8")[place] == str(submitted.path.parent / "megatron")
    converted(cache)
    assert submitted.reused("8")[place] == str(cache)


def test_another_base_at_the_same_path_is_another_cache(submitted):
    before = convert.cache(submitted.space, submitted.base)
    manifest.write(submitted.base, {}, files={"config.json": {"sha256": "1", "size": 1}})
    assert convert.cache(submitted.space, submitted.base) != before


def test_too_few_rows_for_the_steps_are_refused(submitted):
    manifest.write(submitted.data, {}, sha256="00ff", size=3, rows=1_000)
    with pytest.raises(OmrError, match="1,000 rows make 0 steps an epoch"):
        submitted()
