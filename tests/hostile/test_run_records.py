"""The records of a run's folder, which a group may share: jobs.json, links.json, run.json and the rest."""

import json

import pytest

from omr import manifest, recipe
from omr.cluster import status
from omr.models import convert
from omr.run import frozen, lease, prune, validation
from omr.run.chain_state import ChainState, LinkAttempt, Submitted, SubmittedJob
from omr.run.checkpoints import Checkpoints
from omr.training.trl import config as trl_config
from omr.workspace import RunFolder, Workspace

from .kit import Reader, attack

RUN = recipe.run("tiny", 1)
BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 121))


def frozen_run():
    base, data = frozen.BaseModel("/w/base", "0f"), frozen.TrainingData("/w/d.jsonl", "0f", 3, 3)
    return frozen.FrozenRun(RUN, "trl", base, data, None, None, "abc", "make train")


def dump(value):
    return json.dumps(value).encode()


def saved(save):
    """What a `save(folder)` writes, as bytes."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as name:
        folder = RunFolder(__import__("pathlib").Path(name))
        return save(folder).read_bytes()


def _jobs(folder):
    jobs = (SubmittedJob("train-1", "12", "n", (("afterok", "x"),), "/l"), SubmittedJob("convert", "13"))
    Submitted("c0", "2026-01-31 18:00:00", jobs, "make train", RUN, (Submitted("b0", "", jobs),)).save(
        folder.jobs_json
    )
    return folder.jobs_json


def _links(folder):
    attempts = [LinkAttempt("12", 0, 1, 1.5, 8, 0, 9.5, ["deadline"])]
    ChainState("c0", attempts, manifest.Fingerprint(3, 4, "0f"), 12.5, ["node1"]).save(folder)
    return folder.links_json


def _trl(folder):
    trl_config.write_config(folder, trl_config.engine_config(RUN_FROZEN, None))
    return folder.engine_yaml("trl")


def _validation(folder):
    found = validation.ModelLosses("0f", "float32", {"final": "1f"}, {"final": {"val_loss": 0.5}})
    found.save(folder)
    return folder.validation_json


RUN_FROZEN = frozen_run()
RUN_JSON = dump({"request": RUN_FROZEN.request_json(), "code": "abc", "command": "make train"})


def run_of(path):
    return RunFolder(path.parent)


def page(path):
    """make status, as far as it needs no Slurm."""
    found = status.of(RUN, run_of(path))
    return status.lines(found)


def whole_run(path):
    folder = run_of(path)
    began = frozen.read(folder)
    frozen.run_of(folder), frozen.base_path(folder)
    assert status.lines(status.Status("t", folder.root, steps=began.run.schedule.steps))
    saved = Checkpoints(folder, "trl")
    (folder.checkpoints / "step_20").mkdir(parents=True, exist_ok=True)
    assert saved.whole() == [] and saved.mend() is not None
    prune.surplus(RUN, Workspace(path.parent))


READERS = {
    "jobs.json": Reader("jobs.json", saved(_jobs), lambda path: (Submitted.load(path), page(path)), "json"),
    "links.json": Reader(
        "links.json", saved(_links), lambda path: (ChainState.load(run_of(path)), page(path)), "json"
    ),
    "run.json": Reader("run.json", RUN_JSON, whole_run, "json"),
    "trl.yaml": Reader(
        "trl.yaml",
        saved(_trl),
        lambda path: trl_config.read_config(run_of(path)),
        "yaml",
        (BOMB, b"a: 2001-99-99"),
    ),
    "validation.json": Reader(
        "validation.json", saved(_validation), lambda path: validation.losses_of(run_of(path)), "json"
    ),
    "metrics": Reader(
        "metrics.jsonl",
        dump({"step": 3, "time": 1.5, "loss": 0.25, "tokens": 512}) + b"\n" + dump({"step": 4, "time": 2.5}),
        page,
        "lines",
        (
            b'{"step": 1e999}',
            b'{"step": 1, "time": 1e999}\n{"step": 2, "time": 5}',
            b'{"step": 1, "loss": "x"}',
        ),
    ),
    "story": Reader("story.txt", b"2026-01-31 18:00:00 link 1\n", page, "bytes", (b"\xff\xfe\x1b[2J",)),
    "lease": Reader(
        "lease/7",
        dump({"job": "12", "restart": 0, "host": "h", "pid": 4}),
        lambda path: (lease.holder(path.parent), lease.take(path.parent, "13", 0, lambda job: False)),
        "json",
        (b'["a"]', b'{"job": {}}'),
    ),
    "manifest": Reader(
        "m/manifest.json",
        dump(
            {"inputs": {"seed": 0}, "files": {"a.safetensors": {"size": 3, "sha256": "0f"}}, "passport": {}}
        ),
        lambda path: (
            frozen.identity(path.parent),
            convert.cache(Workspace(path.parent), path.parent),
            manifest.finished(path.parent, {"seed": 0}),
        ),
        "json",
        (
            dump({"inputs": {}, "files": {"../x.safetensors": {"size": 3, "sha256": "0f"}}}),
            dump({"files": {}}),
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_record_is_read_or_refused_in_a_line(name, tmp_path):
    attack(READERS[name], tmp_path / "run")
