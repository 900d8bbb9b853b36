"""The NeMo-RL path on two nodes of a real Slurm, on a stand-in of its folder: prepared once, ray.sh, the
driver, conversion, average; a crash at start; a node that lacks something."""

import json
import re

import pytest

from omr.settings import ROOT

from .cluster import wait
from .conftest import Site

STAND_IN = ROOT / "tests" / "cluster" / "slurm" / "nemo_rl_stand_in"


@pytest.fixture(scope="session")
def nemo(site):
    """The same workspace, with the stand-in where NeMo-RL is and its tools first on the path."""
    words = {
        "NEMO_RL": str(STAND_IN),
        "PATH": f"{STAND_IN}/bin:{site.env['PATH']}",
        "ENGINE": "nemo-rl",
        "GPUS": "1",
        "NODES": "2",
        "TIME": "1",
        "MARGIN": "45",
        "OMR_STEP_DELAY": "1",
    }
    return Site(site.slurm, site.root, **words)


def submit(nemo, name, links, **env):
    words = ("--model", "micro", "--name", name, "--num_training_jobs", str(links))
    nemo.run("bin/train.py", *words, **env)


def test_the_whole_path_on_two_nodes(nemo):
    submit(nemo, "nemo", 4)
    states = nemo.finish("nemo")
    story, folder = nemo.story("nemo"), nemo.folder("nemo")
    assert states["prepare"] == states["average"] == "COMPLETED", story + nemo.logs("nemo")
    assert "saved step" in story and "cancels the surplus link" in story, story
    assert "TIMEOUT" not in states.values()
    first = (folder.logs / f"engine-{nemo.ids('nemo')['train-1']}-0.log").read_text()
    assert "--min-nodes=2" in first and "--include-dashboard=false" in first
    # Ray asked for a token, the prepared data set was read, and the token's file is gone.
    assert "token" in first and "++data.train.data_path='" + str(nemo.root / "cache" / "data") in first
    assert not list(folder.root.glob(".ray-*")) and not list(folder.root.glob(".stop-*"))
    assert len(list((nemo.root / "cache" / "megatron").glob("*/converted.json"))) == 1
    assert {p.name for p in folder.hf.glob("step_*")} == {"step_12", "step_16", "step_20", "step_24"}
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    assert rows[-1]["step"] == 24
    # A second run on the same data and base finds both made.
    plan = nemo.run("bin/plan.py", "--model", "micro", "--name", "other").stdout
    assert plan.index("train-1 ─any→ convert") and "prepare" not in plan.split("every job gets")[0]


def test_a_crash_at_start_stops_the_chain(nemo):
    """Two links of four burn seconds each; nothing is left pending, and the story says why."""
    submit(nemo, "crash", 4, OMR_STAND_IN_CRASH="CUDA driver is too old")
    states = nemo.finish("crash")
    story = nemo.story("crash")
    assert [states[f"train-{i}"] for i in (1, 2, 3, 4)] == ["FAILED", "FAILED", "CANCELLED", "CANCELLED"], (
        story
    )
    assert states["convert"] == states["average"] == "CANCELLED"
    assert re.search(r"left no new checkpoint; the engine ended with \d+: CUDA driver is too old", story), (
        story
    )
    assert "2 links in a row left no new checkpoint; the rest of the chain is cancelled" in story
    wait(lambda: "the chain is gone" in status(nemo, "crash"), 10, "status does not say that it is over")
    # Mended, the same command goes on, and the breaker has forgotten the old chain's failures.
    submit(nemo, "crash", 4, OMR_STEP_DELAY="0.1", TIME="5")
    assert nemo.finish("crash")["average"] == "COMPLETED", nemo.story("crash")


def status(nemo, name):
    return nemo.run("bin/status.py", "--model", "micro", "--name", name).stdout


def test_a_node_that_lacks_something_is_named(nemo):
    """The canary asks every node before the engine starts; a refusal stops the chain at once."""
    submit(nemo, "mounts", 2, MOUNTS="/nowhere:/data")
    states = nemo.finish("mounts")
    story = nemo.story("mounts")
    assert states["train-1"] == "FAILED" and states["train-2"] == "CANCELLED", story
    assert "refused: node n" in story and "has no /nowhere, which MOUNTS names" in story


def test_a_broken_node_is_left_out_by_the_next_link(nemo):
    """One of two nodes has lost a GPU: that link ends, and the next asks Slurm for others."""
    nemo.slurm.call("scontrol", "update", "NodeName=n3", "State=DRAIN", "Reason=test")
    try:
        submit(nemo, "broken", 3, OMR_STAND_IN_BROKEN="n1", OMR_STEP_DELAY="0.1", TIME="5")
        nemo.running("broken", "train-1")
    finally:
        nemo.slurm.call("scontrol", "update", "NodeName=n3", "State=RESUME")
    states = nemo.finish("broken")
    story = nemo.story("broken")
    assert states["train-1"] == "FAILED" and states["train-2"] == "COMPLETED", story
    assert "refused: node n1: has 0 GPUs, 1 are asked for" in story and "do without n1" in story
    assert states["average"] == "COMPLETED" and "2 links in a row" not in story, story


def test_an_end_that_moves_is_heeded(nemo):
    """A preempted job is told by USR2 that it ends sooner; it saves before, and the next link goes on."""
    submit(nemo, "moved", 2, TIME="20", MARGIN="30", OMR_STEP_DELAY="2")
    job = nemo.running("moved", "train-1")
    wait((nemo.folder("moved").metrics).exists, 60, "the training did not begin")
    nemo.slurm.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    nemo.slurm.call("scancel", "--batch", "--signal=USR2", job)
    wait(
        lambda: "the allocation ends in 30 s: saves and stops" in nemo.story("moved"), 60, nemo.story("moved")
    )
    assert nemo.finish("moved")["train-1"] == "COMPLETED", nemo.story("moved")
    assert "saved step" in nemo.story("moved"), nemo.story("moved")
    assert nemo.folder("moved").final.exists(), nemo.story("moved") + nemo.logs("moved")
