"""A run of 24 steps on this machine, whose training is a process that the test owns."""

import json
import socket
import subprocess

import pytest

from omr import recipe
from omr.workspace import Workspace

RUN = recipe.run("tiny", 1, steps=24, name="seen")


class Training:
    """The run's folder, as a training fills it."""

    def __init__(self, root):
        self.folder = Workspace(root).run(RUN)
        self.folder.root.mkdir(parents=True)
        request = {"recipe": json.loads(json.dumps(RUN.as_dict())), "engine": "trl"}
        self.folder.run_json.write_text(json.dumps({"request": request}))
        self.process = subprocess.Popen(["/usr/bin/sleep", "600"])
        lock = f"process {self.process.pid} on {socket.gethostname()}"
        (self.folder.root / ".train.lock").write_text(lock)
        self.step = 0

    def steps(self, count):
        with self.folder.metrics.open("a") as file:
            for _ in range(count):
                self.step += 1
                row = {"step": self.step, "time": 100 + 2 * self.step, "loss": 2 / self.step, "tokens": 500}
                file.write(json.dumps(row) + "\n")

    def event(self, text):
        with self.folder.event_log.open("a") as file:
            file.write(text + "\n")

    def end(self, final=True):
        if final:
            self.folder.final.mkdir(exist_ok=True)
            (self.folder.final / "manifest.json").write_text("{}")
        self.process.kill()
        self.process.wait()


@pytest.fixture
def training(tmp_path, monkeypatch):
    monkeypatch.delenv("TIME", raising=False)
    made = Training(tmp_path / "w")
    yield made
    made.end(final=False)


@pytest.fixture(autouse=True)
def no_slurm(monkeypatch, tmp_path):
    """Whether this machine has Slurm or not, nobody asks it."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
