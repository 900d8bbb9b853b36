"""Trainings of the micro recipe in forks of a process that has torch loaded: seconds each, and killable."""

import hashlib
import importlib
import multiprocessing
import shutil
import time
from pathlib import Path


def _call(name, args, kwargs):
    getattr(importlib.import_module("tests.training.trl.engine_child"), name)(*args, **kwargs)


class ForkServer:
    """Calls functions of tests/training/trl/engine_child.py, each in a process of its own."""

    def __init__(self):
        self.context = multiprocessing.get_context("forkserver")
        self.context.set_forkserver_preload(["tests.training.trl.engine_child"])

    def start(self, name, *args, **kwargs):
        process = self.context.Process(target=_call, args=(name, args, kwargs))
        process.start()
        return process

    def call(self, name, *args, timeout=240, **kwargs):
        """Exit code of a call; -9 if it was killed."""
        process = self.start(name, *args, **kwargs)
        process.join(timeout)
        assert process.exitcode is not None, f"{name} did not end in {timeout} s"
        return process.exitcode


class MicroRun:
    """A micro run in a workspace of its own."""

    def __init__(self, root, fork_server):
        self.root, self.fork_server, self.log = Path(root), fork_server, Path(root, "log.txt")
        self.folder = self.root / "runs" / "micro" / "round1"
        self.checkpoints = self.folder / "checkpoints"

    def prepare(self, **changes):
        assert self.fork_server.call("prepare", str(self.root), **changes) == 0
        return self

    def train(self, **options):
        return self.fork_server.call("train", str(self.root), str(self.log), **options)

    def start(self, **options):
        return self.fork_server.start("train", str(self.root), str(self.log), **options)

    def copy(self, root):
        """The same run at another place; it still reads the data and the base of this one."""
        shutil.copytree(self.folder, Path(root) / "runs" / "micro" / "round1")
        return MicroRun(root, self.fork_server)

    def said(self):
        return self.log.read_text()

    def steps(self):
        return sorted(int(p.name.removeprefix("step_")) for p in self.checkpoints.glob("step_*"))

    def weights(self, step=24):
        """Hashes of what a checkpoint's weights and optimiser are."""
        folder = self.checkpoints / f"step_{step}"
        return [
            hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.safetensors", "optimizer.pt", "scheduler.pt")
        ]

    def wait_for(self, name, seconds=120):
        """Until a path of the run appears."""
        until = time.monotonic() + seconds
        while not (self.folder / name).exists():
            assert time.monotonic() < until, f"{name} did not appear"
            time.sleep(0.02)
