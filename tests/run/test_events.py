"""The event log: what is written is read back as what it is about."""

import pytest

from omr.run import events
from omr.workspace import RunFolder


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path)


# Those of the links of a chain are held by tests/cluster/allocation, with the code that writes them.
@pytest.mark.parametrize(
    ("line", "kind", "step", "who"),
    [
        ("link 2 of 4, job 12: trains on from step 400", "started", 400, ("2 of 4", "12", 1)),
        ("link ? of ?, job 12, start 3: trains from the start", "started", None, ("? of ?", "12", 3)),
        ("link 1 of 4, job 12: saved step 7500 of 30000", "saved", 7500, ("1 of 4", "12", 1)),
        (
            "link 1 of 4, job 12: refused: the data changed; the rest of the chain is cancelled",
            "refused",
            None,
            None,
        ),
        ("cancelled by make cancel: jobs 7, 8", "cancelled", None, ("", "", 1)),
        ("chain ab12 submitted: jobs 7, 8", "submitted", None, None),
        ("something else", "", None, None),
    ],
)
def test_a_line_is_read_as_what_it_is_about(folder, line, kind, step, who):
    events.log_event(folder, line)
    [event] = events.read(folder)
    assert (event.kind, event.step) == (kind, step)
    assert who is None or (event.link, event.job, event.start) == who


def test_a_training_on_one_machine_tells_its_start_and_its_end(folder):
    events.log_start(folder, 0)
    events.log_end(folder, 20, 40)
    events.log_start(folder, 20)
    events.log_end(folder, 40, 40)
    found = [(event.kind, event.step) for event in events.read(folder)]
    assert found == [("started", None), ("saved", 20), ("started", 20), ("complete", 40)]


def test_what_force_removed_is_no_part_of_this_training(folder):
    events.log_start(folder, 0)
    events.log_event(folder, events.ANEW)
    assert events.read(folder) == []
    events.log_start(folder, 0)
    assert len(events.read(folder)) == 1


def test_torn_and_foreign_lines_are_left_out(folder):
    folder.event_log.write_bytes(
        b"2026-01-31 18:00:00 saved step 4 of 8\n2026-99-31 18:00:00 x\n\xff\n2026-01-3"
    )
    assert [event.step for event in events.read(folder)] == [4]


def test_no_log_no_events(folder):
    assert events.read(folder) == []
