"""Running bin/data.py: in this process (soon), or in its own processes (as it is)."""

import contextlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from unittest import mock

from omr import cli, recipe
from omr.data import process_pool
from omr.settings import ROOT

COLUMNS = recipe.CORPORA["tiny"].columns
OURS = (
    "RAW",
    "TOKENIZER",
    "LENGTH_TOKENIZER",
    "NAME",
    "WORKERS",
    "MEMORY",
    "SEED",
    "LIMIT",
    "MODES",
    "BAD_ROWS",
    "ALLOW",
    "DROP",
    "VALIDATION",
    "FORCE",
)


class Inline(Executor):
    """Calls at once, in this process."""

    def submit(self, function, /, *args, **named):
        future = Future()
        try:
            future.set_result(function(*args, **named))
        except Exception as error:
            future.set_exception(error)
        return future


class InlineChild:
    """A process_pool.Child that is called at once, in this process."""

    def __init__(self, function, *arguments):
        self.value = function(*arguments)

    def done(self):
        return True

    def result(self):
        return self.value


@dataclass
class Said:
    """What a run answered."""

    returncode: int
    stdout: str
    stderr: str


def environment(workspace):
    """Nothing of the caller's settings."""
    kept = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**kept, "WORKSPACE": str(workspace), "OMR_ENV_FILE": "/dev/null", "HF_HUB_OFFLINE": "1"}


def process(workspace, *words, check=True):
    """bin/data.py as a user runs it."""
    command = [sys.executable, ROOT / "bin" / "data.py", *map(str, words)]
    return subprocess.run(command, env=environment(workspace), capture_output=True, text=True, check=check)


def make(workspace, *words, check=True):
    """The same command here, its worker processes replaced by calls."""
    spec = importlib.util.spec_from_file_location("data_script", ROOT / "bin" / "data.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        mock.patch.dict(os.environ, environment(workspace), clear=True),
        mock.patch.object(sys, "argv", ["data.py", *map(str, words)]),
        mock.patch.object(process_pool, "workers", lambda count: contextlib.nullcontext(Inline())),
        mock.patch.object(process_pool, "Child", InlineChild),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main(script.main)
        except SystemExit as stop:
            code = stop.code or 0
    assert not (check and code), err.getvalue()
    return Said(code, out.getvalue(), err.getvalue())


def heed_interrupts():
    """For a child: tests that a shell runs in the background are made with interrupts ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
