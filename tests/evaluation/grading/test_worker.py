"""What a grading process does where its memory ends."""

import subprocess
import sys

import pytest

SCRIPT = """
from omr.evaluation.grading.worker import Memory, outcome
memory = Memory.limited(100)
print(outcome(lambda *_: True, "", "", memory), outcome(lambda *_: False, "", "", memory))
print(outcome(lambda *_: 1 / 0, "", "", memory))
print(outcome(lambda *_: bytearray(200_000_000), "", "", memory))
def swallowed(*_):
    held = []
    try:
        while True:
            held.append(bytearray(1_000_000))
    except Exception:
        return False
print(outcome(swallowed, "", "", memory), memory.used() > 0.9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells how much there is")
def test_a_lack_of_memory_is_a_timeout_whoever_notices_it():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True)
    assert done.stdout.split("\n") == ["right wrong", "wrong", "timeout", "timeout True", ""]
