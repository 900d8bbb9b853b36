"""Evaluations on a real Slurm: at a chain's end, and more samples of it shared out over an array's tasks."""

import json
import subprocess
import time

import pytest

from omr import recipe
from omr.evaluation import samples
from omr.settings import ROOT
from omr.workspace import Workspace

from .cluster import wait

PROBLEMS = recipe.of_model(recipe.model("micro")).evaluation.problems
FIRST, MORE = 2, 6  # samples of each


@pytest.fixture(scope="module")
def evaluated(site):
    """A chain with EVAL=1 that has ended."""
    site.train("evaluated", links=1, EVAL="1", SAMPLES=str(FIRST))
    states = site.finish("evaluated")
    assert set(states.values()) == {"COMPLETED"}, site.story("evaluated") + site.logs("evaluated")
    return site.folder("evaluated")


def scores(folder, mode="cot"):
    """What eval.json says of the final model's answers to all problems, and how many samples they had."""
    result = json.loads(folder.eval_json.read_text())[mode]
    return result["models"]["after"]["scores"]["all"], result["inputs"]["sampling"]["samples"]


def evaluate(site, *words, check=True, **env):
    """`make eval` of the run, as docker/run has it; the ids by key."""
    run = ("--model", "micro", "--name", "evaluated")
    done = site.run("bin/eval.py", *run, *words, check=check, **env)
    if done.returncode:
        return done
    listed = json.loads((site.folder("evaluated").root / "eval.jobs.json").read_text())["jobs"]
    return {job["key"]: job["id"] for job in listed}


def answers(site):
    """Lines in each file of answers of the one evaluation in mode cot."""
    (folder,) = Workspace(site.root).evaluations.glob("micro-cot-*")
    counts = {path.name: len(path.read_text().splitlines()) for path in folder.glob("answers-*.jsonl")}
    return counts, sum(1 for _ in samples.read(folder))


def test_a_chain_ends_with_an_evaluation(site, evaluated):
    found, drawn = scores(evaluated)
    assert (found["problems"], drawn) == (PROBLEMS, FIRST)
    assert answers(site) == ({"answers-0-of-1.jsonl": PROBLEMS * FIRST}, PROBLEMS * FIRST)


def test_more_samples_are_shared_out_over_tasks(site, evaluated):
    """Nothing is asked twice, though the parts are others than before, and a task is requeued."""
    words = ("--mode", "cot,genselect", "--solutions", "cot", "--samples", str(MORE), "--shards", "2")
    ids = evaluate(site, *words)
    assert list(ids) == ["eval-answers", "eval-genselect", "eval"]
    # Its tasks are found by the run: a second evaluation of it would ask for the same.
    refused = evaluate(site, "--samples", str(MORE), "--shards", "3", check=False)
    assert refused.returncode == 2 and "micro round1-evaluated has a chain already" in refused.stderr
    task = f"{ids['eval-answers']}_1"
    (folder,) = Workspace(site.root).evaluations.glob("micro-cot-*")
    part = folder / "answers-1-of-2.jsonl"
    wait(lambda: part.exists() and part.stat().st_size, 200, "no task answered", step=0.05)
    shown = site.run("bin/status.py", "--model", "micro", "--name", "evaluated").stdout
    assert "eval-genselect" in shown and "Dependency" in shown
    site.slurm.call("scontrol", "requeue", task)
    time.sleep(2)  # a start in the same second would be taken for the one that was revoked
    site.hurry(task)
    alive = ("PENDING", "RUNNING", "COMPLETING")
    wait(lambda: all(site.state(i) not in alive for i in ids.values()), 400, site.logs("evaluated"), step=0.5)
    assert {key: site.state(i) for key, i in ids.items()} == dict.fromkeys(ids, "COMPLETED")
    for mode in ("cot", "genselect"):
        found, drawn = scores(evaluated, mode)
        assert (found["problems"], drawn) == (PROBLEMS, MORE)
    counts, known = answers(site)
    assert known == PROBLEMS * MORE
    new = PROBLEMS * (MORE - FIRST)
    # What a killed task had under way is cut off, at most a line.
    assert new <= counts["answers-0-of-2.jsonl"] + counts["answers-1-of-2.jsonl"] <= new + 1
    assert counts["answers-0-of-1.jsonl"] == PROBLEMS * FIRST


def test_a_finished_evaluation_asks_nothing(site, evaluated):
    before, _ = answers(site)
    ids = evaluate(site, "--samples", str(MORE), "--shards", "3")
    wait(lambda: site.state(ids["eval"]) == "COMPLETED", 300, site.logs("evaluated"), step=0.5)
    after, known = answers(site)
    assert known == PROBLEMS * MORE and sum(after.values()) == sum(before.values())


def test_the_way_from_make(site, evaluated):
    """docker/run leaves the submission to the script."""
    stage = [ROOT / "docker" / "run", "train", "bin/eval.py", "--model", "micro", "--name", "evaluated"]
    done = subprocess.run([*stage, "--dry_run"], env=site.env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("eval\n") and "sbatch --parsable" in done.stdout
