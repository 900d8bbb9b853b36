"""Whoever took the lease last may write, and everybody else can tell."""

import multiprocessing

import pytest

from omr.run import lease


def free(job):
    return False


def test_the_next_number_ends_the_one_before(tmp_path):
    first = lease.take(tmp_path / "run" / "lease", "7", 0, free)
    assert first.path.name == "1" and first.holds
    first.check()
    second = lease.take(tmp_path / "run" / "lease", "8", 0, free)
    assert second.path.name == "2" and second.holds and not first.holds
    with pytest.raises(lease.Lost, match=r"job 8 \(start 0\) has taken over"):
        first.check()
    assert lease.holder(tmp_path / "run" / "lease")["job"] == "8"


@pytest.mark.parametrize(
    ("holder", "taker", "active", "says"),
    [
        ("7", "8", True, "job 7 trains here"),
        ("7", "8", None, "does not say whether job 7"),
        ("7", "8", False, None),  # it ended, however it ended
        ("7", "7", True, None),  # Slurm started the same job again: the first start is an orphan
    ],
)
def test_a_live_job_keeps_it(tmp_path, holder, taker, active, says):
    first = lease.take(tmp_path / "run" / "lease", holder, 0, free)
    if says:
        with pytest.raises(lease.Held, match=says):
            lease.take(tmp_path / "run" / "lease", taker, 1, lambda job: active)
        assert first.holds
    else:
        assert lease.take(tmp_path / "run" / "lease", taker, 1, lambda job: active).holds and not first.holds


def test_a_damaged_entry_keeps_nobody_out(tmp_path):
    folder = tmp_path / "run" / "lease"
    lease.take(folder, "7", 0, free)
    (folder / "1").write_text("{")
    assert lease.take(folder, "8", 0, lambda job: True).path.name == "2"


def grab(folder, job, numbers):
    numbers.put(int(lease.take(folder, job, 0, free).path.name))


def test_many_at_once_get_numbers_of_their_own(tmp_path):
    context = multiprocessing.get_context("fork")
    numbers = context.Queue()
    takers = [context.Process(target=grab, args=(tmp_path / "lease", str(i), numbers)) for i in range(12)]
    for taker in takers:
        taker.start()
    got = sorted(numbers.get(timeout=30) for _ in takers)
    for taker in takers:
        taker.join()
    assert got == list(range(1, 13))


def test_an_engine_without_a_lease_may_write(tmp_path, monkeypatch):
    monkeypatch.delenv(lease.VARIABLE, raising=False)
    lease.check()
    held = lease.take(tmp_path / "lease", "7", 0, free)
    monkeypatch.setenv(lease.VARIABLE, str(held.path))
    lease.check()
    lease.take(tmp_path / "lease", "8", 0, free)
    with pytest.raises(lease.Lost):
        lease.check()


def test_a_run_folder_that_was_removed_is_lost(tmp_path):
    held = lease.take(tmp_path / "run" / "lease", "7", 0, free)
    held.path.unlink()
    assert not held.holds
    with pytest.raises(lease.Lost, match="the run's lease is gone"):
        held.check()


def test_a_lease_taken_over_twice_is_lost_to_the_last(tmp_path):
    first = lease.take(tmp_path / "run" / "lease", "7", 0, free)
    for job in ("8", "9"):
        lease.take(tmp_path / "run" / "lease", job, 0, free)
    (tmp_path / "run" / "lease" / "2").unlink()
    with pytest.raises(lease.Lost, match="job 9"):
        first.check()
