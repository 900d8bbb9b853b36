"""Metrics that grow are read once; a file that was replaced is read anew."""

import json

from omr.reports.watch.follow import Follower


def row(step, **more):
    return json.dumps({"step": step, **more}) + "\n"


def test_only_what_is_new_is_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    follower = Follower(path)
    assert follower.look() == [] and follower.bytes_read == 0
    path.write_text(row(1, loss=2.0) + row(2, loss=1.0)[:9])
    assert [r["step"] for r in follower.look()] == [1]
    with path.open("a") as file:
        file.write(row(2, loss=1.0)[9:] + "no json\n" + row(3))
    assert [r["step"] for r in follower.look()] == [1, 2, 3]
    follower.look()
    assert follower.bytes_read == path.stat().st_size


def test_a_step_that_comes_again_counts_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(2, loss=2.0) + row(1) + row(2, loss=1.0))
    assert Follower(path).look() == [{"step": 1}, {"step": 2, "loss": 1.0}]


def test_a_file_that_a_resumed_training_wrote_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(row(1) + row(2) + row(3))
    follower = Follower(path)
    follower.look()
    (tmp_path / "aside").write_text(row(1))
    (tmp_path / "aside").replace(path)
    assert [r["step"] for r in follower.look()] == [1]
    path.write_text("")  # shortened where it stands
    assert follower.look() == []
