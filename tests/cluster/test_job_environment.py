"""What a job is given: harmless settings by name, the run's own from its request, secrets by name alone."""

import json

import pytest

from omr import recipe
from omr.cluster import job_environment
from omr.cluster.jobs import Job
from omr.errors import RequestError
from omr.request import TrainRequest


def test_no_secret_is_in_what_a_job_is_submitted_with(ready, cluster, tmp_path, monkeypatch):
    env = tmp_path / "env"
    env.write_text("HF_TOKEN=hf_s3cret\nWANDB_API_KEY=wb_s3cret\nNGC_API_KEY=ng_s3cret\n")
    env.chmod(0o600)
    for line in env.read_text().split():
        monkeypatch.setenv(*line.split("="))
    monkeypatch.setenv("NCCL_API_TOKEN", "nc_s3cret")
    shown = ready(dry_run=True)
    ready()
    given = json.dumps([[argv, dict(named)] for _, argv, named in cluster.jobs])
    written = "".join(path.read_text() for path in ready.folder.root.rglob("*") if path.is_file())
    assert "OMR_ENV_FILE" in given and "nemo_rl.yaml" in shown
    assert not any("s3cret" in text for text in (shown, given, written))


def test_a_job_gets_the_settings_that_are_for_jobs(space, monkeypatch):
    for name in ("WORKERS", "NCCL_DEBUG", "OMR_X"):
        monkeypatch.setenv(name, "7")
    for name in ("RUNNER", "DRY_RUN", "NUM_TRAINING_JOBS", "PIP_INDEX_URL", "UNHEARD_OF", "NAME"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("HF_TOKEN", "s3cret")
    given = job_environment.settings_for_jobs(space)
    assert {"WORKERS", "NCCL_DEBUG", "OMR_X"} < set(given) and given["WORKSPACE"] == str(space.root)
    left = {"RUNNER", "DRY_RUN", "NUM_TRAINING_JOBS", "PIP_INDEX_URL", "UNHEARD_OF", "NAME", "HF_TOKEN"}
    assert not left & set(given)
    # A container gets secrets by name too: their values come from .env on the node.
    assert {"HF_TOKEN", "WORKERS", "OMR_STOP"} < set(given["CONTAINER_ENV"].split(","))
    # What a link tells its engine, and a job its steps (slurm/*.sh), is not left to the image's own values.
    told = {"RAY_AUTH_TOKEN_PATH", "NRL_MEGATRON_CHECKPOINT_DIR", "OMR_DATA", "OMR_DEADLINE", "OMR_LOCKS"}
    assert {*told, "RUN_DIR", "GPUS", "NEMO_RL", "OMR_ROOT"} < set(given["CONTAINER_ENV"].split(","))
    assert given["CONTAINER_MOUNTS"] == "" and "s3cret" not in str(given)


def test_a_job_stands_in_another_folder_than_the_user(space, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in (("PROBLEMS", "own.jsonl"), ("HF_HOME", "~/hf"), ("OMR_VENV", "venv")):
        monkeypatch.setenv(name, value)
    for name in ("own.jsonl", "image.sqsh"):
        (tmp_path / name).touch()
    for container, seen in (("./image.sqsh", f"{tmp_path}/image.sqsh"), ("nvcr.io#nvidia/nemo", None)):
        monkeypatch.setenv("CONTAINER", container)
        given = job_environment.settings_for_jobs(space)
        assert given["CONTAINER"] == (seen or container)
    assert given["PROBLEMS"] == f"{tmp_path}/own.jsonl" and given["HF_HOME"] == f"{tmp_path}/home/hf"
    assert given["OMR_VENV"] == f"{tmp_path}/venv"


def test_a_run_is_named_by_its_request_alone(space, monkeypatch):
    monkeypatch.setenv("NAME", "other")
    request = TrainRequest.of(recipe.run("7b", 1, steps=20, name="smoke"), nodes=2, gpus=4)
    site = job_environment.site(space, request)
    assert (site.nodes, site.gpus) == (2, 4)
    assert (site.settings["NAME"], site.settings["STEPS"]) == ("smoke", "20")


def test_the_whole_environment_of_a_job():
    job = Job("a", "omr-a", "slurm/stage.sbatch", env={"GPUS": "0", "LIMIT": "", "NAME": None})
    given = job_environment.environment(job, {"PATH": "/bin", "SECRET": "x", "LC_TIME": "C"})
    assert given == {"PATH": "/bin", "GPUS": "0", "LIMIT": ""}


def test_secrets_that_jobs_will_not_have(space, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a")
    monkeypatch.setenv("WANDB_API_KEY", "b")
    (tmp_path / "env").write_text("HF_TOKEN=a\n")
    assert job_environment.exported_secrets() == ["WANDB_API_KEY"]
    assert job_environment.job_secrets() == ["HF_TOKEN"]


def test_mounts_of_a_container(space, tmp_path, monkeypatch):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, value in (("CONTAINER", "/i.sqsh"), ("RAW", str(raw)), ("HF_HOME", str(tmp_path / "hf"))):
        monkeypatch.setenv(name, value)
    mounts = job_environment.settings_for_jobs(space)["CONTAINER_MOUNTS"].split(",")
    assert f"{raw}:{raw}:ro" in mounts and f"{space.root}:{space.root}" in mounts
    odd = tmp_path / "a,b"
    odd.mkdir()
    monkeypatch.setenv("RAW", str(odd))
    with pytest.raises(RequestError, match="pyxis cannot mount a path with a comma or a colon"):
        job_environment.settings_for_jobs(space)
