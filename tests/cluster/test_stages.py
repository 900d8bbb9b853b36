"""Plain stages as jobs of their own: the data stage in shards, the import of an image, what is cut off."""

from pathlib import Path

import pytest

from omr import files
from omr.cluster import slurm, stages, status
from omr.cluster.jobs import Site
from omr.cluster.stages import Stage
from omr.errors import OmrError, RequestError
from omr.run.chain_state import Submitted

ROOT = Path("/omr")


def test_data_shards():
    logs = Path("/workspace/logs")
    stage = Stage(
        *("data", "data", "bin/data.py", logs, "/workspace/logs/data.jobs.json"),
        args=("--dataset", "tiny"),
        settings={"FORCE": "1"},
    )
    listed = stages.data_jobs(stage, Site(nodes=1, gpus=0, settings={"WORKERS": "16"}), 8)
    assert [(job.key, job.after) for job in listed] == [
        ("data-plan", ()),
        ("data-format", (("afterok", "data-plan"),)),
        ("data", (("afterok", "data-format"),)),
    ]
    assert listed[0].sbatch_command({})[-4:] == ["--dataset", "tiny", "--part", "plan"]
    assert "--array=0-7" in listed[1].options and listed[1].env["STAGE_PARTS"] == "8"
    assert listed[2].sbatch_command({"data-format": "5"})[-2:] == ["--dataset", "tiny"]
    assert all("--cpus-per-task=16" in job.options and job.env["FORCE"] == "1" for job in listed)


@pytest.mark.parametrize(
    ("image", "source"),
    [
        ("nvcr.io/team/omr:train", "docker://nvcr.io#team/omr:train"),
        ("localhost:5000/omr:train", "docker://localhost:5000#omr:train"),
        ("team/omr:train", "docker://team/omr:train"),
        ("omr:train", "dockerd://omr:train"),
    ],
)
def test_where_enroot_finds_an_image(image, source):
    assert stages.enroot_source(image) == source


def test_a_stage_as_jobs(space, cluster, monkeypatch):
    monkeypatch.setenv("SHARDS", "3")
    monkeypatch.setenv("FORCE", "1")
    said = []
    stages.submit_stage("data", "bin/data.py", ["--dataset", "tiny"], said.append)
    record = space.root / "logs" / "data.jobs.json"
    assert [job.key for job in Submitted.load(record).jobs] == ["data-plan", "data-format", "data"]
    assert said[-1].startswith("data: submitted as data-plan 101, data-format 102, data 103; squeue shows it")
    assert cluster.released == [["101", "102", "103"]]
    for _, argv, env in cluster.jobs:
        assert f"--comment={record}" in argv and "--hold" in argv and env["FORCE"] == "1"


@pytest.mark.parametrize(
    ("script", "model", "gpus", "asked"),
    [
        ("validate", "7b", None, "8"),
        ("validate", "7b", "2", "2"),
        ("validate", "7b", "0", "0"),
        ("validate", "tiny", None, "0"),
        ("average", "7b", None, "0"),
    ],
)
def test_a_stage_that_computes_with_a_model_is_given_gpus(
    space, cluster, monkeypatch, script, model, gpus, asked
):
    monkeypatch.setenv("MODEL", model)
    if gpus:
        monkeypatch.setenv("GPUS", gpus)
    stages.submit_stage("train", f"bin/{script}.py", ["--model", model], print)
    ((_, argv, env),) = cluster.jobs
    assert env["GPUS"] == asked
    assert [word for word in argv if "gpus" in word] == ([f"--gpus-per-node={asked}"] if asked != "0" else [])


def test_a_stage_whose_submission_was_interrupted(space, cluster, monkeypatch):
    """What it left is shown by `make status`, and goes when the stage is submitted again."""
    record = space.root / "logs" / "data.jobs.json"
    left = slurm.Queued("7", "PENDING", "JobHeldUser", "omr-data-plan", comment=str(record))
    other = slurm.Queued("8", "PENDING", "JobHeldUser", "omr-x", comment="somebody's own")
    monkeypatch.setattr(slurm, "queue", lambda: [left, other])
    monkeypatch.setattr(slurm, "available", lambda: True)
    shown = status.stages(space.root)
    assert [(row.key, row.id) for row in shown] == [("omr-data-plan", "7")]
    assert "the same command cancels it and submits anew" in shown[0].note
    stages.submit_stage("data", "bin/data.py", [], print)
    assert cluster.cancelled == ["7"] and cluster.released == [["101"]]


def test_two_submissions_of_a_stage_at_once(space, cluster):
    """The second could take the first one's held jobs for those of a submission that was interrupted."""
    lock = files.lock(space.root / "logs" / "data.jobs.lock", "the submission of data")
    with lock, pytest.raises(OmrError, match="the submission of data is being made by process"):
        stages.submit_stage("data", "bin/data.py", [], print)
    assert not cluster.jobs


def test_a_stage_as_a_job_is_asked_the_same(space, cluster, monkeypatch):
    """`make data ROUND=2 RUNNER=slurm`: the words are in the environment, and the job gets them."""
    said = {"DATASET": "tiny", "ROUND": "2", "SEED": "3", "NAME": "x", "FORCE": "1", "DRY_RUN": "0"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    stages.submit_stage("data", "bin/data.py", [], print)
    ((_, _, environ),) = cluster.jobs
    assert {name: environ.get(name) for name in said} == {**said, "DRY_RUN": None}
    monkeypatch.setenv("SHARDS", "two")
    with pytest.raises(RequestError, match="SHARDS=two is not a whole number"):
        stages.submit_stage("data", "bin/data.py", [], print)
