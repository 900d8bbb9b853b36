"""Curves over the steps and over time, and where what befell the training is drawn in them."""

import pytest

from omr.reports.run import page, training
from tests.reports import kit


@pytest.fixture
def folder(tmp_path):
    return kit.begin(tmp_path, steps=24)[1]


def figures(folder):
    found = page.look(folder)
    return training.section(found.began, found.rows, found.story, found.saved).figures


def write(folder, *rows):
    folder.metrics.write_text("".join(f"{row}\n".replace("'", '"') for row in rows))


def titles(figure):
    return [panel.title.split(" (")[0] for panel in figure.panels]


@pytest.mark.parametrize(
    ("row", "speed", "seconds"),
    [
        ({"tokens": 600, "tokens_per_second": 300}, 300, 2),  # the one-box engine
        ({"global_valid_toks": 600, "total_step_time": 3}, 200, 3),  # NeMo-RL
        ({"tokens": 600}, 60, 10),  # neither: the time since the step before
        ({}, None, 10),
    ],
)
def test_how_fast_a_step_was(folder, row, speed, seconds):
    rows = [{"step": n, "time": kit.NOON + 10 * n, **row} for n in range(1, 5)]
    found = training._speed(rows, page.look(folder).story)
    assert [y for _, y in found[0]] == [speed] * len(found[0]) and bool(found[0]) == bool(speed)
    assert {y for _, y in found[1]} == {seconds}


def test_a_wait_between_two_starts_is_no_step(folder):
    kit.log(folder, 0, "trains from the start, on this machine")
    kit.log(folder, 7000, "trains on from step 2, on this machine")
    times = {1: 10, 2: 20, 3: 7010, 4: 7020}
    rows = [{"step": n, "time": kit.NOON + at} for n, at in times.items()]
    write(folder, *rows)
    _, seconds = training._speed(rows, page.look(folder).story)
    assert seconds == [(2, 10), (4, 10)]


def test_starts_faults_and_curves_share_the_axis_of_steps(folder):
    kit.log(folder, 0, "link 1 of 2, job 7: trains from the start")
    kit.log(folder, 100, "link 2 of 2, job 8: trains on from step 6")
    kit.log(folder, 200, "link 2 of 2, job 8: the training is complete at step 24")
    write(folder, *({"step": n, "time": kit.NOON + 8 * n, "loss": 3.0, "lr": 0.1} for n in range(1, 25)))
    by_step, by_time = figures(folder)
    starts, *curves, checkpoints = by_step.panels
    assert titles(by_step)[1:] == ["Training loss", "Learning rate", "Seconds per step", "Checkpoints"]
    assert [(span.x, span.width) for span in starts.spans] == [(0, 0.25), (0.25, 0.75)]
    killed = next(mark for mark in starts.marks if mark.shape == "cross")
    assert killed.x == 0.25 and killed.text == "killed, step 6"
    for panel in (*curves, checkpoints):
        assert [rule.at for rule in panel.rules] == [0.25]
    assert titles(by_time) == ["Starts, and what befell them", "Step"]
    assert [key.text for key in by_step.keys] == ["resumed from a checkpoint: 1", "killed: 1"]


def test_numbers_that_are_none_are_left_out(folder):
    write(folder, *('{"step": %d, "loss": %s}' % (n, "NaN" if n == 3 else n) for n in range(1, 6)))  # noqa: UP031
    [curve] = [p for p in figures(folder)[0].panels if p.title.startswith("Training loss")]
    assert curve.curves[0].path.count(" ") == 7  # four points


def test_a_loss_that_fell_far_is_drawn_in_powers_of_ten(folder):
    write(folder, *({"step": n, "loss": 10 / n**2} for n in range(1, 25)))
    [loss] = [p for p in figures(folder)[0].panels if p.title.startswith("Training loss")]
    assert "powers of ten" in loss.title and [tick.text for tick in loss.y] == ["0.01", "0.1", "1", "10"]
