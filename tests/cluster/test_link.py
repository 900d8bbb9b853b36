"""The life of a link, Slurm and engine played by hand: what it refuses, judges, cancels and writes down."""

import json
import threading
import time
from dataclasses import replace

import pytest
import yaml

from omr import manifest, recipe
from omr.cluster import link, nodes, submit
from omr.cluster.attempt import Attempt
from omr.errors import OmrError
from omr.models import convert
from omr.request import TrainRequest
from omr.run import checkpoints, frozen, lease
from omr.run.chain_state import ChainState
from omr.run.checkpoints import Checkpoints
from omr.training.nemo_rl import prepared_data
from omr.workspace import RunFolder, Workspace

RUN = recipe.run("tiny", 1, steps=24, name="x")  # averages 6, 12, 18, 24
JOBS = [("train-1", "7"), ("train-2", "8"), ("train-3", "9"), ("convert", "10"), ("average", "11")]


class ByName(Checkpoints):
    """Checkpoints that count by their name alone."""

    def whole(self):
        return checkpoints.steps(self.folder.checkpoints)

    def mend(self):
        return []


class Slurm:
    """What the link asks of Slurm, and what it did to other jobs."""

    def __init__(self):
        self.cancelled, self.excluded, self.active, self.spare = [], {}, False, True

    def jobs(self, ids):
        return {i: link.slurm.Queued(i, "PENDING", "Dependency", "omr") for i in ids}

    def cancel(self, ids):
        self.cancelled += ids

    def exclude(self, ids, nodes):
        self.excluded |= {job: list(nodes) for job in ids}


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """A chain of three links whose proofs pass; `go(job, saves=…)` lives one of them through."""
    slurm = Slurm()
    for name in ("jobs", "cancel", "exclude"):
        monkeypatch.setattr(link.slurm, name, getattr(slurm, name))
    monkeypatch.setattr(link.slurm, "is_active", lambda job: slurm.active)
    monkeypatch.setattr(link.slurm, "can_do_without", lambda nodes: slurm.spare)
    monkeypatch.setattr(link, "_prove", lambda attempt: None)
    monkeypatch.setattr(link.nodes, "prove", lambda folder: None)
    folder = Workspace(tmp_path).run(RUN)
    folder.logs.mkdir(parents=True)
    listed = [{"key": key, "id": number} for key, number in JOBS]
    folder.jobs_json.write_text(json.dumps({"chain": "c", "jobs": listed}))

    def go(job, *saves, code=0, restart=0):
        def engine(attempt, held, command, more):
            for step in saves:
                folder.checkpoint(step).mkdir(parents=True)
            return code, 3.0

        monkeypatch.setattr(link.supervise, "run", engine)
        found = ByName(folder, "trl")
        attempt = Attempt(
            TrainRequest.of(RUN), folder, Workspace(tmp_path), job, restart, f"{int(job) - 6} of 3", found
        )
        return link.run_link(attempt, ["engine"])

    go.slurm, go.folder = slurm, folder
    go.story = lambda: folder.event_log.read_text()
    return go


def test_links_that_save_go_on_and_the_last_cancels_the_surplus(chain):
    assert chain("7", 4, 6, code=1) == 0 and "saved step 6 of 24" in chain.story()
    assert ChainState.load(chain.folder).save_seconds == 3.0
    assert chain("8", 12, 18, 24) == 0
    assert "trains on from step 6" in chain.story() and "the training is complete at step 24" in chain.story()
    assert chain.slurm.cancelled == ["7", "9"]
    assert chain("9") == 0 and "nothing to do" in chain.story()


def test_two_links_without_a_checkpoint_stop_the_chain(chain):
    assert chain("7", code=1) == 1 and not chain.slurm.cancelled
    assert chain("8", code=1) == 1
    assert chain.slurm.cancelled == ["7", "9", "10", "11"]
    assert "2 links in a row left no new checkpoint; the rest of the chain is cancelled" in chain.story()
    # One that starts all the same ends before it takes anything.
    held = lease.holder(chain.folder.lease)
    assert chain("9", 6) == 1 and lease.holder(chain.folder.lease) == held


def test_a_requeued_link_is_one_link(chain, monkeypatch):
    def lost(attempt, *rest):
        raise KeyboardInterrupt  # its node is lost: nothing is written down

    chain("7", code=1)
    for restart in (0, 1, 2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(link, "inherit", lost)
            chain("8", restart=restart)
    assert chain("8", 6, restart=3) == 0 and not chain.slurm.cancelled
    assert "job 8 ended without a word" in chain.story()


def test_another_live_job_keeps_the_run(chain):
    lease.take(chain.folder.lease, "99", 0, lambda job: False)
    chain.slurm.active = True
    assert chain("7", 6) == 1 and "refused: " in chain.story() and "job 99 trains here" in chain.story()
    assert not chain.folder.checkpoints.exists() and not chain.slurm.cancelled


def test_a_refusal_cancels_the_rest(chain, monkeypatch):
    def refuse(attempt):
        raise OmrError("the data changed")

    monkeypatch.setattr(link, "_prove", refuse)
    assert chain("7") == 1 and chain.slurm.cancelled == ["8", "9", "10", "11"]
    assert "refused: the data changed" in chain.story()


def test_a_bad_node_costs_a_link_and_not_the_chain(chain, monkeypatch):
    def bad(folder):
        raise nodes.Fault("node n3: has 7 GPUs, 8 are asked for", ("n3",))

    with monkeypatch.context() as patch:
        patch.setattr(link.nodes, "prove", bad)
        assert chain("7") == 1
    assert chain.slurm.excluded == {"8": ["n3"], "9": ["n3"]} and not chain.slurm.cancelled
    assert "refused: node n3: has 7 GPUs" in chain.story() and "do without n3" in chain.story()
    assert chain("8", 6) == 0
    # Twice in a row is no accident.
    with monkeypatch.context() as patch:
        patch.setattr(link.nodes, "prove", bad)
        assert chain("9") == 1 and chain("9", restart=1) == 1 and not chain.slurm.cancelled
        assert chain("7") == 1
    assert chain.slurm.cancelled == ["8", "9", "10", "11"]


def test_a_node_that_cannot_be_spared_is_not_left_out(chain, monkeypatch):
    """A job that asks for more nodes than are left would wait for ever."""

    def bad(folder):
        raise nodes.Fault("node n3: has 7 GPUs, 8 are asked for", ("n3",))

    chain.slurm.spare = False
    monkeypatch.setattr(link.nodes, "prove", bad)
    assert chain("7") == 1 and not chain.slurm.excluded and "do without" not in chain.story()


def test_an_averaged_step_that_is_lost_stops_the_chain(chain):
    chain("7", 6, 8)
    chain.folder.checkpoint(6).rmdir()
    assert chain("8", 12) == 1 and "step_6, which is averaged, is gone" in chain.story()
    assert "10" in chain.slurm.cancelled


def test_a_link_that_is_faster_than_its_submission_waits_for_it(chain):
    whole = chain.folder.jobs_json.read_text()
    chain.folder.jobs_json.write_text(json.dumps({"chain": "old", "jobs": [{"key": "train-1", "id": "1"}]}))
    later = threading.Timer(1.5, lambda: chain.folder.jobs_json.write_text(whole))
    later.start()
    began = time.monotonic()
    assert chain("7", 6, 12, 18, 24) == 0
    assert time.monotonic() - began > 1 and chain.slurm.cancelled == ["8", "9"]
    assert ChainState.load(chain.folder).chain == "c"


def test_what_a_killed_start_left_is_removed(chain):
    for name in (".ray-7-0", ".stop-7-0"):
        (chain.folder.root / name).touch()
    chain("7", 6, restart=1)
    assert not list(chain.folder.root.glob(".ray-*")) and not list(chain.folder.root.glob(".stop-*"))


# --- what NeMo-RL reads --------------------------------


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
    file = submit.engine_file_of(request, space)
    path = file.path
    path.parent.mkdir(parents=True)
    path.write_text(file.text)
    made = prepared_data.folder(space, "00ff", None)
    made.mkdir(parents=True)
    (made / "data-00000-of-00001.arrow").write_bytes(b"0123456789")
    manifest.write(made, prepared_data.inputs("00ff", None), files={"data-00000-of-00001.arrow": 10})

    def prove(**changed):
        given = replace(request, **changed)
        link._prove_engine(replace(attempt, request=given), frozen.inputs(given, space))

    def inherit(job="7"):
        monkeypatch.setattr(attempt, "job", job)
        frozen.freeze(attempt.folder, frozen.inputs(request, space))
        return link.inherit(attempt)

    prove.path, prove.prepared, prove.data = path, made, data
    prove.inherit, prove.base, prove.space = inherit, base, space
    return prove


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
    monkeypatch.setattr(link.slurm, "is_active", lambda job: False)
    cache = convert.cache(submitted.space, submitted.base)
    converted(cache)
    harm(cache)
    found = submitted.inherit()
    assert found == {"OMR_DATA": str(submitted.prepared), "NRL_MEGATRON_CHECKPOINT_DIR": str(cache)}
    assert cache.exists() is kept


def test_two_runs_do_not_convert_into_one_folder(submitted, monkeypatch):
    """The second makes a copy of its own as long as the first is at it, and finds it made afterwards."""
    monkeypatch.setattr(link.slurm, "is_active", lambda job: True)
    cache = convert.cache(submitted.space, submitted.base)
    place = "NRL_MEGATRON_CHECKPOINT_DIR"
    assert submitted.inherit("7")[place] == str(cache)
    assert submitted.inherit("8")[place] == str(submitted.path.parent / "megatron")
    converted(cache)
    assert submitted.inherit("8")[place] == str(cache)


def test_another_base_at_the_same_path_is_another_cache(submitted):
    before = convert.cache(submitted.space, submitted.base)
    manifest.write(submitted.base, {}, files={"config.json": {"sha256": "1", "size": 1}})
    assert convert.cache(submitted.space, submitted.base) != before


def test_too_few_rows_for_the_steps_are_refused(submitted):
    manifest.write(submitted.data, {}, sha256="00ff", size=3, rows=1_000)
    with pytest.raises(OmrError, match="1,000 rows make 0 steps an epoch"):
        submitted()


@pytest.mark.parametrize(
    ("said", "count", "error", "names", "line"),
    [
        ("error: node n2: has no /raid\n", 4, nodes.Fault, ("n2",), "node n2: has no /raid"),
        (
            "error: node n2: a\nsrun: error: n2: task 1: Exited\nerror: node n3: b\n",
            4,
            nodes.Fault,
            ("n2", "n3"),
            "node n2: a (2 of 4 nodes complain)",
        ),
        ("error: node n1: a\nerror: node n2: a\n", 2, OmrError, None, "node n1: a (2 of 2 nodes complain)"),
        ("error: node n1: a\n", 1, OmrError, None, "node n1: a"),
        (
            "srun: error: Task launch failed on n4\n",
            4,
            nodes.Fault,
            (),
            "srun: error: Task launch failed on n4",
        ),
        ("", 4, nodes.Fault, (), "the nodes do not answer"),
    ],
)
def test_some_nodes_or_all(said, count, error, names, line):
    with pytest.raises(OmrError) as found:
        nodes.judge(said, count)
    assert type(found.value) is error and str(found.value) == line
    assert names is None or found.value.names == names


def test_nodes_that_do_not_answer(tmp_path, monkeypatch):
    tool = tmp_path / "srun"
    tool.write_text("#!/bin/sh\nexec sleep 30\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_NUM_NODES", "4")
    monkeypatch.setenv("OMR_ROOT", "/omr")
    monkeypatch.setattr(nodes, "PATIENCE", 0.5)
    with pytest.raises(nodes.Fault, match="the 4 nodes did not answer"):
        nodes.prove(RunFolder(tmp_path))
