"""A final name means finished; a lock names its holder; a manifest knows what changed."""

import errno
import fcntl
import json
import os
import stat
import subprocess
import sys
import threading

import pytest

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run import checkpoints, frozen
from omr.settings import ROOT
from omr.workspace import Workspace, manifest_of


def test_writing_leaves_the_old_file_when_it_fails(tmp_path):
    path = tmp_path / "folder" / "value.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ZeroDivisionError), files.writing(path) as aside:
        aside.write_text("half")
        raise ZeroDivisionError
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(path.parent.iterdir()) == [path]


def test_building_replaces_a_whole_folder_or_nothing(tmp_path):
    folder = tmp_path / "model"
    for text in ("first", "second"):
        with files.building(folder) as aside:
            (aside / text).write_text(text)
    assert [p.name for p in folder.iterdir()] == ["second"]
    with pytest.raises(OSError), files.building(folder) as aside:
        (aside / "third").write_text("half")
        raise OSError(errno.ENOSPC, "disk full")
    assert [p.name for p in folder.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("umask, wanted", [(0o022, 0o644), (0o007, 0o660), (0o077, 0o600)])
@pytest.mark.parametrize("make", ["building", "install", "saving"])
def test_what_a_library_wrote_for_the_owner_alone_is_opened_as_the_umask_says(tmp_path, make, umask, wanted):
    before = os.umask(umask)
    try:
        final = tmp_path / "step_4"
        if make == "install":
            aside = tmp_path / "aside"
            aside.mkdir()
            private(aside)
            files.install(aside, final)
        else:
            made = files.building(final) if make == "building" else checkpoints.saving(tmp_path, 4, "run")
            with made as aside:
                private(aside)
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in final.rglob("*") if p.is_file()}
    assert modes.pop("tool", wanted | 0o100) == wanted | 0o100
    assert {"model.safetensors", "plain"} <= modes.keys() and set(modes.values()) == {wanted}


def private(folder):
    """Files as safetensors' rename leaves them, an executable, and one that is as open as it should be."""
    for name in ("model.safetensors", "tool"):
        (folder / name).touch()
        (folder / name).chmod(0o600 if name != "tool" else 0o700)
    (folder / "plain").touch()


KILLED = """
import os, sys
from pathlib import Path
from omr import files
sys.addaudithook(lambda event, args: event == "os.rename" and count())
left = [int(sys.argv[2])]
def count():
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
with files.building(Path(sys.argv[1])) as aside:
    (aside / "new").write_text("new")
"""


@pytest.mark.parametrize("renames, after", [(0, "old"), (1, "old"), (2, "new")])
def test_building_killed_between_its_renames_goes_on(tmp_path, renames, after):
    folder = tmp_path / "model"
    with files.building(folder) as aside:
        (aside / "old").write_text("old")
    command = [sys.executable, "-c", KILLED, str(folder), str(renames)]
    killed = subprocess.run(command, cwd=ROOT)
    assert (killed.returncode == -9) == (renames < 2)
    recovered = []
    with pytest.raises(ZeroDivisionError), files.building(folder):
        recovered = [p.name for p in folder.iterdir()]
        raise ZeroDivisionError
    assert recovered == [after]
    assert list(tmp_path.iterdir()) == [folder]


def test_whether_a_lock_is_held_is_told_without_taking_it(tmp_path):
    path = tmp_path / "lock"
    assert not files.is_locked(path) and not path.exists()
    with files.lock(path, "the data"):
        assert files.is_locked(path)
    assert path.exists() and not files.is_locked(path)


def test_a_lock_outlasts_the_question_whether_it_is_held(tmp_path):
    """is_locked takes it for an instant: a stage that begins just then is not refused."""
    path = tmp_path / "lock"
    path.touch()
    asking = path.open("rb")
    fcntl.flock(asking, fcntl.LOCK_SH)
    threading.Timer(0.02, asking.close).start()
    with files.lock(path, "the data"):
        pass


def test_lock_names_its_holder_and_ends_with_it(tmp_path):
    path = tmp_path / "lock"
    said = f"the data is being made by process {os.getpid()} on"
    with files.lock(path, "the data"), pytest.raises(OmrError, match=said), files.lock(path, "the data"):
        pass
    with files.lock(path, "the data"):
        pass


def test_disk_space(tmp_path):
    files.need_space(tmp_path / "not" / "there", 1, "a byte")
    with pytest.raises(OmrError, match=r"the moon needs 1000\.0 TB in "):
        files.need_space(tmp_path / "not" / "there", 10**15, "the moon")


@pytest.mark.parametrize(
    "size, text", [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (114.4e9, "114.4 GB"), (2e12, "2.0 TB")]
)
def test_human(size, text):
    assert files.human(size) == text


def test_damaged_json_is_named(tmp_path):
    for damage in ("{", "[]", ""):
        (tmp_path / "a.json").write_text(damage)
        with pytest.raises(OmrError, match=r"a\.json: is not whole JSON"):
            files.read_json(tmp_path / "a.json")


def test_finished(tmp_path):
    path = tmp_path / "out.jsonl"
    assert manifest.finished(path, {"seed": 0}) is None
    path.write_text("row\n")
    assert manifest.finished(path, {"seed": 0}) is None  # no manifest: not finished
    manifest.write(path, {"seed": 0}, sha256="abc")
    assert manifest_of(path).name == "out.manifest.json"
    assert manifest.finished(path, {"seed": 0})["sha256"] == "abc"
    with pytest.raises(RequestError, match="seed was 0, is 1; FORCE=1"):
        manifest.finished(path, {"seed": 1})
    assert manifest.finished(path, {"seed": 1}, force=True) is None
    path.unlink()
    assert manifest.finished(path, {"seed": 0}) is None


def test_request_says_what_is_missing_and_freeze_what_changed(tmp_path):
    workspace, first, second = Workspace(tmp_path), recipe.run("tiny"), recipe.run("tiny", 2, "paper")
    with pytest.raises(RequestError, match="run make model MODEL=tiny first"):
        frozen.inputs(TrainRequest.of(first), workspace)
    with pytest.raises(RequestError, match="run make train MODEL=tiny ROUND=1 first"):
        frozen.inputs(TrainRequest.of(second), workspace)
    for model in (workspace.model("tiny"), workspace.run(first).final):
        model.mkdir(parents=True)
        manifest.write(model, {}, files={"config.json": {"size": 2, "sha256": "00"}})
    with pytest.raises(RequestError, match="run make data DATASET=tiny ROUND=1 first"):
        frozen.inputs(TrainRequest.of(first), workspace)
    with pytest.raises(RequestError, match="run make data DATASET=tiny ROUND=2 VARIANT=paper first"):
        frozen.inputs(TrainRequest.of(second), workspace)
    data = frozen.data_of(first, workspace)
    data.parent.mkdir(parents=True)
    data.write_text("row\n")
    manifest.write(data, {}, sha256="11", size=4, rows=1)
    wanted = frozen.inputs(TrainRequest.of(first, gpus=0), workspace)
    folder = workspace.run(first)
    assert frozen.freeze(folder, wanted) == frozen.freeze(folder, wanted)
    manifest.write(data, {}, sha256="22", size=4, rows=1)
    with pytest.raises(
        RequestError, match=r"was started with another request: data\.sha256 was 11, is 22; ask"
    ):
        frozen.freeze(folder, frozen.inputs(TrainRequest.of(first, gpus=0), workspace))


def test_a_named_round_2_starts_from_its_own_round_1_where_there_is_one(tmp_path):
    workspace = Workspace(tmp_path)
    run = recipe.run("tiny", 2, steps=8, name="smoke")
    assert frozen.base_of(run, workspace) == tmp_path / "runs/tiny/round1/final"
    (tmp_path / "runs/tiny/round1-smoke/final").mkdir(parents=True)
    assert frozen.base_of(run, workspace) == tmp_path / "runs/tiny/round1-smoke/final"
