"""An evaluation's jobs and their sbatch commands, golden."""

from pathlib import Path

import pytest

from omr import recipe
from omr.cluster.evaluation.jobs import Evaluation
from omr.cluster.jobs import Dependency, Site, picture
from omr.errors import RequestError
from omr.workspace import Workspace

ROOT = Path("/omr")
WORKSPACE = Workspace(Path("/workspace"))
ALL = ("cot", "tir", "genselect")


def jobs(model="7b", gpus=8, after=(), place=None, **more):
    run = recipe.run(model, 1)
    site = Site(
        nodes=64,
        gpus=gpus,
        settings={"WORKSPACE": "/workspace", "SHARDS": "4", "OMR_ROOT": "/omr"},
        **(place or {}),
    )
    return Evaluation(**more).jobs(run, WORKSPACE.run(run), site, after)


def commands(listed):
    ids = {job.key: str(100 + i) for i, job in enumerate(listed)}
    return [" ".join(job.sbatch_command(ids)) for job in listed]


LOGS = "--kill-on-invalid-dep=yes --open-mode=append --output=/workspace/runs/7b/round1/logs"
ARRAY, LOG = f"{LOGS}/%x-%A_%a.log --chdir=/omr", f"{LOGS}/%x-%j.log --chdir=/omr"
RUN = "--comment=/workspace/runs/7b/round1"


def test_golden_commands():
    place = {"account": "acc", "partition": "gpu", "cpu_partition": "cpu", "time": "4:00:00"}
    gpu = "--account=acc --partition=gpu --time=4:00:00 --nodes=1 --requeue"
    node = "--gpus-per-node=8 --exclusive --mem=0"
    sbatch = "sbatch --parsable --hold --export=ALL --job-name=omr-7b-round1-eval"
    assert commands(jobs(modes=ALL, shards=4, place=place, after=(Dependency("afterok", "9"),))) == [
        f"{sbatch}-answers {RUN} {ARRAY} {gpu} {node} --array=0-3 --dependency=afterok:9"
        " /omr/slurm/stage.sbatch",
        f"{sbatch}-genselect {RUN} {ARRAY} {gpu} {node} --array=0-3 --dependency=afterok:100"
        " /omr/slurm/stage.sbatch",
        f"{sbatch} {RUN} {LOG} {gpu} --gpus-per-node=1 --dependency=afterok:101 /omr/slurm/stage.sbatch",
    ]


def test_what_each_job_is_told():
    listed = jobs(modes=ALL, shards=4, words={"SAMPLES": "8"}, args=("--folder", "/m"))
    told = [(job.env["MODE"], job.env.get("STAGE_PARTS"), job.env["GPUS"]) for job in listed]
    assert told == [("cot,tir", "4", "8"), ("genselect", "4", "8"), ("cot,tir,genselect", None, "1")]
    for job in listed:
        assert (job.env["SAMPLES"], job.env["RUNNER"], job.args) == ("8", "slurm", ("--folder", "/m"))
        assert (job.env["STAGE_TIER"], job.env["STAGE_SCRIPT"]) == ("train", "bin/eval.py")


@pytest.mark.parametrize(
    ("asked", "shards", "keys"),
    [
        (("cot",), 1, ["eval"]),
        (ALL, 1, ["eval"]),  # one process asks one mode after the other
        (("cot",), 2, ["eval-answers", "eval"]),
        (("genselect",), 2, ["eval-genselect", "eval"]),  # solutions are there, or its job says so
        (("tir", "genselect"), 2, ["eval-answers", "eval-genselect", "eval"]),
    ],
)
def test_phases(asked, shards, keys):
    listed = jobs(modes=asked, shards=shards)
    assert [job.key for job in listed] == keys
    assert [job.after for job in listed[1:]] == [(("afterok", key),) for key in keys[:-1]]
    assert picture(listed).splitlines()[0] == " ─ok→ ".join(keys)


@pytest.mark.parametrize(
    ("model", "gpus", "server", "asks"),
    [
        ("7b", 8, False, [["--gpus-per-node=8", "--exclusive", "--mem=0"], ["--gpus-per-node=1"]]),
        ("7b", 1, False, [["--gpus-per-node=1", "--exclusive", "--mem=0"]] * 2),
        ("7b", 0, False, [[], []]),
        ("7b", 8, True, [[], []]),  # SERVER runs elsewhere
        ("tiny", 8, False, [[], []]),  # tiny is served by the CPU
    ],
)
def test_gpus(model, gpus, server, asks):
    size = ("--gpus", "--exclusive", "--mem")
    listed = jobs(model, gpus, shards=2, server=server)
    assert [[word for word in job.options if word.startswith(size)] for job in listed] == asks


def test_cores_where_there_is_no_gpu():
    run = recipe.run("tiny", 1)
    site = Site(nodes=1, gpus=0, settings={"WORKERS": "16"})
    (job,) = Evaluation().jobs(run, WORKSPACE.run(run), site)
    assert "--cpus-per-task=16" in job.options


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, ("cot",)),
        ("tir", ("tir",)),
        ("genselect,cot", ("cot", "genselect")),
        (" tir , cot ", ("cot", "tir")),
    ],
)
def test_modes(text, expected):
    assert recipe.asked_modes(text, "tiny") == expected


@pytest.mark.parametrize(
    ("text", "unknown"), [("COT", "COT"), ("cot;tir", "cot;tir"), ("cot,greedy", "greedy"), ("cot,", "")]
)
def test_a_mode_that_is_none(text, unknown):
    with pytest.raises(RequestError, match=f"MODE={unknown} is unknown; choose cot, tir or genselect, or"):
        recipe.asked_modes(text, "tiny")
