"""`make watch` in a real pseudo-terminal: q, a new size, Ctrl-C, a run that ends; and in a pipe."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from omr.settings import ROOT

pytestmark = pytest.mark.slow  # a second or two each
SCRIPT = """
import runpy, sys
from omr.reports.watch import screen
screen.IN_A_TERMINAL = screen.IN_A_LOG = 0.2
sys.argv = ["watch", *sys.argv[1:]]
runpy.run_path("bin/watch.py", run_name="__main__")
"""
WORDS = ("--model", "tiny", "--name", "seen", "--steps", "24")


class Terminal:
    """The script in a terminal of its own; `shown` is all that it wrote."""

    def __init__(self, root, *words, columns=100, **environ):
        self.main, other = pty.openpty()
        self.size(30, columns)
        self.before = termios.tcgetattr(other)
        env = {
            "WORKSPACE": str(root),
            "OMR_ENV_FILE": "/dev/null",
            "PYTHONPATH": str(ROOT),
            "PATH": "/nowhere",
        }
        env |= {"PYTHONUTF8": "1", "TERM": "xterm-256color", **environ}
        command = [sys.executable, "-c", SCRIPT, *words]
        self.child = subprocess.Popen(
            command, stdin=other, stdout=other, stderr=other, env=env, cwd=ROOT, start_new_session=True
        )
        self.other, self.shown = other, ""
        os.set_blocking(self.main, False)

    def size(self, rows, columns):
        fcntl.ioctl(self.main, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        try:
            self.shown += os.read(self.main, 1 << 20).decode()
        except (BlockingIOError, OSError):
            time.sleep(0.05)

    def until(self, pattern, seconds=20):
        """Wait until this was written after what was waited for before."""
        end, start = time.monotonic() + seconds, len(self.shown)
        while not re.search(pattern, self.shown[start:], re.DOTALL):
            assert time.monotonic() < end, f"{pattern} did not come: {self.shown[-2000:]!r}"
            self.read()

    def type(self, text):
        os.write(self.main, text.encode())

    def code(self):
        """The exit code; the terminal is then as it was."""
        end = time.monotonic() + 20
        while self.child.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self.read()
        self.read()
        assert termios.tcgetattr(self.other) == self.before and self.shown.endswith("\x1b[?25h")
        return self.child.returncode

    def close(self):
        if self.child.poll() is None:
            self.child.kill()
            self.child.wait()
        os.close(self.main)
        os.close(self.other)


@pytest.fixture
def terminal(training, tmp_path):
    opened = []

    def open_one(*words, **more):
        opened.append(Terminal(tmp_path / "w", *words, **more))
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


def test_q_leaves_and_the_run_goes_on(terminal, training):
    training.steps(2)
    seen = terminal(*WORDS)
    seen.until("q leaves")
    assert "step 2 of 24" in seen.shown and "loss 1.0000  █▁  from 2.0000" in seen.shown
    training.steps(4)
    training.event("saved step 6 of 24")
    seen.until("step 6 of 24.*█.*saved step 6 of 24")
    seen.type("x")
    seen.type("q")
    assert seen.code() == 0 and training.process.poll() is None
    assert "\x1b[?1049h" not in seen.shown and "Traceback" not in seen.shown  # no screen of its own


def test_what_has_not_changed_is_not_drawn_again(terminal, training):
    training.steps(2)
    seen = terminal(*WORDS)
    seen.until("q leaves")
    before = len(seen.shown)
    for _ in range(20):  # a second, in which it looks five times
        seen.read()
    assert len(seen.shown) == before
    training.steps(1)
    seen.until("step 3 of 24")
    seen.type("q")
    assert seen.code() == 0 and len(seen.shown) - before < 1500


def test_ctrl_c_leaves_quietly(terminal, training):
    seen = terminal(*WORDS)
    seen.until("q leaves")
    seen.child.send_signal(signal.SIGINT)
    assert seen.code() == 0 and "Traceback" not in seen.shown and "error" not in seen.shown


def test_sigterm_leaves_the_terminal_as_it_was(terminal, training):
    seen = terminal(*WORDS)
    seen.until("q leaves")
    seen.child.terminate()
    assert seen.code() == 128 + signal.SIGTERM


def test_a_terminal_that_becomes_narrow(terminal, training):
    training.event("a line of the event log that is far too long for a terminal of forty columns")
    seen = terminal(*WORDS)
    seen.until("forty columns.*q leaves")
    seen.size(20, 40)
    seen.until(r"\x1b\[2J.*q leaves")  # what the terminal itself had wrapped is gone
    last = seen.shown.rpartition("\x1b[2J")[2]
    lines = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", line) for line in last.replace("\r", "").split("\n")]
    assert max(map(len, lines)) <= 40 and any(line.endswith("…") for line in lines)
    seen.type("q")
    assert seen.code() == 0


def test_a_run_that_ends(terminal, training):
    training.steps(2)
    seen = terminal(*WORDS)
    seen.until("q leaves")
    training.steps(22)
    training.end()
    assert seen.code() == 0
    line = f"finished: {training.folder.final}"[:70]  # the terminal's lines are not wrapped
    assert line in seen.shown and "step 24 of 24" in seen.shown


def test_all_active_runs_a_line_each(terminal, training):
    training.steps(2)
    seen = terminal()
    seen.until("tiny round1-seen: step 2 of 24.*q leaves")
    training.end(final=False)
    seen.until("tiny round1-seen: nothing works on it any more")
    assert seen.code() == 0


def piped(training, *words):
    env = {"WORKSPACE": str(training.folder.root.parents[2]), "OMR_ENV_FILE": "/dev/null", "PATH": "/nowhere"}
    env |= {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", SCRIPT, *words]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
        cwd=ROOT,
    )


def test_plain_lines_in_a_pipe(training):
    training.steps(2)
    with piped(training, *WORDS) as child:
        first = child.stdout.readline()
        assert first.startswith(
            "tiny round1-seen: step 2 of 24 (8%), loss 1.0000, 2.00 s a step, 250 tokens/s,"
        )
        training.event("2026-01-31 18:00:00 saved step 2 of 24")
        assert child.stdout.readline() == "tiny round1-seen: 2026-01-31 18:00:00 saved step 2 of 24\n"
        training.end()
        rest, errors = child.communicate(timeout=30)
    assert child.returncode == 0 and errors == "" and "\x1b" not in rest
    assert rest.splitlines()[-1] == f"tiny round1-seen: finished: {training.folder.final}"


def test_nothing_to_watch(training):
    training.end(final=False)
    with piped(training) as child:
        out, errors = child.communicate(timeout=30)
    assert child.returncode == 0 and "no run is active" in out and errors == ""
    with piped(training, "--model", "tiny", "--round", "2") as child:
        out, errors = child.communicate(timeout=30)
    assert child.returncode == 2 and "was not begun; make train MODEL=tiny ROUND=2 begins it" in errors
