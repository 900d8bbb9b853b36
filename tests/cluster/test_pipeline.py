"""A model as one graph, and one chain, as they are submitted: what waits for what, what is refused."""

import json
import os
import re

import pytest

from omr import manifest, recipe, settings
from omr.cluster import pipeline, slurm, status, submit
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run import frozen
from omr.run.chain_state import ChainState
from omr.workspace import Workspace


@pytest.fixture
def space(tmp_path, monkeypatch):
    """An empty workspace, and an environment that says nothing."""
    for name in (*settings.SETTINGS, "SBATCH_EXCLUDE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMR_ENV_FILE", str(tmp_path / "env"))
    monkeypatch.setenv("WORKSPACE", str(tmp_path / "w"))
    return Workspace(tmp_path / "w")


def rounds(model="7b", **more):
    return [recipe.run(model, number, **more) for number in recipe.model(model).rounds]


def requests(runs_=None, **more):
    return [TrainRequest.of(run, **more) for run in runs_ or rounds()]


def done(path, **facts):
    """Make a stage's output look finished."""
    if path.suffix:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}\n")
    else:
        path.mkdir(parents=True)
    manifest.write(path, {}, **facts)


@pytest.fixture
def cluster(monkeypatch):
    """A Slurm that gives ids in order and remembers what it was given; `refuse` names a job that fails."""
    jobs = []

    def sbatch(argv, env):
        key = next(word for word in argv if word.startswith("--job-name=")).removeprefix("--job-name=")
        if sbatch.refuse and sbatch.refuse in key:
            raise OmrError("sbatch failed: QOS limit")
        jobs.append((key, argv, env))
        return str(100 + len(jobs))

    sbatch.refuse, sbatch.jobs, sbatch.cancelled = None, jobs, []
    monkeypatch.setattr(slurm, "need", lambda: None)
    monkeypatch.setattr(slurm, "sbatch", sbatch)
    monkeypatch.setattr(slurm, "cancel", lambda ids: sbatch.cancelled.extend(ids))
    monkeypatch.setattr(slurm, "queue", lambda: [])
    monkeypatch.setattr(submit, "environments", lambda engine: None)
    return sbatch


def make(space, evaluate=False, said=None, runs_=None, **more):
    lines = []
    how = submit.Submission(2, evaluate, **more)
    pipeline.make(requests(runs_, **(said or {})), space, how, lines.append)
    return "\n".join(lines)


def test_parts(space):
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
    space.run(rounds()[0]).eval_json.write_text("{}")
    assert left(evaluate=True) == both[2:]
    done(space.run(rounds()[1]).final, files={})
    assert left() == []


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


def test_one_refused_job_takes_back_all(space, cluster):
    cluster.refuse = "round2-average"
    with pytest.raises(OmrError, match="submitting average: sbatch failed: QOS limit"):
        make(space)
    assert {str(100 + n) for n in range(1, len(cluster.jobs) + 1)} == set(cluster.cancelled)


def test_a_live_chain_of_either_round_refuses_the_graph(space, cluster, monkeypatch):
    row = slurm.Queued("9", "PENDING", "", "omr", comment=str(space.run(rounds()[1]).root))
    monkeypatch.setattr(slurm, "queue", lambda: [row])
    with pytest.raises(RequestError, match=r"7b round2 has a chain already \(jobs 9\)"):
        make(space)
    assert not cluster.jobs


def test_no_problems_no_evaluation(space, cluster, tmp_path, monkeypatch):
    assert "nothing is evaluated, because PROBLEMS is not set" in make(space, evaluate=True, dry_run=True)
    problems = tmp_path / "problems.jsonl"
    monkeypatch.setenv("PROBLEMS", str(problems))
    with pytest.raises(RequestError, match=r"problems\.jsonl is not there"):
        make(space, evaluate=True)
    problems.write_text("{}\n")
    make(space, evaluate=True)
    assert [name for name, _, _ in cluster.jobs if name.endswith("-eval")] == [
        "omr-7b-round1-eval",
        "omr-7b-round2-eval",
    ]


def test_another_seed_is_not_silently_the_recipe_s(space, monkeypatch):
    monkeypatch.setenv("SEED", "3")
    with pytest.raises(RequestError, match="SEED=3 makes other data"):
        make(space, dry_run=True)


def test_everything_is_finished(space):
    for run in rounds():
        done(space.run(run).final, files={})
    done(space.model("7b"), files={})
    assert "everything is finished" in make(space)


# --- one chain --------------------------------


@pytest.fixture
def ready(space, cluster):
    """Base and data of 7b are there; returns a submission of its round 1."""
    done(space.model("7b"), files={"config.json": {"sha256": "0", "size": 1}})
    done(space.data("openmathreasoning", "round1"), rows=5_000_000, size=3, sha256="00ff")
    run = recipe.run("7b", 1)

    def go(said=None, evaluate=False, **more):
        lines = []
        how = submit.Submission(2, evaluate, **more)
        submit.train(TrainRequest.of(run, **(said or {})), space, how, lines.append)
        return "\n".join(lines)

    go.folder, go.run = space.run(run), run
    return go


def test_a_submission_is_written_down(ready, cluster):
    said = ready()
    listed = json.loads(ready.folder.jobs_json.read_text())
    assert [job["key"] for job in listed["jobs"]] == ["prepare", "train-1", "train-2", "convert", "average"]
    assert [job["id"] for job in listed["jobs"]] == ["101", "102", "103", "104", "105"]
    assert "submitted as prepare 101" in said and recipe.Run.from_dict(listed["recipe"]) == ready.run
    assert ready.folder.run_json.exists() and ready.folder.engine_yaml("nemo-rl").exists()


def test_the_same_run_with_other_values_is_refused(ready, cluster):
    """Edited by hand, or written by another version of this toolkit: half a run of each is no run."""
    ready()
    file = ready.folder.engine_yaml("nemo-rl")
    before = file.read_text()
    file.write_text(before.replace("adam_beta2: 0.98", "adam_beta2: 0.95"))
    count = len(cluster.jobs)
    with pytest.raises(RequestError, match=r"adam_beta2 was 0\.95, is 0\.98; remove the file"):
        ready()
    assert len(cluster.jobs) == count
    assert "lacks: " in ready(dry_run=True)
    file.unlink()
    ready()
    assert file.read_text() == before


def test_a_complete_training_asks_for_no_nodes_again(ready, cluster, space):
    ready()
    cluster.jobs.clear()
    for step in ready.run.schedule.averaged:
        path = ready.folder.checkpoint(step)
        for name in ("training_info.json", "config.yaml", "train_dataloader.pt"):
            path.mkdir(parents=True, exist_ok=True)
            (path / name).touch()
        (path / "policy/weights/iter_0000000").mkdir(parents=True)
        (path / "policy/weights/iter_0000000/.metadata").touch()
    ready()
    assert [name for name, _, _ in cluster.jobs] == ["omr-7b-round1-convert", "omr-7b-round1-average"]
    assert not any("--dependency" in word for word in cluster.jobs[0][1])


def test_data_that_changed_does_not_become_right_by_asking_again(ready, space):
    data = space.data("openmathreasoning", "round1")
    ready()
    seen = ChainState.load(ready.folder).data
    data.write_text("[]\n")
    ready()
    assert ChainState.load(ready.folder).data == seen


def test_data_touched_after_its_manifest_is_hashed_by_a_job(ready, space):
    data = space.data("openmathreasoning", "round1")
    later = manifest.manifest_of(data).stat().st_mtime + 10
    os.utime(data, (later, later))
    ready()
    assert ChainState.load(ready.folder).data is None


def test_force_takes_back_what_the_run_has(ready, space, cluster, monkeypatch):
    ready()
    file = ready.folder.engine_yaml("nemo-rl")
    file.write_text(file.read_text().replace("seed: 42", "seed: 7"))
    (ready.folder.checkpoint(750) / "policy").mkdir(parents=True)
    row = slurm.Queued("9", "RUNNING", "", "omr", comment=str(ready.folder.root))
    with monkeypatch.context() as patch, pytest.raises(RequestError, match="has a chain already"):
        patch.setattr(slurm, "queue", lambda: [row])
        submit.clear(ready.run, ready.folder)
    assert ready.folder.checkpoint(750).exists()
    submit.clear(ready.run, ready.folder)
    assert not ready.folder.checkpoints.exists() and not ready.folder.links_json.exists()
    ready()


def test_a_margin_that_leaves_nothing_is_refused(ready, monkeypatch):
    monkeypatch.setenv("TIME", "30")
    monkeypatch.setenv("MARGIN", "1800")
    with pytest.raises(RequestError, match="MARGIN=1800 leaves nothing of TIME=30"):
        ready()
    monkeypatch.setenv("MARGIN", "900")
    ready()


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (None, "set PROBLEMS=…"),
        ("problems.jsonl", "give the whole path"),
        ("/nowhere/p.jsonl", "is not there"),
    ],
)
def test_an_evaluation_without_problems_is_refused_at_once(ready, monkeypatch, file, says):
    if file:
        monkeypatch.setenv("PROBLEMS", file)
    with pytest.raises(RequestError, match=says):
        ready(evaluate=True)


def test_wandb_is_on_where_the_jobs_have_its_key(ready, tmp_path, monkeypatch):
    """A key that only the login shell has would stop every link at its start."""
    monkeypatch.setenv("WANDB_API_KEY", "s3cret")
    said = ready()
    assert "WANDB_API_KEY is set here but not in" in said
    text = ready.folder.engine_yaml("nemo-rl").read_text()
    assert "wandb_enabled: false" in text
    env = tmp_path / "env"
    env.write_text("WANDB_API_KEY=s3cret\n")
    env.chmod(0o600)
    text = submit.engine_file_of(TrainRequest.of(ready.run), Workspace(tmp_path / "w")).text
    assert "wandb_enabled: true" in text and "s3cret" not in text


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


def test_launchers_do_not_mix(ready, space, cluster, monkeypatch):
    limited = TrainRequest(ready.run, "nemo-rl", limit=5)
    with pytest.raises(RequestError, match="LIMIT: LAUNCHER=ns knows no such thing"):
        submit.dispatch(limited, space, submit.Submission(1, launcher="ns"), print)
    (ready.folder.root / "ns").mkdir(parents=True)
    (ready.folder.root / "ns" / "slurm.yaml").write_text("")
    with pytest.raises(RequestError, match="begun with LAUNCHER=ns"):
        submit.dispatch(TrainRequest.of(ready.run), space, submit.Submission(1), print)
    assert not cluster.jobs


def test_a_stage_as_a_job_is_asked_the_same(space, cluster, monkeypatch):
    """`make data ROUND=2 RUNNER=slurm`: the words are in the environment, and the job gets them."""
    said = {"DATASET": "tiny", "ROUND": "2", "SEED": "3", "NAME": "x", "FORCE": "1", "DRY_RUN": "0"}
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    submit.submit_stage("data", "bin/data.py", [], print)
    ((_, _, environ),) = cluster.jobs
    assert {name: environ.get(name) for name in said} == {**said, "DRY_RUN": None}
    monkeypatch.setenv("SHARDS", "two")
    with pytest.raises(RequestError, match="SHARDS=two is not a whole number"):
        submit.submit_stage("data", "bin/data.py", [], print)
