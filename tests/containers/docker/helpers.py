"""How the tests call the engine and a checkout of their own."""

import os
import subprocess
import sys
from pathlib import Path

from omr import settings

BASE, TRAIN_BASE = "stand-in/base:1", "stand-in/nemo-rl:1"
TRUSTED = "s3cret-mirror.example.org"  # stands in pip's configuration while the images are built


def run(*command, check=True, timeout=600, **options):
    """A command with its output as text."""
    options = {"capture_output": True, "text": True, "timeout": timeout, **options}
    done = subprocess.run([str(word) for word in command], **options)
    assert not check or done.returncode == 0, (
        f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    return done


class Checkout:
    """A copy of the repository that the tests may change, and how they call it."""

    def __init__(self, root, engine, cache):
        self.root = root
        plain = {name: value for name, value in os.environ.items() if name not in settings.SETTINGS}
        self.environ = {
            **plain,
            "DOCKER_HOST": engine,
            "OMR_VENV": str(Path(sys.prefix)),
            "OMR_ENV_FILE": "/dev/null",
            "TOOLS_BASE": BASE,
            "TRAIN_BASE": TRAIN_BASE,
            "TOOLS_TIER": "data",
            "NEMO_SKILLS": "none",
            "PIP_TRUSTED_HOST": TRUSTED,
            "HF_HOME": str(cache),
            "WORKERS": "1",
        }

    def make(self, *words, check=True, cwd=None, prefix=(), **environ):
        """`make WORDS` in the checkout."""
        line = [*prefix, "make", "--directory", self.root, *words]
        return run(*line, check=check, env={**self.environ, **environ}, cwd=cwd)

    def docker(self, *words, check=True):
        """The engine's own command line."""
        return run("docker", *words, check=check, env=self.environ)
