"""Chains of the one-box engine on a real Slurm, undisturbed and under faults: the final weights are the same.

Each `drive_<name>` submits a chain and does its mischief; all are begun together, `test_<name>` waits for
its own. Three jobs run at a time. A step is a tenth of a second and a wait that leaves room for the mischief.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from omr.run import lease

from .cluster import wait
from .conftest import weights

STEP = {"OMR_STEP_DELAY": "0.5", "TIME": "5", "MARGIN": "30"}
SURPLUS = "cancels the surplus link"


def same(site, reference, name):
    """The run came to the undisturbed weights, and its story ends well."""
    assert weights(site, name) == reference
    assert "the training is complete at step 24" in site.story(name)
    return site.story(name)


# --- a time limit that is too short for one job --------------------------------


def drive_four_links(site):
    # Slurm counts limits in minutes: one less the margin and the start leaves some 35 seconds, or 15 steps.
    words = {"OMR_STEP_DELAY": "2.2", "TIME": "1", "MARGIN": "15", "EVAL": "1"}
    env = site.root / "env"
    env.write_text("HF_TOKEN=hf_secretA\nWANDB_API_KEY=secretB\n")
    env.chmod(0o600)
    ids = site.train("chain", links=4, **words)
    shown = "".join(site.slurm.call("scontrol", "show", "job", i) for i in ids.values())
    scripts = [site.slurm.root / f"{i}.sh" for i in ids.values()]
    for i, script in zip(ids.values(), scripts, strict=True):
        site.slurm.call("scontrol", "write", "batch_script", i, str(script))
    return site.finish("chain"), shown, "".join(path.read_text() for path in scripts)


def test_four_links(campaign, site, reference):
    states, shown, scripts = campaign.result("four_links")
    story = same(site, reference, "chain")
    saved = [line for line in story.splitlines() if "saved step" in line]
    # Who says first that the time is up, the link or the engine, is a race; that it saved is not.
    assert saved, story
    assert "TIMEOUT" not in states.values() and "FAILED" not in states.values(), story
    trained = [key for key, state in states.items() if key.startswith("train") and state == "COMPLETED"]
    assert 2 <= len(trained) <= 4
    if len(trained) < 4:
        assert SURPLUS in story and states["train-4"] == "CANCELLED"
    assert [states[key] for key in ("convert", "average", "eval")] == ["COMPLETED"] * 3
    folder = site.folder("chain")
    assert evaluated(folder)["problems"] > 0
    # Secrets stay where they are: not in the job, its script, our files or any log.
    texts = [shown, scripts, *(p.read_text(errors="replace") for p in folder.root.rglob("*") if readable(p))]
    assert len(texts) > 10
    assert not any("secretA" in text or "secretB" in text for text in texts)


def evaluated(folder, mode="cot"):
    """What eval.json says of the final model's answers to all problems."""
    return json.loads(folder.eval_json.read_text())[mode]["models"]["after"]["scores"]["all"]


def readable(path):
    return (
        path.is_file()
        and path.suffix in (".json", ".jsonl", ".yaml", ".txt", ".log", "")
        and path.stat().st_size < 1e6
    )


# --- ways to end a link --------------------------------


def begun(site, name, links=2, **env):
    """A chain whose first link has saved step 8 and trains on; the link's job id."""
    site.train(name, links, **{**STEP, **env})
    site.reached(name, 8)
    return site.ids(name)["train-1"]


def sigkill(site, job):
    """SIGKILL for everything of a link at once: supervisor, srun, engine."""
    for process in site.slurm.of_job(job):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def drive_sigkill(site):
    sigkill(site, begun(site, "sigkill"))
    return site.finish("sigkill")


def test_sigkill(campaign, site, reference):
    states = campaign.result("sigkill")
    story = same(site, reference, "sigkill")
    assert states["train-1"] == "FAILED" and states["train-2"] == "COMPLETED", story
    assert "ended without recording a result (Slurm says failed)" in story and "saved step" not in story
    assert "link 2 of 2" in story and re.search(r"trains on from step (8|12)", story)
    site.run("bin/report.py", "--model", "micro", "--name", "sigkill")
    page = site.folder("sigkill").report.read_text()
    assert "killed: 1" in page and "resumed from a checkpoint: 1" in page and "2 starts of 2 jobs" in page
    assert re.search(r'<use href="#cross" [^>]*><title>killed, step (8|12)</title>', page)
    assert re.search(
        r'<line class="fault" x1="(33.33|50.00)%"', page
    )  # through every curve, at step 8 or 12 of 24


def drive_scancel(site):
    job = begun(site, "scancel")
    site.slurm.call("scancel", job)
    return site.finish("scancel")


def test_scancel(campaign, site, reference):
    states = campaign.result("scancel")
    story = same(site, reference, "scancel")
    assert states["train-1"] == "CANCELLED" and states["train-2"] == "COMPLETED"
    # The engine was asked to save before Slurm's KillWait was over, and did.
    assert "link 1 of 2" in story and "Slurm ends this job: saves and stops" in story


def drive_requeue(site):
    job = begun(site, "requeue")
    site.slurm.call("scontrol", "requeue", job)
    wait(lambda: site.state(job) == "PENDING", 60, "the job was not requeued")
    site.hurry(job, 200)
    return site.finish("requeue")


def test_requeue(campaign, site, reference):
    states = campaign.result("requeue")
    story = same(site, reference, "requeue")
    assert states["train-1"] == "COMPLETED" and "start 2: trains on from step" in story
    site.run("bin/report.py", "--model", "micro", "--name", "requeue")
    assert "requeued by Slurm: 1" in site.folder("requeue").report.read_text()
    logs = [p.name for p in site.folder("requeue").logs.glob("engine-*")]
    assert len(logs) == 2 and any(name.endswith("-1.log") for name in logs)


def drive_slurmd_killed(site):
    job = begun(site, "orphan", OMR_STEP_DELAY="4")
    node = site.node(job)
    folder = site.folder("orphan")
    held = lease.holder(folder.lease)
    site.slurm.kill(node)
    # The controller still reaches this srun and would end the step; a node that is cut off hears nothing.
    for process in site.slurm.of_job(job):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{process}/comm").read_text().strip() == "srun":
                os.kill(process, signal.SIGSTOP)
    wait(lambda: site.state(job) == "PENDING", 120, "Slurm did not notice the lost node")
    orphans = site.slurm.of_job(job)  # what the lost node's daemon started goes on without it
    site.hurry(job, 200)
    wait(lambda: lease.holder(folder.lease)["number"] > held["number"], 120, "the lease was not taken over")
    wait(lambda: not site.slurm.of_job(job), 90, "the orphan did not end", step=0.5)
    states = site.finish("orphan")
    site.slurm.start_node(node)
    return states, orphans


def test_slurmd_killed(campaign, site, reference):
    states, orphans = campaign.result("slurmd_killed")
    story = same(site, reference, "orphan")
    assert orphans and states["train-1"] == "COMPLETED", story
    assert "start 2: trains on from step" in story
    logs = site.folder("orphan").logs
    said = "".join(path.read_text(errors="replace") for path in logs.glob("*.log"))
    assert "another job has taken over" in said, site.logs("orphan")


def drive_controller_restarted(site):
    job = begun(site, "controller")
    site.slurm.restart_controller()
    wait(
        lambda: "idle" in site.slurm.states() | {"idle"} and site.state(job),
        60,
        "slurmctld did not come back",
    )
    return site.finish("controller")


def test_controller_restarted(campaign, site, reference):
    states = campaign.result("controller_restarted")
    same(site, reference, "controller")
    assert states["train-1"] == "COMPLETED" and states["average"] == "COMPLETED"


# --- damage --------------------------------


def damaged(site, name, mischief):
    """Kill the first link once step 8 stands, do the mischief before the second begins."""
    job = begun(site, name)
    checkpoints = site.folder(name).checkpoints
    site.slurm.call("scontrol", "hold", site.ids(name)["train-2"])
    sigkill(site, job)
    wait(lambda: site.state(job) not in ("RUNNING", "COMPLETING"), 60, "the link did not end")
    for path in checkpoints.glob("step_*"):
        if int(path.name[5:]) > 8:
            shutil.rmtree(path)
    mischief(checkpoints)
    site.slurm.call("scontrol", "release", site.ids(name)["train-2"])
    return site.finish(name)


def drive_half_written(site):
    def plant(checkpoints):
        for name in ("tmp_step_12", "step_12"):
            shutil.copytree(checkpoints / "step_8", checkpoints / name)
            (checkpoints / name / "complete.json").unlink()
        model = checkpoints / "step_12" / "model.safetensors"
        os.truncate(model, model.stat().st_size // 2)

    return damaged(site, "planted", plant)


def test_half_written(campaign, site, reference):
    campaign.result("half_written")
    story = same(site, reference, "planted")
    assert "step_12 is damaged" in story and "tmp_step_12 was never finished: removed" in story
    assert "trains on from step 8" in story


def drive_corrupted_newest(site):
    def flip(checkpoints):
        model = checkpoints / "step_8" / "model.safetensors"
        with model.open("r+b") as handle:
            handle.seek(model.stat().st_size // 2)
            byte = handle.read(1)
            handle.seek(-1, os.SEEK_CUR)
            handle.write(bytes([byte[0] ^ 1]))

    return damaged(site, "corrupted", flip)


def test_corrupted_newest(campaign, site, reference):
    campaign.result("corrupted_newest")
    story = same(site, reference, "corrupted")
    assert "step_8 is damaged (model.safetensors has other content than was saved)" in story
    assert "trains on from step 4" in story


def drive_data_changed(site):
    plain = site.root / "data" / "tiny-round1.jsonl"
    named = site.root / "data" / "tiny-round1-changed.jsonl"
    for suffix in (".jsonl", ".manifest.json"):
        shutil.copy2(plain.with_suffix(suffix), named.with_suffix(suffix))
    ids = site.train("changed", links=3, **STEP, SBATCH_BEGIN="now+3")
    with named.open("r+b") as handle:
        handle.seek(1000)
        handle.write(b"#")
    return site.finish("changed"), ids


def test_data_changed(campaign, site):
    states, ids = campaign.result("data_changed")
    story = site.story("changed")
    assert f"job {ids['train-1']}: refused: " in story and "changed after the run was submitted" in story
    assert states["train-1"] == "FAILED"
    assert {state for key, state in states.items() if key != "train-1"} == {"CANCELLED"}
    assert not site.folder("changed").checkpoints.exists()


def drive_disk_full(site):
    folder = site.folder("full").checkpoints
    folder.mkdir(parents=True)
    size = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=9m", "omr-test", folder], capture_output=True, text=True
    )
    if size.returncode:
        return size.stderr
    try:
        site.train("full", links=3, **STEP)
        wait(lambda: "No space left" in site.story("full"), 600, "the full disk was not noticed")
        subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)
        return site.finish("full")
    finally:
        kept = folder.with_name("kept")
        if folder.exists():
            shutil.copytree(folder, kept)
        subprocess.run(["umount", "--lazy", folder], check=True)
        folder.rmdir()
        kept.rename(folder)


def test_disk_full(campaign, site, reference):
    states = campaign.result("disk_full")
    if isinstance(states, str):
        pytest.skip(f"no small file system can be mounted here: {states.strip()}")
    story = same(site, reference, "full")
    assert "No space left" in story and "Traceback" not in story


# --- more than one node --------------------------------


def drive_two_nodes(site):
    site.train("nodes", links=2, **STEP, NODES="2")
    site.reached("nodes", 8)
    site.slurm.call("scancel", site.ids("nodes")["train-1"])
    site.train("nodes-calm", links=1, NODES="2")
    return site.finish("nodes"), site.finish("nodes-calm")


def test_two_nodes(campaign, site):
    """torchrun on two nodes trains, is ended, and resumes to the weights of two nodes that nothing disturbs.

    Two processes add up otherwise than one: these are not the weights of one node.
    """
    ended, calm = campaign.result("two_nodes")
    story = site.story("nodes")
    assert ended["train-1"] == "CANCELLED" and ended["train-2"] == "COMPLETED", story
    assert "trains on from step" in story and "the training is complete at step 24" in story
    assert calm["train-1"] == "COMPLETED" and "trains on from step" not in site.story("nodes-calm")
    assert weights(site, "nodes") == weights(site, "nodes-calm")


# --- a second chain, and a submission that fails --------------------------------


def drive_second_chain(site):
    site.train("second", links=2, **STEP)
    again = site.run("bin/train.py", "--model", "micro", "--name", "second", check=False, **STEP)
    status = site.run("bin/status.py", "--model", "micro", "--name", "second", "--json")
    site.reached("second", 4)
    live = site.run("bin/status.py", "--model", "micro", "--name", "second")
    gone = site.run("bin/cancel.py", "--model", "micro", "--name", "second")
    states = site.finish("second")
    after = site.run("bin/status.py", "--model", "micro", "--name", "second")
    site.train("second", links=1, **STEP)
    site.finish("second")
    finished = site.run("bin/train.py", "--model", "micro", "--name", "second", **STEP)
    logs = site.run("bin/logs.py", "--model", "micro", "--name", "second")
    return again, status, live, gone, states, after, finished, logs


def test_second_chain(campaign, site, reference):
    again, status, live, gone, states, after, finished, logs = campaign.result("second_chain")
    ids = [job["id"] for job in json.loads(site.folder("second").jobs_json.read_text())["earlier"][0]["jobs"]]
    assert again.returncode == 2 and all(i in again.stderr for i in ids), again.stderr
    assert [row["id"] for row in json.loads(status.stdout)[0]["rows"]] == ids
    assert "RUNNING" in live.stdout and "train-2" in live.stdout and "Dependency" in live.stdout
    assert "cancelled jobs" in gone.stdout and set(states.values()) == {"CANCELLED"}
    assert "make train goes on" in after.stdout
    assert "finished" in finished.stdout and "submitted" not in finished.stdout
    assert "==>" in logs.stdout
    same(site, reference, "second")


def test_a_submission_that_fails_half_way(site):
    """Slurm refuses the third job: the two before it are cancelled, and nothing is written down."""
    tool = site.slurm.root / "half"
    tool.mkdir()
    (tool / "sbatch").write_text(
        '#!/bin/bash\n[[ $* != *convert.sbatch* ]] || { echo "sbatch: error: QOS limit" >&2; exit 1; }\n'
        'exec /usr/bin/sbatch "$@"\n'
    )
    (tool / "sbatch").chmod(0o755)
    words = ("--model", "micro", "--name", "half", "--num_training_jobs", "2")
    path = f"{tool}:{site.env['PATH']}"
    done = site.run("bin/train.py", *words, check=False, PATH=path, SBATCH_BEGIN="now+1hour")
    assert done.returncode == 1
    assert "submitting convert: sbatch failed: QOS limit; the 2 jobs before it were cancelled" in done.stderr
    folder = site.folder("half")
    assert not folder.jobs_json.exists()
    left = site.slurm.call("squeue", "-h", "-t", "PENDING,RUNNING", "-o", "%k").split()
    assert str(folder.root) not in left
