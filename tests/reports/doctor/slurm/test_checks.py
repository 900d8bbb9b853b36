"""Partitions, nodes, time limits and Slurm's own verdict: each row as it should be, and with a fault."""

import pytest

from omr.reports.doctor.machine import look
from omr.reports.doctor.slurm import checks

from ..kit import held, row

GPU8 = "gpu:h100:8(S:0-1)"


def judged(site, target="train", links=200, **words):
    return look("slurm", checks.checks, site.asked(target, links, **words), otherwise="run scontrol ping")


def test_a_chain_that_slurm_would_take(site):
    found = judged(site)
    names = {check.name: check.state for check in found if check.name != "shared workspace"}
    assert names == dict.fromkeys(
        ("slurm", "partition", "nodes", "cpu nodes", "time limit", "account", "jobs"), "ok"
    )
    assert row(found, "slurm").found == "slurm-wlm 22.05.8"
    held(row(found, "nodes"), "ok", "64 of 8 GPUs asked for; 64 of main's 64 have 8 GPUs, 64 are fit")
    held(row(found, "jobs"), "ok", "prepare: Job 9 to start at 2026-01-31T18:00:00")
    assert not (site.folder / "submitted").exists() and not (site.root / "runs").exists()
    asked = (site.folder / "asked").read_text()
    assert "--nodes=64" in asked and "--gpus-per-node=8" in asked and asked.count("--test-only") >= 3


def test_no_slurm_here(site):
    site.set(PATH="/nowhere")
    [check] = judged(site)
    held(check, "fix", "sbatch is not on this machine", "login node")


def test_a_controller_that_does_not_answer(site):
    (site.folder / "scontrol").write_text(
        "#!/bin/sh\necho 'scontrol: error: Unable to contact slurm controller' >&2; exit 1\n"
    )
    [check] = judged(site)
    held(check, "fix", "Unable to contact slurm controller", "run scontrol ping")


@pytest.mark.parametrize(
    ("listed", "words", "state", "said", "advice"),
    [
        ({"main": {"default": "YES"}}, {}, "ok", "main, the default", ""),
        ({"main": {}, "b": {}}, {"PARTITION": "main,b"}, "ok", "main, b", ""),
        ({"main": {}}, {}, "fix", "none is set, and Slurm has no default", "set PARTITION to one of main"),
        (
            {"main": {}},
            {"PARTITION": "mian"},
            "fix",
            "there is no mian (did you mean main?)",
            "set PARTITION",
        ),
        (
            {"main": {"state": "DOWN"}, "b": {}},
            {"PARTITION": "main"},
            "fix",
            "main is down",
            "set PARTITION=b",
        ),
        ({"main": {"state": "DRAIN"}}, {"PARTITION": "main"}, "fix", "main is drain", "sinfo"),
    ],
)
def test_partition(site, listed, words, state, said, advice):
    site.partitions(**listed)
    site.set(**words)
    held(next(c for c in judged(site) if c.name == "partition"), state, said, advice)


def test_the_partition_of_the_cpu_stages(site):
    site.set(CPU_PARTITION="cpus")
    held(
        row(judged(site), "cpu partition"), "fix", "there is no cpus (did you mean cpu?)", "set CPU_PARTITION"
    )
    site.set(CPU_PARTITION="cpu")
    held(row(judged(site), "cpu partition"), "ok", "cpu")
    assert [c.name for c in judged(site, "data", dataset="tiny") if "partition" in c.name] == [
        "cpu partition"
    ]


@pytest.mark.parametrize(
    ("nodes", "facts", "state", "said", "advice"),
    [
        ([("n", "idle", GPU8)] * 64, {}, "ok", "64 are fit", ""),
        ([("n", "mix", "gpu:8")] * 64, {}, "ok", "64 are fit", ""),
        ([("n", "idle", GPU8)] * 10, {}, "fix", "10 of main's 10 have 8 GPUs", "set NODES=10"),
        ([("n", "idle", "gpu:a100:4")] * 64, {}, "fix", "0 of main's 64 have 8 GPUs", "set GPUS=4"),
        ([("n", "idle", "(null)")] * 64, {}, "fix", "0 of main's 64", "another PARTITION"),
        ([("n", "idle", GPU8)] * 60 + [("x", "drain*", GPU8)] * 4, {}, "warn", "60 are fit", "set NODES=60"),
        ([("n", "down*", GPU8)] * 64, {}, "warn", "0 are fit", "sinfo -R"),
        ([("n", "idle", GPU8)] * 64, {"max_nodes": "16"}, "fix", "main allows 16", "set NODES=16"),
    ],
)
def test_nodes(site, nodes, facts, state, said, advice):
    site.nodes(*nodes)
    site.partitions(main={"default": "YES", **facts})
    held(row(judged(site), "nodes"), state, said, advice)


def test_of_several_partitions_one_that_fits_is_enough(site):
    site.partitions(small={"max_nodes": "2"}, main={"default": "YES"})
    site.set(PARTITION="small,main")
    held(row(judged(site), "nodes"), "ok", "64 are fit")


@pytest.mark.parametrize(
    ("facts", "words", "links", "state", "said", "advice"),
    [
        ({}, {"TIME": "4:00:00"}, 200, "ok", "TIME=4:00:00", ""),
        ({}, {}, 200, "ok", "12:00:00, main's", ""),
        ({"max_time": "UNLIMITED"}, {}, 1, "ok", "none", ""),
        (
            {"max_time": "1:00:00"},
            {"TIME": "4:00:00"},
            200,
            "fix",
            "over the 1:00:00 of main",
            "TIME=1:00:00",
        ),
        (
            {"max_time": "1-00:00:00"},
            {"TIME": "UNLIMITED"},
            200,
            "fix",
            "over the 1-00:00:00",
            "TIME=1-00:00:00",
        ),
        ({"default_time": "00:10:00"}, {}, 200, "fix", "leave 0 minutes to train in", "set TIME=12:00:00"),
        ({}, {"TIME": "45"}, 200, "warn", "to train in", "set TIME=12:00:00"),
        ({}, {"TIME": "4:00:00"}, 2, "warn", "2 jobs of it train about", "set NUM_TRAINING_JOBS="),
    ],
)
def test_time_limit(site, facts, words, links, state, said, advice):
    site.partitions(main={"default": "YES", **facts})
    site.set(**words)
    held(row(judged(site, links=links), "time limit"), state, said, advice)


def test_slurms_own_verdict(site):
    site.verdict(
        "sbatch: error: Batch job submission failed\nallocation failure: Invalid qos specification",
        1,
    )
    held(
        row(judged(site), "jobs"),
        "fix",
        "prepare: sbatch failed: allocation failure: Invalid qos",
        "set ACCOUNT",
    )


def test_jobs_that_cannot_be_made(site):
    site.set(CONTAINER="/shared/omr.sqsh", MOUNTS="/nowhere:/data")
    held(row(judged(site), "jobs"), "fix", "/nowhere is not there", "correct it")
