"""One chain as it is submitted: what is frozen with it, what is refused, what FORCE=1 takes back."""

import os
from unittest.mock import Mock

import pytest

from omr import files, manifest, recipe
from omr.cluster import ns, slurm, submit, train
from omr.cluster.evaluation import checks
from omr.errors import RequestError
from omr.request import TrainRequest
from omr.run.chain_state import ChainState
from omr.workspace import Workspace


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_force_takes_back_what_the_run_has(ready, space, cluster, monkeypatch):
    ready()
    file = ready.folder.engine_yaml("nemo-rl")
    file.write_text(file.read_text().replace("seed: 42", "seed: 7"))
    (ready.folder.checkpoint(750) / "policy").mkdir(parents=True)
    row = slurm.Queued("9", "RUNNING", "", "omr", comment=str(ready.folder.root))
    with monkeypatch.context() as patch, pytest.raises(RequestError, match="has a chain already"):
        patch.setattr(slurm, "queue", lambda: [row])
        train.clear(ready.run, ready.folder, print)
    assert ready.folder.checkpoint(750).exists()
    train.clear(ready.run, ready.folder, print)
    assert not ready.folder.checkpoints.exists() and not ready.folder.links_json.exists()
    ready()


def test_force_frees_a_run_of_either_launcher_for_the_other(ready, space, cluster, monkeypatch):
    request = TrainRequest.of(ready.run)
    ready()
    with pytest.raises(RequestError, match="was begun with LAUNCHER=sbatch"):
        ns.check(request, space)
    train.clear(ready.run, ready.folder, print)
    ns.check(request, space)
    files.write_text(ready.folder.root / "ns" / "slurm.yaml", "")
    with pytest.raises(RequestError, match="was begun with LAUNCHER=ns"):
        ready()
    train.clear(ready.run, ready.folder, print)
    ready()


def test_a_margin_that_leaves_nothing_is_refused(ready, monkeypatch):
    monkeypatch.setenv("TIME", "30")
    monkeypatch.setenv("MARGIN", "1800")
    with pytest.raises(RequestError, match="MARGIN=1800 leaves nothing of TIME=30"):
        ready()
    monkeypatch.setenv("MARGIN", "900")
    ready()


def test_an_evaluation_without_problems_is_refused_at_once(ready, cluster, monkeypatch):
    monkeypatch.setenv("PROBLEMS", "/nowhere/p.jsonl")
    with pytest.raises(RequestError, match="is not there"):
        ready(evaluate=True)
    assert not cluster.jobs and not ready.folder.run_json.exists()


def test_the_words_of_an_evaluation_reach_the_end_of_the_chain(ready, cluster, monkeypatch):
    monkeypatch.setattr(checks, "nemo_skills", Mock())
    words = {"MODE": "tir", "SAMPLES": "8", "SHARDS": "4", "BENCHMARK": "aime25", "SANDBOX": "bwrap"}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    ready(evaluate=True)
    (_, answers, given), (_, _, counts) = cluster.jobs[-2:]
    assert "--array=0-3" in answers and given["STAGE_PARTS"] == "4" and "STAGE_PARTS" not in counts
    for environ in (given, counts):
        assert environ.items() > {**words, "MODEL": "7b", "STAGE_SCRIPT": "bin/eval.py"}.items()


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
    text = train.engine_file_of(TrainRequest.of(ready.run), Workspace(tmp_path / "w")).text
    assert "wandb_enabled: true" in text and "s3cret" not in text


def test_launchers_do_not_mix(ready, space, cluster, monkeypatch):
    limited = TrainRequest(ready.run, "nemo-rl", recipe.SPLITS, limit=5)
    with pytest.raises(RequestError, match="LIMIT: LAUNCHER=ns knows no such thing"):
        train.train(limited, space, submit.Submission(1, launcher="ns"), print)
    (ready.folder.root / "ns").mkdir(parents=True)
    (ready.folder.root / "ns" / "slurm.yaml").write_text("")
    with pytest.raises(RequestError, match="begun with LAUNCHER=ns"):
        train.train(TrainRequest.of(ready.run), space, submit.Submission(1), print)
    assert not cluster.jobs
