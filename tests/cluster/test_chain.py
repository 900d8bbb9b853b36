"""The graph of a run's jobs and their sbatch commands, golden."""

from pathlib import Path

import pytest

from omr import recipe
from omr.cluster.chain import Chain
from omr.cluster.evaluation.jobs import Evaluation
from omr.cluster.jobs import Dependency, Site, picture
from omr.errors import RequestError
from omr.workspace import Workspace

ROOT = Path("/omr")
WORKSPACE = Workspace(Path("/workspace"))


def site(**more):
    return Site(
        **{"nodes": 64, "gpus": 8, "settings": {"WORKSPACE": "/workspace", "OMR_ROOT": "/omr"}, **more}
    )


def jobs(model="7b", links=2, engine="nemo-rl", place=None, **more):
    run = recipe.run(model, 1)
    return Chain(run, WORKSPACE.run(run), place or site(), engine=engine, links=links, **more).jobs()


def commands(listed):
    ids = {job.key: str(100 + i) for i, job in enumerate(listed)}
    return [" ".join(job.sbatch_command(ids)) for job in listed]


COMMON = "--kill-on-invalid-dep=yes --open-mode=append --output=/workspace/runs/7b/round1/logs"
LOG, LOGS = (f"{COMMON}/{name}.log --chdir=/omr" for name in ("%x-%j", "%x-%A_%a"))
RUN = "--comment=/workspace/runs/7b/round1"


def test_golden_commands():
    place = site(account="acc", partition="gpu", cpu_partition="cpu", qos="high", time="4:00:00")
    gpu = "--account=acc --partition=gpu --qos=high --time=4:00:00"
    cpu = "--account=acc --partition=cpu --qos=high --time=4:00:00"
    size = "--nodes=64 --ntasks-per-node=1 --requeue --signal=B:USR2@60 --gpus-per-node=8 --exclusive --mem=0"
    sbatch = "sbatch --parsable --hold --export=ALL --job-name=omr-7b-round1"
    assert commands(jobs(links=2, place=place, evaluation=Evaluation(), prepare=True)) == [
        f"{sbatch}-prepare {RUN} {LOG} {cpu} --nodes=1 --requeue /omr/slurm/stage.sbatch",
        f"{sbatch} {RUN} {LOG} {gpu} {size} --dependency=afterok:100 /omr/slurm/train.sbatch",
        f"{sbatch} {RUN} {LOG} {gpu} {size} --dependency=afterok:100,afterany:101 /omr/slurm/train.sbatch",
        f"{sbatch}-convert {RUN} {LOGS} {gpu} --nodes=1 --array=0-3 --requeue"
        " --gpus-per-node=1 --dependency=afterany:102 /omr/slurm/convert.sbatch",
        f"{sbatch}-average {RUN} {LOG} {cpu} --nodes=1 --requeue --dependency=afterok:103"
        " /omr/slurm/stage.sbatch",
        f"{sbatch}-eval {RUN} {LOG} {gpu} --nodes=1 --requeue --gpus-per-node=8 --exclusive --mem=0"
        " --dependency=afterok:104 /omr/slurm/stage.sbatch",
    ]


@pytest.mark.parametrize("links", [1, 2, 4, 10])
def test_links_follow_each_other_whatever_happened(links):
    listed = jobs(links=links)
    trains = [job for job in listed if job.key.startswith("train-")]
    assert len(trains) == links and trains[0].after == ()
    assert [job.after for job in trains[1:]] == [(("afterany", f"train-{i}"),) for i in range(1, links)]
    assert listed[links].after == (("afterany", f"train-{links}"),)
    assert len({job.name for job in trains}) == 1
    assert [job.env["LINK"] for job in trains] == [str(i + 1) for i in range(links)]


def test_the_one_box_engine_needs_no_gpu_and_no_preparation():
    listed = jobs("tiny", engine="trl", place=site(nodes=1, gpus=0))
    assert [job.key for job in listed] == ["train-1", "train-2", "convert", "average"]
    assert not any("gpu" in option or option == "--exclusive" for job in listed for option in job.options)
    assert listed[2].env["CONVERT_STEPS"] == " ".join(map(str, recipe.run("tiny").schedule.averaged))
    assert {job.env["GPUS"] for job in listed} == {"0"}


@pytest.mark.parametrize(
    ("model", "place", "asks"),
    [
        ("7b", {}, ["--gpus-per-node=8", "--exclusive", "--mem=0"]),
        ("tiny", {"nodes": 1, "gpus": 0}, []),
    ],
)
def test_held_out_rows_are_looked_at_beside_the_evaluation(model, place, asks):
    listed = jobs(model, place=site(**place), evaluation=Evaluation(), validate=True)
    assert [job.key for job in listed][-3:] == ["average", "validate", "eval"]
    validate, evaluate = listed[-2:]
    assert validate.after == evaluate.after == (("afterok", "average"),)
    assert list(validate.options) == ["--nodes=1", "--requeue", *asks] == list(evaluate.options)
    assert (validate.env["STAGE_TIER"], validate.env["STAGE_SCRIPT"]) == ("train", "bin/validate.py")
    assert validate.env["GPUS"] == str(place.get("gpus", 8))
    assert picture(listed).split("\n")[0].endswith("convert ─ok→ average ─ok→ validate, eval")


def test_what_a_pipeline_waits_for_holds_for_every_link():
    listed = jobs(links=2, after=(Dependency("afterok", "7"), Dependency("afterok", "8")))
    assert listed[0].after == (("afterok", "7"), ("afterok", "8"))
    assert listed[1].after == (("afterok", "7"), ("afterok", "8"), ("afterany", "train-1"))
    assert "--dependency=afterok:7,afterok:8,afterany:100" in commands(listed)[1]


def test_a_trained_run_queues_for_no_nodes_again():
    listed = jobs(links=4, prepare=True, trained=True, evaluation=Evaluation(shards=2))
    assert [(job.key, job.after) for job in listed] == [
        ("convert", ()),
        ("average", (("afterok", "convert"),)),
        ("eval-answers", (("afterok", "average"),)),
        ("eval", (("afterok", "eval-answers"),)),
    ]


def test_cores_of_the_cpu_stages():
    listed = jobs(links=1, prepare=True, place=site(settings={"WORKERS": "48"}))
    assert {job.key for job in listed if "--cpus-per-task=48" in job.options} == {"prepare"}


def test_no_links():
    with pytest.raises(RequestError, match="NUM_TRAINING_JOBS=0 trains nothing"):
        jobs(links=0)


def test_picture():
    lines = picture(jobs(links=2, prepare=True, evaluation=Evaluation())).splitlines()
    assert lines[0] == "prepare ─ok→ train-1 ─any→ train-2 ─any→ convert ─ok→ average ─ok→ eval"
    assert lines[4] == "  train-2  afterok prepare and afterany train-1  --nodes=64 --gpus-per-node=8"
