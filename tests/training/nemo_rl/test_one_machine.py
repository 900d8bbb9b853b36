"""NeMo-RL on one machine: a session of the engine between what is made before it and what is made of it."""

import json
import sys

import pytest

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run.checkpoints import FORMATS
from omr.run.nemo_rl_version import PINNED_VERSION
from omr.training.nemo_rl import one_machine
from omr.workspace import Workspace

RUN = recipe.run("7b", steps=20, name="smoke")  # averages 5, 10, 15, 20
# In place of `uv run … driver.py --config FILE`: writes down how it was started, and saves steps.
ENGINE = f"""#!{sys.executable}
import json, os, sys, yaml
from pathlib import Path
config = Path(sys.argv[sys.argv.index("--config") + 1])
token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
seen = dict(argv=sys.argv[1:], cwd=os.getcwd(), token=token.read_text(), mode=oct(token.stat().st_mode)[-3:])
seen |= dict(data=os.environ["OMR_DATA"], stop=os.environ["OMR_STOP"], path=str(token))
Path(os.environ["SEEN"]).write_text(json.dumps(seen))
saves = Path(yaml.safe_load(config.read_text())["checkpointing"]["checkpoint_dir"])
for step in os.environ.get("SAVES", "").split():
    for part in os.environ["PARTS"].split():
        (saves / f"step_{{step}}" / part).parent.mkdir(parents=True, exist_ok=True)
        (saves / f"step_{{step}}" / part).touch()
sys.exit(int(os.environ.get("CODE", "0")))
"""


@pytest.fixture
def box(tmp_path, monkeypatch):
    """Base and data of 7b, NeMo-RL's folder, and an engine; `train()` is one command of the user's."""
    home = tmp_path / "nemo-rl"
    (home / "examples").mkdir(parents=True)
    (home / PINNED_VERSION.script).touch()
    tool = tmp_path / "bin" / "uv"
    tool.parent.mkdir()
    tool.write_text(ENGINE)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    monkeypatch.setenv("NEMO_RL", str(home))
    monkeypatch.setenv("SEEN", str(tmp_path / "seen.json"))
    monkeypatch.setenv("PARTS", " ".join(FORMATS["nemo-rl"].parts))
    monkeypatch.setenv("OMR_ENV_FILE", str(tmp_path / "env"))
    space = Workspace(tmp_path / "w")
    base, data = space.model("7b"), space.data("openmathreasoning", "round1")
    base.mkdir(parents=True)
    manifest.write(base, {}, files={"config.json": {"sha256": "0", "size": 1}})
    data.parent.mkdir()
    data.write_text(json.dumps({"input": "2+2?", "output": "4"}) + "\n")
    manifest.write(data, {}, sha256=files.sha256(data), size=data.stat().st_size, rows=10_000)
    monkeypatch.setattr(one_machine.prepared_data, "make", lambda *given: None)
    made = []
    monkeypatch.setattr(one_machine.convert, "from_nemo_rl", lambda run, space, step: made.append(step))
    monkeypatch.setattr(one_machine.average, "make", lambda run, space: made.append("mean"))

    def train(saves="", code=0, gpus=8):
        monkeypatch.setenv("SAVES", saves)
        monkeypatch.setenv("CODE", str(code))
        said = []
        reached = one_machine.train(TrainRequest.of(RUN, gpus=gpus), space, said.append)
        return reached, said

    train.prepared = one_machine.prepared_data.folder(space, files.sha256(data), None)
    train.folder, train.made, train.home, train.seen = space.run(RUN), made, home, tmp_path / "seen.json"
    return train


def test_it_goes_on_where_it_stood_and_ends_with_the_mean(box):
    assert box("5 7") == (7, ["training begins"]) and box.made == []
    assert box("10 15 20", code=1) == (20, ["training goes on from step 7"])
    assert box.made == [5, 10, 15, 20, "mean"]
    box.seen.unlink()
    assert box() == (20, []) and not box.seen.exists()  # complete: nothing is trained again


def test_how_the_engine_is_started(box):
    box("5")
    seen = json.loads(box.seen.read_text())
    driver = str(one_machine.DRIVER)
    assert seen["argv"] == [
        *("run", "--no-sync", "python", driver, "--config", str(box.folder.engine_yaml("nemo-rl")))
    ]
    assert seen["cwd"] == str(box.home) and seen["data"] == str(box.prepared)
    assert len(seen["token"]) == 64 and seen["mode"] == "600"
    assert not list(box.folder.root.glob(".ray-*")) and not list(box.folder.root.glob(".stop-*"))
    assert "num_nodes: 1\n" in box.folder.engine_yaml("nemo-rl").read_text()


def test_a_session_without_a_checkpoint_is_an_error(box):
    with pytest.raises(OmrError, match=r"left no new checkpoint \(exit code 3, see above\)"):
        box(code=3)
    box("5")
    with pytest.raises(OmrError, match="left no new checkpoint"):
        box()


def test_what_a_kill_left_is_mended_first(box):
    box("5")
    (box.folder.checkpoints / "tmp_step_9").mkdir()
    assert box("10")[1][0] == "tmp_step_9 was never finished: removed"


def test_without_gpus_or_nemo_rl_it_is_refused(box, monkeypatch, tmp_path):
    with pytest.raises(RequestError, match="NeMo-RL needs GPUs, and none is visible"):
        box(gpus=0)
    monkeypatch.setenv("NEMO_RL", str(tmp_path / "elsewhere"))
    with pytest.raises(RequestError, match=r"not on this machine \(.*elsewhere\); choose RUNNER=slurm"):
        box()
