"""`make eval RUNNER=slurm`: what is submitted, what is refused, and what make status then shows."""

import importlib.util
import json
from unittest.mock import Mock

import pytest

from omr import recipe
from omr.cluster import slurm, status, submit
from omr.cluster.evaluation import checks, ns
from omr.errors import RequestError
from omr.run.chain_state import Submitted
from omr.settings import ROOT
from tests.cluster.conftest import done

RUN = recipe.run("7b", 1)


@pytest.fixture(scope="module")
def script():
    """bin/eval.py as a module."""
    spec = importlib.util.spec_from_file_location("omr_bin_eval", ROOT / "bin" / "eval.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def evaluate(script, space, cluster, monkeypatch, capsys):
    """The command on a finished 7b; returns what it says."""
    monkeypatch.setenv("RUNNER", "slurm")
    monkeypatch.setattr(checks, "nemo_skills", Mock())
    done(space.run(RUN).final, files={})
    space.run(RUN).run_json.write_text(
        json.dumps({"request": {"base": {"path": "/base"}, "recipe": RUN.as_dict()}})
    )

    def go(*words, **environ):
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        script.main.main(["--model", "7b", *words], standalone_mode=False)
        return capsys.readouterr().out

    go.folder = space.run(RUN)
    return go


def test_one_job(evaluate, cluster):
    said = evaluate()
    ((name, argv, environ),) = cluster.jobs
    assert name == "omr-7b-round1-eval" and "--gpus-per-node=8" in argv  # the recipe's GPUs of a node
    assert (environ["MODE"], environ["MODEL"], environ["ROUND"]) == ("cot", "7b", "1")
    assert "7b round1: submitted as eval 101" in said and cluster.released == [["101"]]


def test_words_reach_the_jobs_from_options_and_from_the_environment(evaluate, cluster):
    evaluate(
        *("--mode", "tir,cot", "--samples", "8", "--before", "--temperature", "0.7", "--shards", "2"),
        **{"TOP_P": "0.9", "MAX_TOKENS": "1000", "SANDBOX": "bwrap", "GPUS": "4", "BENCHMARK": "aime25"},
    )
    wanted = {"SAMPLES": "8", "BEFORE": "1", "TEMPERATURE": "0.7", "TOP_P": "0.9", "MAX_TOKENS": "1000"}
    for _, _, environ in cluster.jobs:
        assert environ.items() > {**wanted, "SANDBOX": "bwrap", "BENCHMARK": "aime25"}.items()
        assert environ["MODE"] == "cot,tir"
    assert [environ["GPUS"] for _, _, environ in cluster.jobs] == ["4", "1"]


def test_no_more_tasks_than_samples(evaluate, cluster):
    evaluate("--shards", "8", "--samples", "3")
    assert "--array=0-2" in cluster.jobs[0][1]
    cluster.jobs.clear()
    evaluate("--shards", "8", "--temperature", "0")  # one answer to each problem
    assert [name for name, _, _ in cluster.jobs] == ["omr-7b-round1-eval"]


def test_another_folder(evaluate, cluster, tmp_path):
    evaluate("--folder", str(tmp_path), "--shards", "2")
    assert all(argv[-2:] == ["--folder", str(tmp_path)] for _, argv, _ in cluster.jobs)


def test_a_part_is_never_submitted_again(script, space, monkeypatch):
    """It is what a task runs."""
    asked = []
    monkeypatch.setenv("RUNNER", "slurm")
    monkeypatch.setattr(script.EvalRequest, "of", lambda *_, **more: asked.append(more) or stop())

    def stop():
        raise RequestError("here")

    with pytest.raises(RequestError, match="here"):
        script.main.main(["--model", "tiny", "--part", "0/2"], standalone_mode=False)
    assert asked


def test_what_is_refused(evaluate, cluster, space):
    with pytest.raises(
        RequestError, match=r"FORCE=1: tasks would remove each other's answers; remove .*/eval"
    ):
        evaluate("--force")
    with pytest.raises(RequestError, match=r"round2/final: is not finished; run make train MODEL=7b ROUND=2"):
        evaluate("--round", "2")
    with pytest.raises(RequestError, match="add LAUNCHER=ns"):
        evaluate("--benchmark", "hle")
    with pytest.raises(RequestError, match="give the whole path"):
        evaluate(PROBLEMS="p.jsonl")
    assert not cluster.jobs


@pytest.mark.parametrize("held", [False, True])
def test_a_second_evaluation_at_once_is_refused(evaluate, cluster, monkeypatch, held):
    """Also with other SHARDS: both would ask for what neither has. A user's own hold is no interruption."""
    evaluate("--shards", "2")
    reason = "JobHeldUser" if held else "Resources"
    rows = [slurm.Queued("101_0", "PENDING", reason, "omr", comment=str(evaluate.folder.root))]
    monkeypatch.setattr(slurm, "queue", lambda: rows)
    with pytest.raises(RequestError, match=r"7b round1 has a chain already \(jobs 101"):
        evaluate("--shards", "4")
    assert len(cluster.jobs) == 2 and not cluster.cancelled


def test_what_an_interrupted_submission_left_is_cancelled(evaluate, cluster, monkeypatch):
    left = slurm.Queued("7", "PENDING", "JobHeldUser", "omr", comment=str(evaluate.folder.root))
    monkeypatch.setattr(slurm, "queue", lambda: [] if cluster.cancelled else [left])
    assert "cancelled jobs 7, which an interrupted submission left" in evaluate()
    assert cluster.cancelled == ["7"] and cluster.released == [["101"]]


def test_a_dry_run_submits_nothing(evaluate, cluster):
    shown = evaluate("--shards", "3", "--dry_run")
    assert shown.startswith("eval-answers ─ok→ eval\n") and "--array=0-2" in shown
    assert not cluster.jobs and not submit.eval_record(evaluate.folder).exists()


def test_status(evaluate, cluster, space, monkeypatch):
    evaluate("--shards", "3", "--mode", "cot,genselect")
    assert [run.title for run, _ in status.runs(space.root)] == ["7b round1"]
    comment = str(evaluate.folder.root)
    rows = [
        *(slurm.Queued(f"101_{n}", "RUNNING", "None", "omr", comment) for n in (1, 2)),
        slurm.Queued("101_0", "COMPLETED", "None", "omr", comment),
        *(slurm.Queued(f"102_{n}", "PENDING", "Dependency", "omr", comment) for n in range(3)),
        slurm.Queued("103", "PENDING", "Dependency", "omr", comment),
    ]
    monkeypatch.setattr(slurm, "queue", lambda: rows)
    monkeypatch.setattr(slurm, "history", lambda ids: [])
    monkeypatch.setattr(slurm, "available", lambda: True)
    found = status.of(RUN, evaluate.folder)
    assert [(row.key, row.id, row.state, row.note) for row in found.rows] == [
        ("eval-answers", "101", "RUNNING", "2 RUNNING"),
        ("eval-genselect", "102", "PENDING", "3 PENDING; Dependency"),
        ("eval", "103", "PENDING", "Dependency"),
    ]
    assert found.note == ""


def test_status_of_a_chain_and_a_later_evaluation(evaluate, cluster, monkeypatch):
    jobs = [{"key": "average", "id": "5"}, {"key": "eval", "id": "6"}]
    evaluate.folder.jobs_json.write_text(json.dumps({"chain": "c", "jobs": jobs}))
    evaluate()
    rows = [slurm.Queued("6", "FAILED", "NonZeroExitCode", "omr"), slurm.Queued("101", "RUNNING", "", "omr")]
    monkeypatch.setattr(slurm, "jobs", lambda ids: {row.id: row for row in rows if row.id in ids})
    found = status.of(RUN, evaluate.folder)
    shown = [(row.key, row.id, row.state) for row in found.rows]
    assert shown == [("average", "5", "GONE"), ("eval", "6", "FAILED"), ("eval", "101", "RUNNING")]
    assert Submitted.load(submit.eval_record(evaluate.folder)).run == RUN


def test_by_ns(evaluate, cluster, monkeypatch):
    shown = evaluate("--launcher", "ns", "--dry_run", "--mode", "cot,tir", "--samples", "8")
    assert shown.count("ns \\\n  eval") == 2 and "--benchmarks=comp-math-24-25:8" in shown
    assert not cluster.jobs and not ns.outputs(evaluate.folder).exists()
    with pytest.raises(RequestError, match="BEFORE: LAUNCHER=ns knows no such thing"):
        evaluate("--launcher", "ns", "--dry_run", "--before")
