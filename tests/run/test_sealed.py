"""Checkpoints of an engine that lists nothing: sealed while tmp, proved and mended before they are used."""

import json
import os

import pytest

from omr.run import sealed


def checkpoint(folder, seal=True):
    weights = folder / "policy/weights/iter_0000000"
    weights.mkdir(parents=True)
    (weights / ".metadata").write_bytes(b"m" * 100)
    (weights / "__0_0.distcp").write_bytes(os.urandom(3 << 20))
    for name in ("training_info.json", "config.yaml", "train_dataloader.pt"):
        (folder / name).write_text(name)
    if seal:
        sealed.seal(folder)
    return folder


BIG, SMALL = "policy/weights/iter_0000000/__0_0.distcp", "train_dataloader.pt"


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        (BIG, lambda p: os.truncate(p, 1 << 20), "has 1048576 bytes of 3145728"),
        (BIG, lambda p: p.unlink(), "is missing"),
        (BIG, lambda p: p.write_bytes(b"x" * (3 << 20)), "has other content"),
        (SMALL, lambda p: p.write_text("train_dataloader.px"), "has other content"),
        (SMALL, lambda p: p.unlink(), "is missing"),
        (sealed.SEAL, lambda p: p.write_text("{"), "is damaged"),
        (sealed.SEAL, lambda p: p.write_text("[]"), "is damaged"),
    ],
)
def test_damage_is_named(tmp_path, name, harm, says):
    folder = checkpoint(tmp_path / "step_8")
    assert sealed.damage(folder) is None
    harm(folder / name)
    assert says in sealed.damage(folder)


@pytest.mark.parametrize("part", sealed.PARTS)
def test_without_a_seal_the_parts_must_be_there(tmp_path, part):
    folder = checkpoint(tmp_path / "step_8", seal=False)
    assert sealed.damage(folder) is None
    (folder / part).unlink()
    assert sealed.damage(folder) == f"{part} is missing"


def test_mend_leaves_the_newest_whole_one_as_the_highest(tmp_path):
    for name in ("step_4", "step_8", "tmp_step_12", "old_step_6", "old_step_4"):
        checkpoint(tmp_path / name)
    os.truncate(tmp_path / "step_8" / BIG, 5)
    (tmp_path / "damaged_step_8").mkdir()
    (tmp_path / "step_x").mkdir()
    said = sealed.mend(tmp_path)
    assert sealed.steps(tmp_path) == sealed.whole(tmp_path) == [4, 6]
    assert [line.split(" ")[0] for line in said] == ["step_6", "tmp_step_12", "step_8"]
    assert "the old one is back" in said[0] and "set aside as damaged_step_8" in said[2]
    assert not list(tmp_path.glob("old_*")) and not list(tmp_path.glob("tmp_*"))
    assert sealed.mend(tmp_path) == []
    assert sealed.mend(tmp_path / "nowhere") == []


def test_the_seal_lists_everything(tmp_path):
    folder = checkpoint(tmp_path / "step_8")
    listed = json.loads((folder / sealed.SEAL).read_text())["files"]
    assert set(listed) == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {
        sealed.SEAL
    }


def test_a_checkpoint_of_another_run_is_not_trained_on_from(tmp_path):
    """Round 1's last one in round 2's folder: training would be complete at once."""
    first, second = (tmp_path / name / "checkpoints" for name in ("round1", "round2"))
    for folder, steps in ((first, 30_000), (second, 3_000)):
        folder.mkdir(parents=True)
        (folder.parent / "run.json").write_text(json.dumps({"request": {"steps": steps}, "code": "x"}))
    checkpoint(second / "step_750")
    checkpoint(first / "step_30000").rename(second / "step_30000")
    assert sealed.damage(second / "step_30000") == "it belongs to another run"
    assert sealed.whole(second) == [750]
    said = sealed.mend(second)
    assert said == ["step_30000 is damaged (it belongs to another run): set aside as damaged_step_30000"]
    assert sealed.steps(second) == [750]
