"""A graph goes to Slurm whole or not at all: held, written down, released; and what is cut off in between."""

import json

import pytest

from omr import recipe
from omr.cluster import pipeline, slurm, status, submit
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run.chain_state import Submitted


def test_a_submission_is_written_down(ready, cluster):
    said = ready()
    listed = json.loads(ready.folder.jobs_json.read_text())
    assert [job["key"] for job in listed["jobs"]] == ["prepare", "train-1", "train-2", "convert", "average"]
    assert [job["id"] for job in listed["jobs"]] == ["101", "102", "103", "104", "105"]
    assert "submitted as prepare 101" in said and recipe.Run.from_dict(listed["recipe"]) == ready.run
    assert ready.folder.run_json.exists() and ready.folder.engine_yaml("nemo-rl").exists()


def test_every_job_is_held_until_all_are_written_down(ready, cluster, monkeypatch):
    seen, record = [], ready.folder.jobs_json
    monkeypatch.setattr(slurm, "release", lambda ids: seen.append((list(ids), record.exists())))
    ready()
    assert all("--hold" in argv for _, argv, _ in cluster.jobs)
    assert seen == [(["101", "102", "103", "104", "105"], True)]
    shown = ready(dry_run=True)
    assert "\nscontrol release <prepare> <train-1> <train-2> <convert> <average>\n" in shown


def test_one_refused_job_takes_back_those_before_it(ready, cluster):
    cluster.refuse = "convert"
    with pytest.raises(OmrError, match=r"submitting convert: .* limit; the 3 jobs before it were cancelled"):
        ready()
    assert cluster.cancelled == ["101", "102", "103"] and not cluster.released
    assert not ready.folder.jobs_json.exists()


def test_a_job_that_slurm_does_not_release_cancels_all(ready, cluster, monkeypatch):
    def refuse(ids):
        raise OmrError("scontrol failed: Invalid job id specified")

    monkeypatch.setattr(slurm, "release", refuse)
    with pytest.raises(OmrError) as caught:
        ready()
    assert cluster.cancelled == ["101", "102", "103", "104", "105"]
    assert str(caught.value) == (
        "releasing jobs 101, 102, 103, 104, 105: scontrol failed: Invalid job id specified;"
        " all were cancelled, run the same command again"
    )


@pytest.mark.slow
def test_a_job_whose_id_is_not_said_is_found_and_cancelled(ready, cluster, monkeypatch):
    """A site's wrapper around sbatch says something else: the job stands in the queue all the same."""
    comment = str(ready.folder.root)

    def wrapped(argv, env):
        if len(cluster.jobs) == 2:
            raise slurm.NoJobId("sbatch answered 'Welcome', which is no job id; look for a wrapper")
        return cluster(argv, env)

    rows = [slurm.Queued(str(n), "PENDING", "JobHeldUser", "omr", comment) for n in (101, 102, 103)]
    monkeypatch.setattr(slurm, "sbatch", wrapped)
    monkeypatch.setattr(slurm, "queue", lambda: rows if len(cluster.jobs) == 2 else [])
    with pytest.raises(OmrError, match=r"submitting train-2: sbatch answered 'Welcome'.*; the 2 jobs before"):
        ready()
    assert sorted(set(cluster.cancelled)) == ["101", "102", "103"]
    assert not ready.folder.jobs_json.exists()


@pytest.fixture
def cut_off(ready, cluster, monkeypatch):
    """A submission that is killed before its third job; Slurm's queue then has what was submitted, held."""

    def killed(argv, env):
        if len(cluster.jobs) == 2:
            raise SystemExit(137)  # nothing of ours runs any more
        return cluster(argv, env)

    def queue():
        rows = []
        for number, (name, argv, _) in enumerate(cluster.jobs, 101):
            if str(number) not in cluster.cancelled:
                comment = next(word for word in argv if word.startswith("--comment=")).split("=", 1)[1]
                released = any(str(number) in ids for ids in cluster.released)
                reason = "Priority" if released else "JobHeldUser"
                rows.append(slurm.Queued(str(number), "PENDING", reason, name, comment))
        return rows

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(slurm, "sbatch", killed)
        ready()
    monkeypatch.setattr(slurm, "queue", queue)
    monkeypatch.setattr(slurm, "available", lambda: True)
    return ready


def test_what_an_interrupted_submission_left_is_cancelled_by_the_next(cut_off, cluster):
    said = cut_off()
    assert cluster.cancelled == ["101", "102"]
    assert "cancelled jobs 101, 102, which an interrupted submission left held" in said
    assert cluster.released == [["103", "104", "105", "106", "107"]]
    # That one is whole: it stands.
    with pytest.raises(RequestError, match=r"7b round1 has a chain already \(jobs 103, 104, 105, 106, 107\)"):
        cut_off()
    assert cluster.cancelled == ["101", "102"]


def test_what_was_written_down_and_never_released_is_cancelled_too(cut_off, cluster, monkeypatch):
    """Killed between the record and the release: nobody else would ever let these jobs go."""

    def killed(ids):
        raise SystemExit(137)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(slurm, "release", killed)
        cut_off()
    assert [job.id for job in Submitted.load(cut_off.folder.jobs_json).jobs] == [
        f"10{n}" for n in range(3, 8)
    ]
    assert "cancelled jobs 103, 104, 105, 106, 107, which an interrupted submission left held" in cut_off()
    assert Submitted.load(cut_off.folder.jobs_json).released


def test_a_pipeline_cancels_it_too(cut_off, space, cluster):
    requests = [TrainRequest.of(recipe.run("7b", number)) for number in (1, 2)]
    pipeline.make(requests, space, submit.Submission(2), print)
    assert cluster.cancelled == ["101", "102"] and len(cluster.released) == 1


def test_status_shows_what_an_interrupted_submission_left(cut_off, space):
    assert not cut_off.folder.jobs_json.exists()
    assert [run.title for run, _ in status.runs(space.root)] == ["7b round1"]
    shown = "\n".join(status.lines(status.of(cut_off.run, cut_off.folder)))
    assert "omr-7b-round1-prepare  101      PENDING    held, its submission was interrupted" in shown
    assert "the same command cancels it and submits anew" in shown


def test_a_chain_that_its_user_holds_is_not_cancelled(ready, cluster, monkeypatch):
    ready()
    rows = [
        slurm.Queued(str(number), "PENDING", "JobHeldUser", "omr", str(ready.folder.root))
        for number in range(101, 106)
    ]
    monkeypatch.setattr(slurm, "queue", lambda: rows)
    with pytest.raises(RequestError, match="they are held, and scontrol release starts them"):
        ready()
    assert not cluster.cancelled
