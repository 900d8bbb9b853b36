"""Checkpoints of an engine that lists nothing: sealed while tmp, proved and mended before they are used."""

import json
import os

import pytest

from omr.run import checkpoints
from omr.run.checkpoints import Checkpoints
from omr.workspace import RunFolder

SEAL = "omr_seal.json"


def nemo_rl(folder):
    return Checkpoints(RunFolder(folder.parent), "nemo-rl")


def checkpoint(folder, seal=True):
    weights = folder / "policy/weights/iter_0000000"
    weights.mkdir(parents=True)
    (weights / ".metadata").write_bytes(b"m" * 100)
    (weights / "__0_0.distcp").write_bytes(os.urandom(3 << 20))
    for name in ("training_info.json", "config.yaml", "train_dataloader.pt"):
        (folder / name).write_text(name)
    if seal:
        checkpoints.seal(folder)
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
        (SEAL, lambda p: p.write_text("{"), "is damaged"),
        (SEAL, lambda p: p.write_text("[]"), "is damaged"),
    ],
)
def test_damage_is_named(tmp_path, name, harm, says):
    folder = checkpoint(tmp_path / "step_8")
    assert checkpoints.damage(folder, "nemo-rl") is None
    checkpoints._digest.cache_clear()  # two writes of one millisecond may have one time
    harm(folder / name)
    assert says in checkpoints.damage(folder, "nemo-rl")


@pytest.mark.parametrize("part", checkpoints.FORMATS["nemo-rl"].parts)
def test_without_a_seal_the_parts_must_be_there(tmp_path, part):
    folder = checkpoint(tmp_path / "step_8", seal=False)
    assert checkpoints.damage(folder, "nemo-rl") is None
    (folder / part).unlink()
    assert checkpoints.damage(folder, "nemo-rl") == f"{part} is missing"


def test_mend_leaves_the_newest_whole_one_as_the_highest(tmp_path):
    room = tmp_path / "checkpoints"
    for name in ("step_4", "step_8", "tmp_step_12", "old_step_6", "old_step_4"):
        checkpoint(room / name)
    os.truncate(room / "step_8" / BIG, 5)
    (room / "damaged_step_8").mkdir()
    (room / "step_x").mkdir()
    said = nemo_rl(room).mend()
    assert checkpoints.steps(room) == nemo_rl(room).whole() == [4, 6]
    assert [line.split(" ")[0] for line in said] == ["step_6", "tmp_step_12", "step_8"]
    assert "the old one is back" in said[0] and "set aside as damaged_step_8" in said[2]
    assert not list(room.glob("old_*")) and not list(room.glob("tmp_*"))
    assert nemo_rl(room).mend() == []
    assert nemo_rl(room / "nowhere").mend() == []


def test_the_seal_lists_everything(tmp_path):
    folder = checkpoint(tmp_path / "step_8")
    listed = json.loads((folder / SEAL).read_text())["files"]
    assert set(listed) == {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} - {SEAL}


def test_a_checkpoint_of_another_run_is_not_trained_on_from(tmp_path):
    """Round 1's last one in round 2's folder: training would be complete at once."""
    first, second = (tmp_path / name / "checkpoints" for name in ("round1", "round2"))
    for folder, steps in ((first, 30_000), (second, 3_000)):
        folder.mkdir(parents=True)
        (folder.parent / "run.json").write_text(json.dumps({"request": {"steps": steps}, "code": "x"}))
    checkpoint(second / "step_750")
    checkpoint(first / "step_30000").rename(second / "step_30000")
    assert checkpoints.damage(second / "step_30000", "nemo-rl") == "it belongs to another run"
    assert nemo_rl(second).whole() == [750]
    said = nemo_rl(second).mend()
    assert said == ["step_30000 is damaged (it belongs to another run): set aside as damaged_step_30000"]
    assert checkpoints.steps(second) == [750]
