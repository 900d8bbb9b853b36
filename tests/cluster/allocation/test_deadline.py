"""When an engine has to begin its last save: margins that are learned, ends that move, a controller away."""

import pytest

from omr.cluster.allocation import deadline
from omr.cluster.allocation.deadline import Deadline
from omr.cluster.allocation.supervise import why_to_save
from omr.errors import OmrError


@pytest.mark.parametrize(
    ("known", "left", "seconds"),
    [
        (None, None, 600),
        (None, 4 * 3600, 600),
        (None, 1200, 300),
        (0.5, 4 * 3600, 60),
        (200.0, 4 * 3600, 430),
        # A slow disk once must not leave links of one step each.
        (900.0, 1800, 900),
        (900.0, None, 1830),
    ],
)
def test_margin_learns_from_the_saves(known, left, seconds):
    assert deadline.learned_margin(known, left) == seconds


def test_usr2_asks_again_and_term_ends(monkeypatch):
    times = iter([1000.0, 1000.0, 500.0])
    monkeypatch.setattr(deadline.slurm, "end_time", lambda job, **_: next(times))
    monkeypatch.setattr(deadline.time, "time", lambda: 450.0)
    ends = Deadline("7", 100, None)
    assert ends.moment == 900 and why_to_save([], ends) is None
    assert why_to_save(["SIGUSR2"], ends) is None
    # Preempted: the end has moved.
    assert why_to_save(["SIGUSR2"], ends) == "the allocation ends in 100 s"
    assert why_to_save(["SIGTERM"], ends) == "Slurm ends this job"


def test_the_controller_may_be_away(monkeypatch):
    def away(job, **patience):
        raise OmrError("squeue failed")

    monkeypatch.setattr(deadline.slurm, "end_time", away)
    ends = Deadline("7", None, None)
    assert ends.moment is None and not ends.passed()
