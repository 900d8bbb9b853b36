"""A model as one graph on a real Slurm; CPU stages and data shards as jobs; how long a submission takes."""

import json
import subprocess
import time

import pytest

from omr.files import sha256
from omr.settings import ROOT

from .cluster import wait
from .conftest import Site


@pytest.fixture(scope="module")
def empty(slurm):
    """A workspace with nothing in it."""
    return Site(slurm, slurm.root / "empty")


def everything(empty):
    """Every job of a graph: its last state by id."""
    rows = empty.slurm.call("squeue", "-h", "-r", "-t", "all", "-o", "%F %T %j").splitlines()
    return [row.split() for row in rows]


def test_a_model_from_nothing(empty, site):
    words = ("--model", "micro", "--num_training_jobs", "2")
    shown = empty.run("bin/pipeline.py", *words, "--dry_run").stdout
    assert not any(empty.root.iterdir())
    rounds = ("data micro round1", "train micro round1", "data micro round2", "train micro round2")
    parts = ["model micro round1", *rounds]
    assert [line[2:] for line in shown.splitlines() if line[2:] in parts] == parts
    empty.run("bin/pipeline.py", *words, TIME="5")
    folders = [empty.folder(None, round_=key) for key in ("round1", "round2")]
    ids = {i for f in folders for i in (job["id"] for job in json.loads(f.jobs_json.read_text())["jobs"])}
    live = ("PENDING", "RUNNING", "COMPLETING")
    mine = lambda: [state for job, state, _ in everything(empty) if job in ids and state in live]  # noqa: E731
    wait(lambda: not mine(), 900, "the pipeline did not end", step=1)
    for folder in folders:
        story = folder.event_log.read_text()
        assert (folder.final / "manifest.json").exists() and folder.eval_json.exists(), story
    # Round 2 started from round 1's final model, and was frozen only when that stood.
    request = json.loads(folders[1].run_json.read_text())["request"]
    assert request["base"]["path"] == str(folders[0].final)
    assert "everything is finished" in empty.run("bin/pipeline.py", *words).stdout


def test_data_in_shards_is_the_same_file(slurm, site):
    here = Site(slurm, slurm.root / "shards", DATASET="tiny", SHARDS="3", FORCE="1")
    stage = [ROOT / "docker" / "run", "data", "bin/data.py"]
    done = subprocess.run(stage, env=here.env, capture_output=True, text=True, check=True)
    ids = json.loads((here.root / "logs" / "data.jobs.json").read_text())["jobs"]
    assert [job["key"] for job in ids] == [
        "data-plan",
        "data-format",
        "data",
    ] and "submitted as" in done.stdout
    made = here.root / "data" / "tiny-round1.jsonl"
    wait(made.with_suffix(".manifest.json").exists, 200, "the data did not come", step=0.5)
    assert sha256(made) == sha256(site.root / "data" / "tiny-round1.jsonl")


def test_ten_links_are_submitted_at_slurm_s_own_pace(site):
    """Twelve jobs by us, the start of Python included, beside as many plain sbatch calls."""
    words = ("--model", "micro", "--name", "ten", "--num_training_jobs", "10")
    began = time.monotonic()
    for _ in range(12):
        site.slurm.call("sbatch", "--parsable", "--begin=now+1hour", "--wrap=true")
    plain = time.monotonic() - began
    began = time.monotonic()
    site.run("bin/train.py", *words, SBATCH_BEGIN="now+1hour")
    ours = time.monotonic() - began
    site.run("bin/cancel.py", "--model", "micro", "--name", "ten")
    # The start of Python is half a second of the difference; the rest is patience with a busy machine.
    assert ours - plain <= 4.0, f"{ours:.2f} s beside {plain:.2f} s"


def test_a_dry_run_is_quick_and_writes_nothing(site):
    began = time.monotonic()
    done = site.run("bin/train.py", "--model", "7b", "--dry_run", "--num_training_jobs", "4")
    assert time.monotonic() - began < 5.0  # a third of a second on an idle machine
    assert "train-4 ─any→ convert" in done.stdout and "max_num_steps: 30000" in done.stdout
    assert not site.folder(None, model="7b").root.exists()
