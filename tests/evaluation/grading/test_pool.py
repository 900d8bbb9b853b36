"""Grading in processes: limits hold, the dead are replaced, verdicts keep their order."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from omr.errors import OmrError
from omr.evaluation.grading.pool import Grader, Limits
from omr.evaluation.grading.rules import Outcome, Verdict, boxed

RIGHT = Verdict(Outcome.RIGHT, Outcome.RIGHT)
WRONG = Verdict(Outcome.WRONG, Outcome.WRONG)
TIMEOUT = Verdict(Outcome.TIMEOUT, Outcome.TIMEOUT)
ROUNDED = Verdict(Outcome.RIGHT, Outcome.WRONG)
ENDLESS = ("9^{(9^9)}", "2^{2^{100000}}", "{" * 40 + "1" + "}" * 40)


def box(text):
    """What a grader is given of an answer with such a box."""
    return boxed(rf"So the answer is \boxed{{{text}}}.")


def graders():
    """The processes that this one has for grading."""
    return [p for p in psutil.Process().children() if "omr.evaluation.grading.worker" in p.cmdline()]


@pytest.mark.slow
def test_verdicts_come_in_the_order_of_the_answers_and_endless_ones_are_counted(capfd):
    """One process: its clock starts with an answer's work, or the last ones would wait past the limit."""
    asked = [
        *[(box(text), "3") for text in ENDLESS],
        (box("0.5"), r"\frac12"),
        (box(r"\frac{1}{2^{99}}"), r"\frac{1}{2^{98}}"),
        (boxed("no box"), "3"),
        (box("4"), "3"),
        (box(r"\frac{"), "3"),
        (box("\ud800"), "3"),
    ]
    with Grader(1, Limits(cpu_seconds=1.5)) as grader:
        found = grader.grade(asked)
        assert len(graders()) == 1
    assert found[:6] == [TIMEOUT, TIMEOUT, TIMEOUT, RIGHT, ROUNDED, WRONG]
    assert set(found[6:]) == {WRONG}
    assert graders() == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.slow
def test_a_process_that_was_killed_is_replaced_and_its_answer_graded():
    with Grader(1, Limits(cpu_seconds=1.5)) as grader:
        assert grader.grade([(box("0.5"), r"\frac12")]) == [RIGHT]
        (killed,) = graders()
        killed.kill()
        assert grader.grade([(box("0.25"), r"\frac14")]) == [RIGHT]
        (other,) = graders()
        assert other.pid != killed.pid
        # In the middle of its work, too: another one tries.
        verdict = grader.submit(box(ENDLESS[0]), "3")
        later = grader.submit(box("0.125"), r"\frac18")
        time.sleep(0.5)
        other.kill()
        assert verdict.result() == TIMEOUT
        assert later.result() == RIGHT


def test_what_needs_no_mathematics_starts_no_process(monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    with Grader() as grader:
        assert grader.grade([(box("95"), "95"), (None, "95")]) == [RIGHT, WRONG]


def test_the_same_answer_is_graded_once_and_a_coroutine_may_wait_for_it():
    async def wait(grader):
        futures = [grader.submit(box("0.5"), r"\frac12") for _ in range(3)]
        assert len(set(map(id, futures))) == 1
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    with Grader(2) as grader:
        assert asyncio.run(wait(grader)) == [RIGHT] * 3


def test_a_grader_that_does_not_start_is_told(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Grader(1) as grader, pytest.raises(OmrError, match="the grader does not start"):
        grader.grade([(box("0.5"), r"\frac12")])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_process_has_no_secrets_and_finds_nothing_in_the_users_folder(monkeypatch, tmp_path):
    (tmp_path / "sympy.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    monkeypatch.setenv("WANDB_API_KEY", "abc")
    with Grader(1) as grader:
        assert grader.grade([(box("0.5"), r"\frac12")]) == [RIGHT]
        environment = graders()[0].environ()
    assert not {"HF_TOKEN", "WANDB_API_KEY"} & set(environment)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's part is Linux's")
@pytest.mark.slow
def test_a_killed_parent_leaves_no_process():
    script = """
import time
from omr.evaluation.grading.pool import Grader, Limits
grader = Grader(1, Limits(cpu_seconds=600))
grader.grade([("0.5", r"\\frac12")])
grader.submit("9^{(9^9)}", "3")
print("ready", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout.readline() == "ready\n"
        (process,) = psutil.Process(parent.pid).children()
        time.sleep(0.5)  # it is in the middle of a power
        os.kill(parent.pid, signal.SIGKILL)
    for _ in range(100):
        if not Path(f"/proc/{process.pid}").exists() or process.status() == psutil.STATUS_ZOMBIE:
            return
        time.sleep(0.1)
    process.kill()
    pytest.fail("the grading process outlived its parent")
