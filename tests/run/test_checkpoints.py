"""Checkpoints as folders: what counts as whole, and what mending leaves. No torch here."""

import json

import pytest

from omr import recipe
from omr.files import write_json
from omr.run import checkpoints, lease
from omr.run.checkpoints import Checkpoints
from omr.workspace import RunFolder

REQUEST = {"recipe": {"schedule": {"steps": 8, "averaged": [2, 4, 6, 8]}}, "engine": "trl"}
LIST = "complete.json"
RUN = recipe.run("tiny", steps=8, name="x")  # averages 2, 4, 6, 8
IDENTITY = checkpoints.run_identity(REQUEST)


@pytest.fixture
def run(tmp_path):
    write_json(tmp_path / "run.json", {"request": REQUEST})
    return tmp_path / "checkpoints"


def save(folder, step, identity=IDENTITY, content="weights"):
    with checkpoints.saving(folder, step, identity) as aside:
        assert aside.name == f"tmp_step_{step}"
        (aside / "model.safetensors").write_text(f"{content} {step}")
        (aside / "optimizer.pt").write_text(f"state {step}")


def saved(folder):
    return Checkpoints(RunFolder(folder.parent), "trl")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_checkpoint_is_whole_and_its_list_names_every_part(run):
    save(run, 2)
    assert names(run) == ["step_2"]
    listed = json.loads((run / "step_2" / LIST).read_text())
    assert listed["run"] == IDENTITY
    assert listed["step"] == 2
    assert listed["files"]["optimizer.pt"]["size"] == 7
    assert set(listed["files"]) == {"model.safetensors", "optimizer.pt"}
    assert saved(run).whole() == [2]


def test_a_save_that_fails_leaves_what_was_there(run):
    save(run, 2)
    with pytest.raises(ZeroDivisionError), checkpoints.saving(run, 2, IDENTITY) as aside:
        (aside / "model.safetensors").write_text("half")
        raise ZeroDivisionError
    assert names(run) == ["step_2"]
    assert checkpoints.damage(run / "step_2", "trl") is None


def test_saving_again_replaces(run):
    save(run, 2)
    save(run, 2, content="newer")
    assert (run / "step_2" / "model.safetensors").read_text() == "newer 2"
    assert names(run) == ["step_2"]


def test_a_lost_lease_stops_a_save_and_touches_nothing(run, monkeypatch, tmp_path):
    save(run, 2)
    held = tmp_path / "lease"
    held.mkdir()
    (held / "1").write_text("{}")
    monkeypatch.setenv(lease.VARIABLE, str(held / "1"))
    save(run, 4)
    (held / "2").write_text("{}")
    theirs = run / "tmp_step_6"
    theirs.mkdir()
    with pytest.raises(lease.Lost):
        save(run, 6)
    assert theirs.is_dir()
    assert saved(run).whole() == [2, 4]


def _rewrite(folder, **changes):
    path = folder / LIST
    write_json(path, {**json.loads(path.read_text()), **changes})


DAMAGE = [
    (lambda f: (f / LIST).unlink(), "complete.json is missing"),
    (lambda f: (f / LIST).write_text("{"), "complete.json is damaged"),
    (lambda f: (f / LIST).write_text("[]"), "complete.json is damaged"),
    (lambda f: (f / LIST).write_bytes(b"\xff"), "complete.json is damaged"),
    (lambda f: _rewrite(f, files=3), "complete.json is damaged"),
    (lambda f: _rewrite(f, step=6), "it is step 6 under another name"),
    (lambda f: _rewrite(f, run="other"), "it belongs to another run"),
    (lambda f: (f / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    (lambda f: (f / "optimizer.pt").write_text("stat"), "optimizer.pt has 4 bytes of 7"),
    (lambda f: (f / "optimizer.pt").write_text("State 4"), "optimizer.pt has other content than was saved"),
    (lambda f: (f / "scaler.pt").write_text("x"), "scaler.pt does not belong to it"),
]


@pytest.mark.parametrize(("spoil", "told"), DAMAGE, ids=[told for _, told in DAMAGE])
def test_damage_is_named_set_aside_and_the_one_before_is_left(run, spoil, told):
    save(run, 2)
    save(run, 4)
    spoil(run / "step_4")
    assert checkpoints.damage(run / "step_4", "trl") == told
    assert saved(run).whole() == [2]
    (line,) = saved(run).mend()
    assert line.startswith(f"step_4 is damaged ({told})")
    assert names(run) == ["damaged_step_4", "step_2"]
    assert saved(run).mend() == []


def test_mending_clears_what_a_kill_left(run):
    save(run, 2)
    save(run, 4)
    (run / "tmp_step_6").mkdir()
    (run / "tmp_step_6" / "model.safetensors").write_text("half")
    (run / "step_4").rename(run / "old_step_4")  # killed between the two renames of a replacement
    said = saved(run).mend()
    assert names(run) == ["step_2", "step_4"]
    assert len(said) == 2
    (run / "old_step_4").mkdir()  # killed after them
    assert saved(run).mend() == []
    assert names(run) == ["step_2", "step_4"]
    assert saved(run.parent / "nothing" / "checkpoints").mend() == []


def test_a_lost_averaged_step_sets_the_later_ones_aside(run):
    for step in (2, 4, 6, 8):
        save(run, step)
    assert saved(run).complete(RUN, saved(run).whole())
    (run / "step_4" / "optimizer.pt").unlink()
    assert not saved(run).complete(RUN, saved(run).whole())
    said = saved(run).mend()
    assert names(run) == ["damaged_step_4", "redo_step_6", "redo_step_8", "step_2"]
    assert any("step_4 has to be trained again: step_8 is set aside" in line for line in said)


def test_a_converted_step_counts_as_there(run):
    for step in (2, 4, 8):
        save(run, step)
    assert not saved(run).complete(RUN, saved(run).whole())
    converted = run.parent / "hf" / "step_6"
    converted.mkdir(parents=True)
    write_json(converted / "manifest.json", {})
    assert saved(run).complete(RUN, saved(run).whole())
    assert saved(run).mend() == []


def test_tidying_keeps_the_schedule_the_newest_two_and_drops_what_was_set_aside(run):
    for step in (1, 2, 3, 4, 5):
        save(run, step)
    for name in ("damaged_step_3", "redo_step_5", "redo_step_7"):
        (run / name).mkdir()
    assert saved(run).remove(checkpoints.steps(run), lambda step: step % 2 == 0) == [1, 3]
    saved(run).drop_set_aside()
    assert names(run) == ["redo_step_7", "step_2", "step_4", "step_5"]


def test_the_identity_follows_the_request():
    assert checkpoints.run_identity({"b": 1, "a": [2]}) == checkpoints.run_identity({"a": [2], "b": 1})
    assert checkpoints.run_identity({"a": 1}) != checkpoints.run_identity({"a": 2})
