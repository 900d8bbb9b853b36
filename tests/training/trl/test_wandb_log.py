"""W&B beside a training: one run over all resumptions, no step twice, and no harm where it fails.

The first tests have a W&B that fails as it is told, the others the real one, offline.
"""

import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from types import SimpleNamespace

import pytest
import yaml

from omr.settings import ROOT
from omr.training.trl import wandb_log
from omr.training.trl.wandb_log import WandbLog
from omr.workspace import RunFolder
from tests.training.trl import wandb_file
from tests.training.trl.engine_kit import ForkServer, MicroRun


@dataclass
class Config:
    """What is used of the engine's configuration."""

    identity: str = "0123456789abcdef"
    lr: float = 4e-3

    def as_json(self):
        return asdict(self)


class Fake:
    """In place of the package: notes what is asked, and fails in one of its calls."""

    def __init__(self, fails="", step=0, offline=False):
        self.fails, self.step, self.offline, self.asked, self.logged = fails, step, offline, {}, []
        self.Settings = SimpleNamespace

    def _call(self, name):
        if name == self.fails:
            raise RuntimeError(f"{name} failed\nbadly")

    def init(self, **words):
        self._call("init")
        self.asked = words
        if self.offline:
            self.dir = (
                words["dir"] / "wandb" / f"offline-run-{len(list(words['dir'].glob('wandb/*')))}" / "files"
            )
            self.dir.mkdir(parents=True)
        return self

    def log(self, numbers, step):
        self._call("log")
        self.logged.append(step)

    def finish(self):
        self._call("finish")


@pytest.fixture
def session(monkeypatch, tmp_path):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)

    def run(fake, start=0, end=4, killed=False):
        monkeypatch.setitem(sys.modules, "wandb", fake)
        rows = [{"step": step, "time": 1.0, "loss": 1.0} for step in range(1, start + 1)]
        log = WandbLog(RunFolder(tmp_path / "runs/7b/round1-box"), Config(), start, rows)
        for step in range(start + 1, end + 1):
            log.add(step, loss=1.0)
        if not killed:
            log.close()
        return fake

    return run


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_failure_is_one_line_and_the_end_of_it(session, capsys, fails):
    session(Fake(fails))
    said = capsys.readouterr().err
    assert said == f"W&B: {fails} failed badly; training goes on without it, metrics.jsonl has all\n"


def test_without_the_package(session, capsys):
    session(None)  # as Python has what cannot be imported
    assert capsys.readouterr().err.startswith("W&B: ")


def test_what_the_run_is_called(session, monkeypatch):
    asked = session(Fake()).asked
    name = "7b-round1-box"
    assert (asked["project"], asked["name"], asked["id"]) == ("openmathreasoning", name, f"{name}-01234567")
    assert asked["entity"] is None and asked["config"]["lr"] == 4e-3
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    asked = session(Fake()).asked
    assert (asked["project"], asked["entity"]) == ("mine", "team")


def test_the_project_is_that_of_nemo_rl():
    nemo_rl = yaml.safe_load((ROOT / "omr/training/nemo_rl/sft.yaml").read_text())
    assert nemo_rl["logger"]["wandb"]["project"] == wandb_log.PROJECT


@pytest.mark.parametrize(
    ("start", "there", "sent", "resume"),
    [
        (0, 0, [1, 2, 3, 4], None),
        (0, 4, [1, 2, 3, 4], None),  # no checkpoint was saved: W&B's run is begun anew
        (2, 5, [], "allow"),
        (2, 4, [4], "allow"),
        (2, 3, [3, 4], "allow"),
        (2, 1, [1, 2, 3, 4], "allow"),  # what a killed session had not sent comes from metrics.jsonl
    ],
)
def test_online_it_goes_on_where_wandb_is(session, start, there, sent, resume):
    fake = session(Fake(step=there), start)
    assert fake.logged == sent and fake.asked["resume"] == resume


def test_offline_what_a_killed_session_lost_is_sent_again(session, tmp_path):
    folders = lambda: len([*tmp_path.glob("runs/7b/round1-box/logs/wandb/offline-run-*")])  # noqa: E731
    assert session(Fake(offline=True), end=4).logged == [1, 2, 3, 4]
    assert session(Fake(offline=True), start=4, end=8, killed=True).logged == [5, 6, 7, 8]
    assert folders() == 2
    assert session(Fake(offline=True), start=6, end=9).logged == [5, 6, 7, 8, 9]
    assert folders() == 2, "the folder of the killed session is gone"
    assert session(Fake(offline=True), start=8, end=10).logged == [10]


@pytest.mark.parametrize(
    ("environ", "wanted"),
    [
        ({}, False),
        ({"WANDB_API_KEY": "k"}, True),
        ({"WANDB_API_KEY": ""}, False),
        ({"WANDB_MODE": "offline"}, True),
        ({"WANDB_MODE": "online"}, False),
        ({"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, False),
    ],
)
def test_when_it_is_wanted(monkeypatch, environ, wanted):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert wandb_log.wanted() == wanted


@pytest.fixture(scope="module")
def fork_server():
    pytest.importorskip("wandb", reason="the train environment has it: docker/venv train")
    return ForkServer()


@pytest.mark.slow
def test_offline_two_resumptions_are_one_run(fork_server, tmp_path):
    """Stopped once, killed once; the weights are those of a training that nobody disturbed or logged."""
    plain = MicroRun(tmp_path / "plain", fork_server).prepare()
    assert plain.train() == 0, plain.said()
    run = MicroRun(tmp_path / "logged", fork_server).prepare(held_out=4)
    offline = {"WANDB_MODE": "offline", "OMR_STEP_DELAY": "0.1"}
    first = run.start(**offline)
    run.wait_for("checkpoints/step_4")
    os.kill(first.pid, signal.SIGTERM)  # saves, and ends by itself
    first.join()
    second = run.start(**offline)
    run.wait_for("checkpoints/step_12")
    os.kill(second.pid, signal.SIGKILL)
    second.join()
    assert run.train(**offline) == 0, run.said()
    told = wandb_file.sessions(run.folder / "logs")
    assert len(told) == 2 and {name for name, _ in told} == {told[0][0]}
    assert told[0][0].startswith("micro-round1-")
    steps = [step for _, session in told for step in session]
    assert steps == list(range(1, 25)), "each once, those of the killed session too"
    rows = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    wanted = {row["step"]: row["val_loss_tir"] for row in rows if "val_loss_tir" in row}
    assert list(wanted) == [4, 8, 12, 16, 20, 24]
    assert wandb_file.numbers(run.folder / "logs", "val_loss_tir") == wanted
    assert run.weights() == plain.weights()
    assert (run.folder / "logs/tensorboard").is_dir()


@pytest.mark.slow
def test_a_key_that_is_none_harms_nothing(fork_server, tmp_path):
    run = MicroRun(tmp_path, fork_server).prepare()
    assert run.train(WANDB_API_KEY="no key") == 0, run.said()
    assert run.said().count("W&B: ") == 1 and "Traceback" not in run.said()
    assert run.steps()[-1] == 24
