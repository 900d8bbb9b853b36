"""The life of a link, Slurm and engine played by hand: what it refuses, judges, cancels and writes down."""

import contextlib
import json

import pytest

from omr import recipe
from omr.cluster.allocation import link, node_check
from omr.cluster.allocation.attempt import Attempt
from omr.cluster.allocation.supervise import EngineResult
from omr.errors import OmrError
from omr.reports.run.chain import story
from omr.request import TrainRequest
from omr.run import checkpoints, events, lease, notify
from omr.run.chain_state import ChainState
from omr.run.checkpoints import Checkpoints
from omr.workspace import Workspace

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
    monkeypatch.setattr(link.checks, "check_inputs", lambda attempt: None)
    monkeypatch.setattr(link.node_check, "check_nodes", lambda folder: None)
    told = []
    monkeypatch.setattr(notify, "tell", lambda *words: told.append(words[1:]))
    folder = Workspace(tmp_path).run(RUN)
    folder.logs.mkdir(parents=True)
    listed = [{"key": key, "id": number} for key, number in JOBS]
    folder.jobs_json.write_text(json.dumps({"chain": "c", "jobs": listed}))

    def go(job, *saves, code=0, restart=0):
        def engine(attempt, held, command, environment):
            for step in saves:
                folder.checkpoint(step).mkdir(parents=True)
            return EngineResult(code, 3.0)

        monkeypatch.setattr(link.supervise, "run", engine)
        found = ByName(folder, "trl")
        attempt = Attempt(
            TrainRequest.of(RUN), folder, Workspace(tmp_path), job, restart, f"{int(job) - 6} of 3", found
        )
        return link.run_link(attempt, ["engine"])

    go.slurm, go.folder, go.told = slurm, folder, told
    go.story = lambda: folder.event_log.read_text()
    return go


def test_links_that_save_go_on_and_the_last_cancels_the_surplus(chain):
    assert chain("7", 4, 6, code=1) == 0 and "saved step 6 of 24" in chain.story()
    assert ChainState.load(chain.folder).save_seconds == 3.0
    assert chain("8", 12, 18, 24) == 0
    assert "trains on from step 6" in chain.story() and "the training is complete at step 24" in chain.story()
    assert chain.slurm.cancelled == ["7", "9"]
    left = [chain.folder.root / name for name in (".ray-8-0", ".stop-8")]  # of a start that was killed
    for path in left:
        path.touch()
    assert chain("9") == 0 and "nothing to do" in chain.story()
    assert not any(path.exists() for path in left)
    assert not chain.told  # the chain goes on


def test_two_links_without_a_checkpoint_stop_the_chain(chain):
    assert chain("7", code=1) == 1 and not chain.slurm.cancelled
    assert chain("8", code=1) == 1
    assert chain.slurm.cancelled == ["7", "9", "10", "11"]
    assert "2 links in a row left no new checkpoint; the rest of the chain is cancelled" in chain.story()
    [(title, text, where, ending)] = chain.told
    assert (title, where, ending) == ("tiny round1-x stopped", chain.folder.event_log, "c")
    assert text.startswith(
        "tiny round1-x stopped: 2 links in a row left no new checkpoint (link 2 of 3, job 8"
    )
    # One that starts all the same ends before it takes anything.
    held = lease.holder(chain.folder.lease)
    assert chain("9", 6) == 1 and lease.holder(chain.folder.lease) == held


def test_a_requeued_link_is_one_link(chain, monkeypatch):
    def lost(attempt, *rest):
        raise KeyboardInterrupt  # its node is lost: nothing is written down

    chain("7", code=1)
    for restart in (0, 1, 2):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(link.checks, "reused_inputs", lost)
            chain("8", restart=restart)
    assert chain("8", 6, restart=3) == 0 and not chain.slurm.cancelled
    assert "job 8 ended without recording a result" in chain.story()


def test_another_live_job_keeps_the_run(chain):
    lease.take(chain.folder.lease, "99", 0, lambda job: False)
    chain.slurm.active = True
    assert chain("7", 6) == 1 and "refused: " in chain.story() and "job 99 trains here" in chain.story()
    assert not chain.folder.checkpoints.exists() and not chain.slurm.cancelled
    [(title, _, _, ending)] = chain.told
    assert (title, ending) == ("tiny round1-x refused", "c-7")


def test_a_refusal_cancels_the_rest(chain, monkeypatch):
    def refuse(attempt):
        raise OmrError("the data changed")

    monkeypatch.setattr(link.checks, "check_inputs", refuse)
    assert chain("7") == 1 and chain.slurm.cancelled == ["8", "9", "10", "11"]
    assert "refused: the data changed" in chain.story()
    [(title, text, _, _)] = chain.told
    assert title == "tiny round1-x stopped" and "refused: the data changed" in text


def test_a_bad_node_costs_a_link_and_not_the_chain(chain, monkeypatch):
    def bad(folder):
        raise node_check.UnfitNodes("node n3: has 7 GPUs, 8 are asked for", ("n3",))

    with monkeypatch.context() as patch:
        patch.setattr(link.node_check, "check_nodes", bad)
        assert chain("7") == 1
    assert chain.slurm.excluded == {"8": ["n3"], "9": ["n3"]} and not chain.slurm.cancelled
    assert "refused: node n3: has 7 GPUs" in chain.story() and "do without n3" in chain.story()
    assert chain("8", 6) == 0
    # Twice in a row is no accident.
    with monkeypatch.context() as patch:
        patch.setattr(link.node_check, "check_nodes", bad)
        assert chain("9") == 1 and chain("9", restart=1) == 1 and not chain.slurm.cancelled
        assert chain("7") == 1
    assert chain.slurm.cancelled == ["8", "9", "10", "11"]


def test_a_node_that_cannot_be_spared_is_not_left_out(chain, monkeypatch):
    """A job that asks for more nodes than are left would wait for ever."""

    def bad(folder):
        raise node_check.UnfitNodes("node n3: has 7 GPUs, 8 are asked for", ("n3",))

    chain.slurm.spare = False
    monkeypatch.setattr(link.node_check, "check_nodes", bad)
    assert chain("7") == 1 and not chain.slurm.excluded and "do without" not in chain.story()


def test_an_averaged_step_that_is_lost_stops_the_chain(chain):
    chain("7", 6, 8)
    chain.folder.checkpoint(6).rmdir()
    assert chain("8", 12) == 1 and "step_6, which is averaged, is gone" in chain.story()
    assert "10" in chain.slurm.cancelled


def test_what_a_killed_start_left_is_removed(chain):
    for name in (".ray-7-0", ".stop-7-0"):
        (chain.folder.root / name).touch()
    chain("7", 6, restart=1)
    assert not list(chain.folder.root.glob(".ray-*")) and not list(chain.folder.root.glob(".stop-*"))


def test_the_runs_page_knows_all_of_this(chain, monkeypatch):
    """What links write is read back as what it is about (omr/run/events.py)."""

    def lost(attempt, *rest):
        raise KeyboardInterrupt

    def bad(folder):
        raise node_check.UnfitNodes("node n3: has 7 GPUs, 8 are asked for", ("n3",))

    def refuse(attempt):
        raise OmrError("the data changed")

    def go(job, name=None, instead=None, **more):
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            if name:
                patch.setattr(*name, instead)
            chain(job, **more)

    go("7", (link.checks, "reused_inputs"), lost)
    chain("7", 6, restart=1)
    go("8", (link.node_check, "check_nodes"), bad)
    go("9", (ByName, "mend"), lambda self: ["step_9 is damaged (x): set aside as damaged_step_9"], code=3)
    go("9", (link.checks, "check_inputs"), refuse)
    found = story(events.read(chain.folder), [])
    assert [(h.kind, h.step) for h in found.happenings] == [
        *(("killed", 0), ("requeued", 0)),
        *(("refused", 6), ("nodes", 6)),
        *(("damaged", 6), ("resumed", 6), ("failed", 6), ("stopped", 6)),
        ("refused", 6),
    ]
    assert [(s.name, s.start, s.reached) for s in found.stretches] == [
        ("link 1 of 3, job 7", 0, 0),
        ("link 1 of 3, job 7, start 2", 0, 6),
        ("link 3 of 3, job 9", 6, 6),
    ]
