"""A submission on an idle cluster, and one whose process is killed between two sbatch calls."""

import json
import os
import signal
import subprocess
import sys

from omr.settings import ROOT

from .cluster import wait

WORDS = ("--model", "micro", "--num_training_jobs", "2")


def held(site, folder):
    """Ids and reasons of the live jobs that carry the run's comment."""
    rows = site.slurm.call("squeue", "-h", "-t", "PENDING,RUNNING", "-o", "%F|%T|%r|%k").splitlines()
    return {row[0]: row[1:3] for row in (line.split("|") for line in rows) if row[3] == str(folder.root)}


def slow_sbatch(site, name, script):
    """A folder with an sbatch that does something beside, for the front of the path."""
    tool = site.slurm.root / name
    tool.mkdir()
    (tool / "sbatch").write_text(f"#!/bin/bash\n{script}\n")
    (tool / "sbatch").chmod(0o755)
    return f"{tool}:{site.env['PATH']}"


def test_an_idle_cluster_starts_nothing_before_all_is_written_down(site):
    """A second between two sbatch calls: without the hold the first link would run before the last one."""
    path = slow_sbatch(site, "slow", 'sleep 1; exec /usr/bin/sbatch "$@"')
    folder = site.folder("idle")
    states = {}
    script = [sys.executable, str(ROOT / "bin/train.py"), *WORDS, "--name", "idle"]
    env = {**site.env, "PATH": path, "OMR_STEP_DELAY": "0.1"}
    with subprocess.Popen(script, env=env, cwd=ROOT, stdout=subprocess.DEVNULL) as submitter:
        while submitter.poll() is None and not folder.jobs_json.exists():
            seen = held(site, folder)
            if not folder.jobs_json.exists():  # else they may have been released meanwhile
                states |= seen
    assert submitter.returncode == 0 and states
    assert all(row == ["PENDING", "JobHeldUser"] for row in states.values())
    ended = site.finish("idle")
    assert [ended[key] for key in ("train-1", "convert", "average")] == ["COMPLETED"] * 3, site.story("idle")
    assert "the training is complete at step 24" in site.story("idle")


def test_a_killed_submitter(site):
    """kill -9 before the third sbatch call: what it left never runs, and goes with the next chain."""
    reached = site.slurm.root / "third"
    path = slow_sbatch(
        site,
        "stuck",
        f'[[ $* != *convert.sbatch* ]] || {{ touch {reached}; exec sleep 60; }}; exec /usr/bin/sbatch "$@"',
    )
    folder = site.folder("killed")
    script = [sys.executable, str(ROOT / "bin/train.py"), *WORDS, "--name", "killed"]
    env = {**site.env, "PATH": path}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    submitter = subprocess.Popen(script, env=env, cwd=ROOT, start_new_session=True, **quiet)
    wait(reached.exists, 60, "the third sbatch was not called")
    os.killpg(submitter.pid, signal.SIGKILL)
    submitter.wait()
    left = held(site, folder)
    assert len(left) == 2 and all(row == ["PENDING", "JobHeldUser"] for row in left.values())
    assert not folder.jobs_json.exists()

    one = site.run("bin/status.py", "--model", "micro", "--name", "killed").stdout
    all_ = site.run("bin/status.py").stdout
    for shown in (one, all_):
        assert all(job in shown for job in left) and "its submission was interrupted" in shown
    shown = site.run("bin/cancel.py", "--model", "micro", "--name", "killed", "--dry_run").stdout
    assert shown.startswith("scancel ") and set(shown.split()[1:]) == set(left)

    again = site.run("bin/train.py", *WORDS, "--name", "killed", OMR_STEP_DELAY="0.1")
    assert f"cancelled jobs {', '.join(left)}, which an interrupted submission left held" in again.stdout
    ids = [job["id"] for job in json.loads(folder.jobs_json.read_text())["jobs"]]
    assert not set(ids) & set(left) and {site.state(job) for job in left} == {"CANCELLED"}
    assert site.finish("killed")["average"] == "COMPLETED", site.story("killed")


def test_make_cancel_ends_what_a_killed_submitter_left(site):
    number = site.slurm.call(
        *("sbatch", "--parsable", "--hold", "--wrap=true", f"--comment={site.folder('alone').root}")
    ).strip()
    said = site.run("bin/cancel.py", "--model", "micro", "--name", "alone").stdout
    assert f"cancelled jobs {number}" in said and site.state(number) == "CANCELLED"


def test_a_job_that_is_not_released_takes_back_all(site):
    """Slurm refuses one of the ids: the chain is not left half released."""
    tool = site.slurm.root / "gone"
    tool.mkdir()
    (tool / "scontrol").write_text(
        '#!/bin/bash\n[[ $1 != release ]] || set -- "$@" 999999\nexec /usr/bin/scontrol "$@"\n'
    )
    (tool / "scontrol").chmod(0o755)
    path = f"{tool}:{site.env['PATH']}"
    done = site.run(
        *("bin/train.py", *WORDS, "--name", "unreleased"), check=False, PATH=path, SBATCH_BEGIN="now+1hour"
    )
    *_, line = done.stderr.splitlines()
    assert done.returncode == 1 and line.startswith("error: releasing jobs "), done.stderr
    assert "Invalid job id specified; all were cancelled" in line
    assert not held(site, site.folder("unreleased"))
