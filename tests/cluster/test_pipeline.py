"""A model as one graph: what waits for what, what is left out, what is refused."""

import json
import re
from unittest.mock import Mock

import pytest

from omr import recipe
from omr.cluster import pipeline, slurm, status, submit
from omr.cluster.evaluation import checks
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run import frozen
from omr.run.chain_state import Submitted

from .conftest import done


def rounds(model="7b", **more):
    return [recipe.run(model, number, **more) for number in recipe.model(model).rounds]


def requests(runs_=None, **more):
    return [TrainRequest.of(run, **more) for run in runs_ or rounds()]


def make(space, evaluate=False, said=None, runs_=None, **more):
    lines = []
    how = submit.Submission(2, evaluate, **more)
    pipeline.make(requests(runs_, **(said or {})), space, how, lines.append)
    return "\n".join(lines)


def test_parts(space, monkeypatch):
    def left(evaluate=False):
        return [(part.kind, part.run.key) for part in pipeline.parts(requests(), space, evaluate)]

    both = [("data", "round1"), ("train", "round1"), ("data", "round2"), ("train", "round2")]
    assert left() == [("model", "round1"), *both]
    done(space.model("7b"), files={})
    assert left() == both
    done(space.data("openmathreasoning", "round1"), rows=1, size=3, sha256="0")
    assert left() == both[1:]
    done(space.run(rounds()[0]).final, files={})
    assert left() == both[2:]
    assert left(evaluate=True) == [("eval", "round1"), *both[2:]]
    space.run(rounds()[0]).eval_json.write_text('{"cot": {}}')
    assert left(evaluate=True) == both[2:]
    monkeypatch.setenv("MODE", "cot,tir")
    assert left(evaluate=True) == [("eval", "round1"), *both[2:]]
    done(space.run(rounds()[1]).final, files={})
    assert left() == []


@pytest.mark.slow
def test_what_waits_for_what(space, cluster):
    make(space)
    waits = {}
    for number, (name, argv, _) in enumerate(cluster.jobs, 101):
        found = next((word for word in argv if word.startswith("--dependency=")), "")
        waits[name if name not in waits else f"{name} {number}"] = found.removeprefix("--dependency=")
    assert waits == {
        "omr-model-7b-round1": "",
        "omr-data-7b-round1": "",
        "omr-7b-round1-prepare": "afterok:102,afterok:101",
        "omr-7b-round1": "afterok:103",
        "omr-7b-round1 105": "afterok:103,afterany:104",
        "omr-7b-round1-convert": "afterany:105",
        "omr-7b-round1-average": "afterok:106",
        # Both rounds read one raw folder; round 2 starts from round 1's end.
        "omr-data-7b-round2": "afterok:102",
        "omr-7b-round2-prepare": "afterok:108,afterok:107",
        "omr-7b-round2": "afterok:109",
        "omr-7b-round2 111": "afterok:109,afterany:110",
        "omr-7b-round2-convert": "afterany:111",
        "omr-7b-round2-average": "afterok:112",
    }
    # Before a link has frozen anything, make status finds both.
    assert [run.title for run, _ in status.runs(space.root)] == ["7b round1", "7b round2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "smoke"])
@pytest.mark.parametrize("plain_is_finished", [False, True])
def test_round_2_of_a_graph_starts_from_its_own_round_1(space, cluster, name, plain_is_finished):
    """Also where a finished round 1 of the plain recipe stands beside a named one that is still to come."""
    more = {"steps": 20, "name": name} if name else {}
    if plain_is_finished and name:
        done(space.run(recipe.run("7b", 1)).final, files={})
    make(space, runs_=rounds(**more))
    folder = space.run(rounds(**more)[1])
    base = re.search(r"model_name: (.*)", folder.engine_yaml("nemo-rl").read_text())[1]
    assert base == str(space.run(rounds(**more)[0]).final)
    # And that is what its first link will ask for, once it stands.
    done(space.run(rounds(**more)[0]).final, files={})
    assert str(frozen.base_of(rounds(**more)[1], space)) == base


@pytest.mark.slow
def test_one_refused_job_takes_back_all(space, cluster):
    cluster.refuse = "round2-average"
    with pytest.raises(OmrError, match="submitting average: sbatch failed: QOS limit"):
        make(space)
    assert {str(100 + n) for n in range(1, len(cluster.jobs) + 1)} == set(cluster.cancelled)


@pytest.mark.slow
def test_a_graph_is_let_go_at_once_when_all_of_it_is_written_down(space, cluster, monkeypatch):
    records = []
    monkeypatch.setattr(slurm, "release", lambda ids: records.append((list(ids), sorted(written()))))

    def written():
        return [path.parent.name for path in space.root.glob("runs/7b/*/jobs.json")]

    make(space)
    assert records == [([str(number) for number in range(101, 114)], ["round1", "round2"])]


@pytest.mark.slow
def test_what_an_interrupted_pipeline_left_of_a_stage_is_cancelled(space, cluster, monkeypatch):
    logs = space.root / "logs"
    rows = [
        slurm.Queued("7", "PENDING", "JobHeldUser", "omr", comment=str(logs / "data-7b-round1.jobs.json")),
        slurm.Queued("8", "PENDING", "JobHeldUser", "omr", comment=str(logs / "data.jobs.json")),
        slurm.Queued("9", "RUNNING", "None", "omr", comment=str(logs / "model-7b-round1.jobs.json")),
    ]
    monkeypatch.setattr(slurm, "queue", lambda: rows)
    make(space)
    assert cluster.cancelled == ["7"]


def test_a_live_chain_of_either_round_refuses_the_graph(space, cluster, monkeypatch):
    row = slurm.Queued("9", "PENDING", "", "omr", comment=str(space.run(rounds()[1]).root))
    monkeypatch.setattr(slurm, "queue", lambda: [row])
    with pytest.raises(RequestError, match=r"7b round2 has a chain already \(jobs 9\)"):
        make(space)
    assert not cluster.jobs


def test_a_run_of_nemo_skills_jobs_refuses_the_graph(space, cluster):
    begun = space.run(rounds()[1]).root / "ns" / "slurm.yaml"
    begun.parent.mkdir(parents=True)
    begun.touch()
    with pytest.raises(RequestError, match="round2 was begun with LAUNCHER=ns"):
        make(space)
    assert not cluster.jobs


@pytest.mark.slow
def test_both_rounds_are_evaluated(space, cluster, monkeypatch):
    """The recipe's benchmark comes out of nemo-skills, and no PROBLEMS are needed."""
    monkeypatch.setattr(checks, "nemo_skills", Mock())
    make(space, evaluate=True)
    assert [name for name, _, _ in cluster.jobs if name.endswith("-eval")] == [
        "omr-7b-round1-eval",
        "omr-7b-round2-eval",
    ]


def test_what_cannot_be_evaluated_is_refused_before_anything_is_submitted(space, cluster, monkeypatch):
    monkeypatch.setenv("PROBLEMS", "/nowhere/p.jsonl")
    with pytest.raises(RequestError, match=r"p\.jsonl is not there"):
        make(space, evaluate=True)
    assert not cluster.jobs


def test_an_evaluation_leaves_the_code_of_a_finished_run_alone(space, cluster, monkeypatch):
    """It began with other code, or before any was kept: that it is evaluated does not make it this one's."""
    monkeypatch.setattr(checks, "nemo_skills", Mock())
    done(space.model("7b"), files={})
    for run, code in zip(rounds(), ("", "of another state"), strict=True):
        done(space.run(run).final, files={})
        wanted = frozen.FrozenRun(
            run, "nemo-rl", frozen.BaseModel(space.model("7b"), "0"),
            frozen.TrainingData(space.root, "0", 1, 1), None, None,
        )  # fmt: skip
        frozen.freeze(space.run(run), wanted)
        path = space.run(run).run_json
        path.write_text(json.dumps(json.loads(path.read_text()) | {"code_id": code}))
    make(space, evaluate=True)
    assert len(cluster.jobs) == 2 and not list(space.root.glob("runs/*/*/code"))
    assert [frozen.read(space.run(run)).code_id for run in rounds()] == ["", "of another state"]


def test_a_finished_run_is_evaluated_in_the_graph(space, cluster, monkeypatch):
    """With its ids in the run's own record, where make status and a second submission look."""
    monkeypatch.setattr(checks, "nemo_skills", Mock())
    monkeypatch.setenv("SHARDS", "2")
    monkeypatch.setenv("MODE", "cot,genselect")
    for run in rounds():
        done(space.run(run).final, files={})
    done(space.model("7b"), files={})
    make(space, evaluate=True)
    names = [name for name, _, _ in cluster.jobs]
    assert names[:3] == [f"omr-7b-round1-eval{end}" for end in ("-answers", "-genselect", "")]
    record = submit.eval_record(space.run(rounds()[0]))
    assert [job.key for job in Submitted.load(record).jobs] == ["eval-answers", "eval-genselect", "eval"]
    row = slurm.Queued("103", "RUNNING", "", "omr", comment=str(space.run(rounds()[0]).root))
    monkeypatch.setattr(slurm, "queue", lambda: [row])
    with pytest.raises(RequestError, match=r"7b round1 has a chain already \(jobs 103\)"):
        make(space, evaluate=True)


@pytest.mark.parametrize(("name", "value"), [("SEED", "3"), ("DROP", "wrong.txt"), ("VALIDATION", "0.002")])
def test_other_data_is_not_silently_the_recipe_s(space, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=f"{name}={value} makes other data"):
        make(space, dry_run=True)


def test_everything_is_finished(space):
    for run in rounds():
        done(space.run(run).final, files={})
    done(space.model("7b"), files={})
    assert "everything is finished" in make(space)
