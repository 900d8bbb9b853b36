"""How far a stage is: plain lines in a log, a bar that is redrawn in a terminal."""

import os
import pty
import subprocess
import sys

import pytest

from omr import progress
from omr.settings import ROOT


@pytest.fixture
def clock(monkeypatch):
    """Seconds that the test sets."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_a_log_gets_a_plain_line_every_half_minute(clock, capsys):
    shown = progress.Progress("mixing", 4e9)
    shown.start(1e9)
    for second in range(1, 101):
        clock[0] = second
        shown.add(1e7)
    shown.close()
    assert capsys.readouterr().err.splitlines() == [
        "mixing: 32%, 1.3 GB of 4.0 GB, 10.0 MB/s, 4:30 left",
        "mixing: 40%, 1.6 GB of 4.0 GB, 10.0 MB/s, 4:00 left",
        "mixing: 48%, 1.9 GB of 4.0 GB, 10.0 MB/s, 3:30 left",
    ]


def test_what_is_done_at_once_says_nothing(clock, capsys):
    shown = progress.Progress("mixing", 10, "rows")
    shown.set(10)
    shown.close()
    assert capsys.readouterr().err == ""


def test_other_units_than_bytes(clock, capsys):
    shown = progress.Progress("training", 8000, "steps")
    clock[0] = 4000.0
    shown.set(4000)
    assert capsys.readouterr().err == "training: 50%, 4,000 steps of 8,000 steps, 1 steps/s, 1:06:40 left\n"


def test_a_bar_says_what_its_owner_says_now(clock):
    shown = progress.Progress("training", 10, "steps")
    shown.every = progress.IN_A_TERMINAL
    for step in (1, 2):
        clock[0] = step
        shown.what = f"training, loss 0.{step}"
        shown.set(step)
        assert shown.bar.tasks[0].description == shown.what
    shown.close()


SCRIPT = """
import time
from omr.progress import Progress
shown = Progress("mixing [a]", 3e9)
for _ in range(3):
    time.sleep(0.6)
    shown.add(1e9)
shown.close()
"""


@pytest.mark.slow
def test_a_terminal_gets_a_bar_that_is_redrawn(tmp_path):
    ours, theirs = pty.openpty()
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, stdout=theirs, env=environ)
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 1 << 16):
            text += piece
    except OSError:  # how Linux tells the end of a terminal
        pass
    assert process.wait() == 0
    assert b"mixing [a]" in text and b"3.0 GB of 3.0 GB" in text and b"100%" in text
    assert text.count(b"\r\x1b[2K") >= 2 and text.count(b"\n") == 1
