"""A run goes on with the code that it began with: what make train does in a checkout that has moved on."""

import json
import os
import subprocess
import sys

import pytest

from omr import recipe, settings
from omr.cluster import frozen_code
from omr.errors import OmrError, RequestError
from omr.run import frozen, snapshot
from omr.workspace import RunFolder
from tests.training import kit


@pytest.fixture
def folder(tmp_path):
    """A run that began with the code of this checkout, which it keeps."""
    folder, _ = kit.freeze(kit.write_inputs(tmp_path / "ws", list(kit.sft_rows(8))), recipe.run("micro"))
    snapshot.keep(folder.root)
    return folder


def said_by(call, *args):
    lines = []
    call(*args, lines.append)
    return lines


def moved_on(folder, monkeypatch, tmp_path):
    """Pretend that the checkout is another folder, in which a file has changed since the run began."""
    checkout = snapshot.keep(tmp_path / "checkout")
    (checkout / "omr/cli.py").chmod(0o644)
    (checkout / "omr/cli.py").write_text("raise SystemExit('the new code')\n")
    monkeypatch.setattr(settings, "ROOT", checkout)
    return checkout


def test_nothing_happens_where_the_code_is_the_same(folder, monkeypatch):
    monkeypatch.setattr(os, "execve", None)
    assert said_by(frozen_code.become, folder, False) == []
    assert said_by(frozen_code.become, RunFolder(folder.root / "none"), False) == []
    frozen_code.check(folder)


def test_a_checkout_that_moved_on_becomes_the_run_s_own_code(folder, monkeypatch, tmp_path):
    checkout = moved_on(folder, monkeypatch, tmp_path)
    began = []
    monkeypatch.setattr(os, "execve", lambda *words: began.append(words))
    monkeypatch.setattr(sys, "argv", [str(checkout / "bin/train.py"), "--model", "$(touch x)"])
    [line] = said_by(frozen_code.become, folder, False)
    assert line.startswith(
        "note: omr/cli.py of the toolkit differ since the run began; it goes on with its own"
    )
    [(python, argv, env)] = began
    kept = snapshot.home(folder.root, frozen.read(folder).code_id)
    assert argv == [python, str(kept / "bin/train.py"), "--model", "$(touch x)"] and python == sys.executable
    assert (env["PYTHONPATH"], env["OMR_VENV"]) == (str(kept), str(checkout / ".venv"))
    assert env["OMR_ENV_FILE"] == str(settings.env_file())
    with pytest.raises(OmrError, match=r"is not the code that the run began with .* RECODE=1"):
        frozen_code.check(folder)


def test_a_run_of_a_version_that_this_one_cannot_read_goes_on_with_its_own(folder, monkeypatch, tmp_path):
    values = json.loads(folder.run_json.read_text())
    values["request"]["recipe"]["model"]["of_another_version"] = 1
    folder.run_json.write_text(json.dumps(values))
    with pytest.raises(OmrError, match="of_another_version"):
        frozen.read(folder)
    checkout, began = moved_on(folder, monkeypatch, tmp_path), []
    monkeypatch.setattr(os, "execve", lambda *words: began.append(words))
    monkeypatch.setattr(sys, "argv", [str(checkout / "bin/train.py")])
    said_by(frozen_code.become, folder, False)
    assert len(began) == 1


def test_a_run_of_the_other_launcher_is_left_to_who_refuses_it(folder, monkeypatch, tmp_path):
    moved_on(folder, monkeypatch, tmp_path)
    monkeypatch.setattr(os, "execve", None)
    (folder.root / "ns").mkdir()
    (folder.root / "ns" / "slurm.yaml").touch()
    assert said_by(frozen_code.become, folder, False) == []


@pytest.mark.slow
def test_recode_takes_the_code_of_now(folder, monkeypatch, tmp_path):
    moved_on(folder, monkeypatch, tmp_path)
    before = json.loads(folder.run_json.read_text())
    monkeypatch.setattr(os, "execve", None)
    assert said_by(frozen_code.become, folder, True) == []
    kept, lines = None, []
    kept = frozen_code.keep(folder, lines.append)
    now = json.loads(folder.run_json.read_text())
    assert (
        now["request"] == before["request"] and now["code_id"] == snapshot.code_id(kept) != before["code_id"]
    )
    assert len(lines) == 1 and "omr/cli.py of the toolkit differ" in lines[0]
    assert "the code is" in folder.event_log.read_text()
    frozen_code.check(folder)
    assert said_by(frozen_code.keep, folder) == []


@pytest.mark.parametrize("harm", ["gone", "altered"])
def test_a_copy_that_is_not_there_is_refused(folder, monkeypatch, tmp_path, harm):
    moved_on(folder, monkeypatch, tmp_path)
    kept = snapshot.home(folder.root, frozen.read(folder).code_id)
    if harm == "gone":
        kept.rename(tmp_path / "gone")
    else:
        (kept / "bin/train.py").chmod(0o644)
        (kept / "bin/train.py").write_text("")
    with pytest.raises(RequestError, match=r"is gone or altered; RECODE=1 goes on with this code"):
        frozen_code.become(folder, False, print)


def test_a_run_from_before_codes_were_kept_gets_one(folder):
    values = json.loads(folder.run_json.read_text())
    del values["code_id"]
    folder.run_json.write_text(json.dumps(values))
    assert frozen.read(folder).code_id == ""
    assert len(said_by(frozen_code.keep, folder)) == 1
    assert frozen.read(folder).code_id == snapshot.code_id()


def test_the_kept_code_runs_from_where_it_lies(folder):
    """Its scripts find their own package, and not this checkout's."""
    kept = snapshot.home(folder.root, snapshot.code_id())
    code = "import omr.cli, omr.settings; print(omr.settings.ROOT, omr.cli.__file__)"
    env = os.environ | frozen_code.environment(kept, "r1")
    done = subprocess.run([sys.executable, "-P", "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.split() == [str(kept), str(kept / "omr/cli.py")], done.stderr


def test_one_machine_goes_on_and_says_so(folder, monkeypatch, tmp_path, capsys):
    began = frozen.read(folder)
    frozen.note_other_code(folder, began)
    assert not folder.event_log.exists()
    moved_on(folder, monkeypatch, tmp_path)
    frozen.note_other_code(folder, began)
    assert "goes on with another state of this toolkit" in folder.event_log.read_text()
    assert capsys.readouterr().err.startswith("note: goes on with another state")
