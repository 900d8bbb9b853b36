"""hf/step_<n>: the one-box engine's copy, NeMo-RL's converters by a stand-in, the conversion cache."""

import json
import os
import shutil
import stat
import subprocess
import sys

import pytest

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.models import base_model, convert, passport, rope
from omr.run import checkpoints
from omr.settings import ROOT
from omr.workspace import Workspace
from tests.models.kit import no_download

A, B, C, D = recipe.run("tiny", 1).schedule.averaged


def test_the_copy(trained):
    workspace, run = trained
    folder = workspace.run(run)
    for step in run.schedule.averaged:
        made = manifest.read(folder.hf_step(step))
        assert made["files"] == manifest.entries(folder.hf_step(step)), "every file, by its hash"
        assert "optimizer.pt" not in made["files"] and checkpoints.FORMATS["trl"].listing not in made["files"]
        source, copy = folder.checkpoint(step), folder.hf_step(step)
        assert (source / "model.safetensors").read_bytes() == (copy / "model.safetensors").read_bytes()
        assert rope.places(rope.parse(copy / "config.json")) == {
            "max_position_embeddings": 131072,
            "rope_theta": 500000.0,
            "rope_parameters.rope_theta": 500000.0,
        }
    assert convert.from_trl(run, workspace) == [], "a second time there is nothing to do"
    shutil.rmtree(folder.checkpoint(A))
    assert convert.from_trl(run, workspace) == [], "a pruned checkpoint is not missed"
    shutil.rmtree(folder.hf_step(B))
    (folder.hf / f".step_{B}.tmp").mkdir()
    (folder.hf / f".step_{B}.tmp/model.safetensors").write_bytes(b"half")
    assert convert.from_trl(run, workspace) == [folder.hf_step(B)]
    assert sorted(p.name for p in folder.hf.glob("*/")) == sorted(f"step_{n}" for n in (A, B, C, D))


def absent(folder):
    shutil.rmtree(folder.checkpoint(B))


def renamed(word):
    return lambda folder: folder.checkpoint(B).rename(folder.checkpoints / f"{word}_step_{B}")


def cut(folder):
    path = folder.checkpoint(B) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


FAULTS = [
    (absent, f"step_{B}: is missing (there: step_{A}, step_{C} and step_{D}); train on until step {B} first"),
    (renamed("tmp"), f"only tmp_step_{B} is there, which was still being saved"),
    (renamed("old"), f"only old_step_{B} is there, which was being replaced"),
    (cut, f"step_{B}: is damaged (model.safetensors has"),
]


@pytest.mark.parametrize(("plant", "line"), FAULTS)
def test_a_checkpoint_that_is_refused(trained, plant, line):
    workspace, run = trained
    folder = workspace.run(run)
    shutil.rmtree(folder.hf)
    plant(folder)
    with pytest.raises(OmrError) as error:
        convert.from_trl(run, workspace)
    assert line in str(error.value)
    assert not folder.hf_step(B).exists()


def test_a_checkpoint_trained_with_another_rope(trained):
    workspace, run = trained
    folder = workspace.run(run)
    shutil.rmtree(folder.hf)
    path = folder.checkpoint(B) / "config.json"
    path.write_text(path.read_text().replace("500000.0", "10000.0"))
    listed = json.loads((folder.checkpoint(B) / checkpoints.FORMATS["trl"].listing).read_text())
    listed["files"]["config.json"] = {"size": path.stat().st_size, "sha256": files.sha256(path)}
    (folder.checkpoint(B) / checkpoints.FORMATS["trl"].listing).write_text(json.dumps(listed))
    with pytest.raises(OmrError, match=r"rope_theta is 10000\.0, the recipe says 500000\.0"):
        convert.from_trl(run, workspace)
    assert not folder.hf_step(B).exists()


# Behaves as NeMo-RL v0.6.0's converter does: refuses an output that exists, reads the base that the
# checkpoint names, re-saves its config as transformers 5 does, writes safetensors.
STAND_IN = """#!{python}
import json, os, shutil, sys
from pathlib import Path
import yaml
words = sys.argv[1:]
assert words[0] == "run" and os.getcwd() == os.environ["NEMO_RL"], (words, os.getcwd())
value = lambda name: Path(words[words.index(name) + 1])
out = value("--hf-ckpt-path")
if out.exists():
    sys.exit("FileExistsError: HF checkpoint already exists")
base = Path(yaml.safe_load(value("--config").read_text())["policy"]["model_name"])
out.mkdir(parents=True)
if os.environ.get("STAND_IN") == "dies":
    (out / "model.safetensors").write_bytes(b"half")
    sys.exit(3)
config = json.loads((base / "config.json").read_text())
config["rope_parameters"] = {{"rope_type": "default", "rope_theta": config.pop("rope_theta")}}
if os.environ.get("STAND_IN") == "loses rope":
    config["rope_parameters"]["rope_theta"] = 10000.0
config["dtype"] = config.pop("torch_dtype")
(out / "config.json").write_text(json.dumps(config))
for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
    shutil.copyfile(base / name, out / name)
assert words[1:4] == ["--extra", "mcore", "python"] and "convert_megatron_to_hf.py" in words[4], words
assert (value("--megatron-ckpt-path") / ".metadata").exists()
shutil.copyfile(base / "model.safetensors", out / "model.safetensors")
"""


@pytest.fixture
def nemo(trained, tmp_path, monkeypatch):
    """The trained run, its checkpoints as NeMo-RL writes them, and the stand-in as `uv`."""
    workspace, run = trained
    folder = workspace.run(run)
    shutil.rmtree(folder.hf)
    shutil.rmtree(folder.checkpoints)
    for step in run.schedule.averaged:
        checkpoint(folder, step, workspace.model("tiny"))
    tools, home = tmp_path / "tools", tmp_path / "nemo-rl"
    tools.mkdir()
    home.mkdir()
    uv = tools / "uv"
    uv.write_text(STAND_IN.format(python=sys.executable))
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("NEMO_RL", str(home))
    return workspace, run


def checkpoint(folder, step, base, backend="megatron"):
    source = folder.checkpoint(step)
    weights = source / "policy/weights" / ("iter_0000000" if backend == "megatron" else "")
    weights.mkdir(parents=True)
    (weights / ".metadata").write_text("x")
    (weights / "__0_0.distcp").write_bytes(bytes([step % 256]) * 100)
    (source / "config.yaml").write_text(f"policy:\n  model_name: {base}\n")
    (source / "training_info.json").write_text("{}")
    checkpoints.seal(source)


def test_megatron(nemo):
    workspace, run = nemo
    folder = workspace.run(run)
    assert convert.from_nemo_rl(run, workspace, B) is True
    assert convert.from_nemo_rl(run, workspace, B) is False
    config = rope.parse(folder.hf_step(B) / "config.json")
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 500000.0
    assert [p.name for p in folder.hf.glob("*/")] == [f"step_{B}"], "the wanted step alone"
    faults = passport.faults(
        folder.hf_step(B), run.model, "step", passport.Station("tiny", passport.read(workspace.model("tiny")))
    )[1]
    assert faults == []


def test_a_checkpoint_of_dtensor_is_refused(nemo):
    """The pinned NeMo-RL saves safetensors there, and its own converter refuses them."""
    workspace, run = nemo
    folder = workspace.run(run)
    shutil.rmtree(folder.checkpoint(B))
    checkpoint(folder, B, workspace.model("tiny"), "dtensor")
    with pytest.raises(OmrError, match=f"step_{B}: is no checkpoint of Megatron"):
        convert.from_nemo_rl(run, workspace, B)
    assert not folder.hf_step(B).exists()


def test_a_half_written_output_is_replaced(nemo, monkeypatch):
    workspace, run = nemo
    folder = workspace.run(run)
    monkeypatch.setenv("STAND_IN", "dies")
    with pytest.raises(OmrError, match=r"the converter failed \(exit code 3"):
        convert.from_nemo_rl(run, workspace, B)
    assert not folder.hf_step(B).exists()
    (folder.hf_step(B)).mkdir(parents=True)  # as a bare call of the converter leaves it when it is killed
    (folder.hf_step(B) / "model.safetensors").write_bytes(b"half")
    monkeypatch.delenv("STAND_IN")
    assert convert.from_nemo_rl(run, workspace, B) is True
    assert manifest.read(folder.hf_step(B)) is not None


def test_a_converter_that_loses_the_rope_is_noticed(nemo, monkeypatch):
    workspace, run = nemo
    monkeypatch.setenv("STAND_IN", "loses rope")
    with pytest.raises(OmrError, match=r"rope_theta is 10000\.0, the recipe says 500000\.0"):
        convert.from_nemo_rl(run, workspace, B)
    assert not workspace.run(run).hf_step(B).exists()


def unpatch(workspace, folder):
    config = workspace.model("tiny") / "config.json"
    config.write_text(config.read_text().replace("500000.0", "10000"))


NEMO_FAULTS = [
    (lambda w, f: shutil.rmtree(f.checkpoint(B)), "is missing (there: "),
    (lambda w, f: f.checkpoint(B).rename(f.checkpoints / f"tmp_step_{B}"), "was still being saved"),
    (
        lambda w, f: (f.checkpoint(B) / "policy/weights/iter_0000000/__0_0.distcp").unlink(),
        "is damaged (policy/weights",
    ),
    (
        lambda w, f: shutil.rmtree(w.model("tiny")),
        "is gone, and the converter reads config and tokenizer there",
    ),
    (unpatch, "rope_theta is 10000, tiny needs 500000.0"),
]


@pytest.mark.parametrize(("plant", "line"), NEMO_FAULTS)
def test_a_nemo_rl_checkpoint_that_is_refused(nemo, plant, line):
    workspace, run = nemo
    plant(workspace, workspace.run(run))
    with pytest.raises(OmrError) as error:
        convert.from_nemo_rl(run, workspace, B)
    assert line in str(error.value)
    assert not workspace.run(run).hf_step(B).exists()


def test_only_averaged_steps(nemo):
    workspace, run = nemo
    with pytest.raises(
        RequestError, match=f"step {A + 1} of tiny round1 is not averaged; choose {A}, {B}, {C} or {D}"
    ):
        convert.from_nemo_rl(run, workspace, A + 1)


@pytest.mark.slow
def test_the_script(nemo):
    workspace, run = nemo

    def script(*words):
        env = {
            **os.environ,
            "WORKSPACE": str(workspace.root),
            "OMR_ENV_FILE": os.devnull,
            "ENGINE": "nemo-rl",
        }
        command = [sys.executable, str(ROOT / "bin/convert.py"), "--model", "tiny", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout

    folder = workspace.run(run)
    code, out = script("--step", str(C), "--dry-run")
    assert code == 0 and not folder.hf.exists()
    assert out == (
        f"cd {os.environ['NEMO_RL']} && uv run --extra mcore python"
        " examples/converters/convert_megatron_to_hf.py"
        f" --config {folder.checkpoint(C)}/config.yaml --hf-ckpt-path {folder.hf_step(C)}"
        f" --megatron-ckpt-path {folder.checkpoint(C)}/policy/weights/iter_0000000\n"
    )
    assert script("--step", str(C)) == (0, f"{folder.hf_step(C)}\n")
    assert script() == (
        0,
        "".join(f"{folder.hf_step(n)}{' (finished already)' if n == C else ''}\n" for n in (A, B, C, D)),
    )


def test_the_conversion_cache_is_keyed_by_content(tmp_path):
    """The same path with another patch or other weights is another folder; other notes are not."""
    workspace = Workspace(tmp_path)
    base = workspace.model("tiny")
    base_model.make(recipe.model("tiny"), workspace, no_download)

    def key(**changed):
        made = manifest.read(base)
        made["files"] |= {name: {"size": 1, "sha256": digest} for name, digest in changed.items()}
        (base / "manifest.json").write_text(json.dumps(made))
        return convert.cache(workspace, base)

    first = key()
    assert first.parent == tmp_path / "cache/megatron" and key() == first
    assert key(**{"README.md": "x"}) == first
    keys = [
        first,
        key(**{"config.json": "x"}),
        key(**{"model.safetensors": "x"}),
        key(**{"model.safetensors.index.json": "x"}),
    ]
    assert len(set(keys)) == 4
    with pytest.raises(RequestError, match="is not a finished model"):
        convert.cache(workspace, tmp_path)
