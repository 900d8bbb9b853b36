"""What the event log tells of a training: its starts, and what befell them."""

import pytest

from omr.reports.run import chain
from omr.run import events
from omr.workspace import RunFolder
from tests.reports.kit import NOON, log

FIRST, SECOND = "link 1 of 3, job 7", "link 2 of 3, job 8"


def story(tmp_path, *lines, rows=()):
    """Of lines that are an hour apart."""
    folder = RunFolder(tmp_path)
    for hour, line in enumerate(lines):
        log(folder, 3600 * hour, line)
    return chain.story(events.read(folder), rows)


def told(found):
    return [(h.kind, h.step) for h in found.happenings]


@pytest.mark.parametrize(
    ("lines", "starts", "happenings"),
    [
        ([f"{FIRST}: trains from the start"], [(0, None)], []),
        ([f"{FIRST}: trains from the start", f"{FIRST}: the training is complete at step 24"], [(0, 24)], []),
        (
            [
                f"{FIRST}: trains from the start",
                f"{FIRST}: the allocation ends in 600 s: saves and stops",
                f"{FIRST}: saved step 9 of 24",
                f"{SECOND}: trains on from step 9",
            ],
            [(0, 9), (9, None)],
            [("deadline", 9), ("resumed", 9)],
        ),
        (
            [
                f"{FIRST}: trains from the start",
                f"{SECOND}: job 7 ended without recording a result (killed, or its node was lost)",
                f"{SECOND}: trains on from step 8",
                f"{SECOND}: Slurm ends this job: saves and stops",
                f"{SECOND}: saved step 11 of 24",
            ],
            [(0, 8), (8, 11)],
            [("killed", 8), ("resumed", 8), ("asked", 11)],
        ),
        (
            [f"{FIRST}: trains from the start", f"{FIRST}, start 2: trains on from step 4"],
            [(0, 4), (4, None)],
            [("killed", 4), ("requeued", 4), ("resumed", 4)],
        ),
        (
            [
                f"{FIRST}: trains from the start",
                f"{FIRST}: no step for 60 minutes: the engine is ended",
                f"{FIRST}: left no new checkpoint; the engine ended with -15: x; see y",
                f"{SECOND}: 2 links in a row left no new checkpoint; the rest of the chain is cancelled",
            ],
            [(0, 0)],
            [("hung", 0), ("failed", 0), ("stopped", 0)],
        ),
        (
            [
                f"{FIRST}: refused: the data changed; the rest of the chain is cancelled",
                "cancelled by make cancel: 8",
            ],
            [],
            [("refused", 0), ("cancelled", 0)],
        ),
        (
            ["trains from the start, on this machine", "trains on from step 20, on this machine"],
            [(0, 20), (20, None)],
            [("killed", 20), ("resumed", 20)],
        ),
    ],
)
def test_what_a_log_tells(tmp_path, lines, starts, happenings):
    found = story(tmp_path, *lines)
    assert [(s.start, s.reached) for s in found.stretches] == starts
    assert told(found) == happenings


def test_a_killed_start_ends_with_its_last_sign(tmp_path):
    """The next link notices a kill when it begins, perhaps hours later."""
    rows = [{"step": n, "time": NOON + 60 * n} for n in range(1, 6)]
    found = story(tmp_path, f"{FIRST}: trains from the start", f"{SECOND}: trains on from step 4", rows=rows)
    [first, second] = found.stretches
    assert first.ended == NOON + 300 and second.ended is None
    assert found.happenings[0].event.time == NOON + 300


def test_every_kind_of_fault_has_words_and_a_shape_of_its_own():
    shapes = [kind.shape for kind in chain.KINDS.values()]
    assert len(set(shapes)) == len(shapes) and all(kind.words for kind in chain.KINDS.values())
    assert set(chain.KINDS) - {"resumed", "requeued"} <= set(events.KINDS)
