"""A workspace, a Slurm played by hand, and a run that is ready to be submitted."""

import pytest

from omr import manifest, recipe, settings
from omr.cluster import job_environment, slurm, submit, train
from omr.errors import OmrError
from omr.request import TrainRequest
from omr.workspace import Workspace


@pytest.fixture
def space(tmp_path, monkeypatch):
    """An empty workspace, and an environment that says nothing."""
    for name in (*settings.SETTINGS, "SBATCH_EXCLUDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMR_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("WORKSPACE", str(tmp_path / "w"))
    return Workspace(tmp_path / "w")


def done(path, **facts):
    """Make a stage's output look finished."""
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    else:
        path.mkdir(parents=True)
    manifest.write(path, {}, **facts)


@pytest.fixture
def cluster(monkeypatch):
    """A Slurm that gives ids in order and remembers what it was given; `refuse` names a job that fails."""
    jobs = []

    def sbatch(argv, env):
        key = next(word for word in argv if word.startswith("--job-name=")).removeprefix("--job-name=")
        if sbatch.refuse and sbatch.refuse in key:
            raise OmrError("sbatch failed: QOS limit")
        jobs.append((key, argv, env))
        return str(100 + len(jobs))

    sbatch.refuse, sbatch.jobs, sbatch.cancelled, sbatch.released = None, jobs, [], []
    monkeypatch.setattr(slurm, "need", lambda: None)
    monkeypatch.setattr(slurm, "sbatch", sbatch)
    monkeypatch.setattr(slurm, "cancel", lambda ids: sbatch.cancelled.extend(ids))
    monkeypatch.setattr(slurm, "queue", lambda: [])
    monkeypatch.setattr(slurm, "release", lambda ids: sbatch.released.append(list(ids)))
    monkeypatch.setattr(job_environment, "make_node_environments", lambda engine, evaluate=False: None)
    return sbatch


@pytest.fixture
def ready(space, cluster):
    """Base and data of 7b are there; returns a submission of its round 1."""
    done(space.model("7b"), files={"config.json": {"sha256": "0", "size": 1}})
    done(space.data("openmathreasoning", "round1"), rows=5_000_000, size=3, sha256="00ff")
    run = recipe.run("7b", 1)

    def go(said=None, evaluate=False, **more):
        lines = []
        how = submit.Submission(2, evaluate, **more)
        train.train(TrainRequest.of(run, **(said or {})), space, how, lines.append)
        return "\n".join(lines)

    go.folder, go.run = space.run(run), run
    return go
