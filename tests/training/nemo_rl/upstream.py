"""A checkout of the pinned NeMo-RL and the environment it runs in; without them a test is skipped."""

import os
import subprocess
from pathlib import Path

import pytest

from omr.settings import ROOT

PYTHON = ROOT / "build" / "nemo-rl-venv" / "bin" / "python"


def checkout(name="NEMO_RL_SOURCE"):
    """The folder that the environment names; make test-nemo sets it."""
    return Path(os.environ.get(name) or pytest.skip(f"{name} names no checkout (make test-nemo)")).resolve()


def start(script, *words, log, **environ):
    """Start one of our scripts in NeMo-RL's environment and folder; what it prints goes to the file `log`."""
    env = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    env |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", **environ}
    command = [str(python()), str(script), *map(str, words)]
    with open(log, "w") as out:
        return subprocess.Popen(command, cwd=checkout(), env=env, stdout=out, stderr=subprocess.STDOUT)


def python():
    """Skips where the environment was not built."""
    return PYTHON if PYTHON.exists() else pytest.skip("there is no build/nemo-rl-venv (docker/venv nemo-rl)")
