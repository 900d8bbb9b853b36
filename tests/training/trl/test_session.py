"""When a training saves and stops before its last step."""

import time

import pytest

from omr.run import lease
from omr.training.trl.session import StopRule


@pytest.fixture(autouse=True)
def nothing_asked(monkeypatch):
    for name in ("OMR_DEADLINE", "OMR_STOP", "OMR_LEASE"):
        monkeypatch.delenv(name, raising=False)


def test_nothing_asks_to_stop():
    assert not StopRule([]).must_stop()


def test_a_signal_and_a_file_ask_to_stop(tmp_path, monkeypatch):
    signals, stop = [], tmp_path / "stop"
    rule = StopRule(signals)
    signals.append("SIGTERM")
    assert rule.must_stop()
    signals.clear()
    monkeypatch.setenv("OMR_STOP", str(stop))
    assert not rule.must_stop()
    stop.touch()
    assert rule.must_stop()


@pytest.mark.parametrize(("remaining", "stops"), [(60, False), (35, True), (-1, True)])
def test_the_deadline_leaves_time_for_two_steps_and_a_save(monkeypatch, remaining, stops):
    rule = StopRule([])
    for seconds in (15, 5):  # the slowest counts
        rule.step_took(seconds)
        rule.save_took(seconds / 2)
    monkeypatch.setenv("OMR_DEADLINE", str(time.time() + remaining))
    assert rule.must_stop() is stops


@pytest.mark.parametrize(("guessed", "stops"), [(0, False), (9, False), (31, True)])
def test_it_leaves_time_for_the_first_measuring_on_held_out_rows(monkeypatch, guessed, stops):
    rule = StopRule([], step_seconds=15, save_seconds=2)
    rule.measuring_seconds = guessed
    monkeypatch.setenv("OMR_DEADLINE", str(time.time() + 60))
    assert rule.must_stop() is stops


def test_a_lost_lease_ends_it(tmp_path, monkeypatch):
    for number in ("1", "2"):
        (tmp_path / number).write_text("{}")
    monkeypatch.setenv("OMR_LEASE", str(tmp_path / "1"))
    with pytest.raises(lease.Lost, match="has taken over this run"):
        StopRule([]).must_stop()
