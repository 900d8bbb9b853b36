"""A trained run without the training: a tiny base, its four checkpoints, and rows that it was trained on."""

import json
import shutil
import struct
import time

import pytest

from omr import files, manifest, recipe
from omr.models import base_model, convert
from omr.request import TrainRequest
from omr.run import checkpoints, frozen
from omr.tiny import model as tiny_model
from omr.workspace import Workspace

HEAD = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n"
TAIL = "<|im_end|>\n<|im_start|>assistant\n"


def no_download(*_, **__):
    raise AssertionError("nothing may be downloaded")


def at_once(call):
    """What `call` returns; it must take less than a second, on a busy machine in one of three tries."""
    seconds = []
    for _ in range(3):
        begin = time.monotonic()
        result = call()
        seconds.append(time.monotonic() - begin)
        if seconds[-1] < 1:
            return result
    raise AssertionError(f"took {seconds} seconds")


def edit(name, **keys):
    """Set keys of a JSON file in a folder; None removes one."""

    def plant(folder):
        path = folder / name
        value = {**json.loads(path.read_text()), **keys}
        path.write_text(json.dumps({k: v for k, v in value.items() if v is not None}))

    return plant


def write_shard(path, tensors):
    """A safetensors file of name -> (dtype, shape, bytes), in that order."""
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def save(folder, seed, base):
    """A checkpoint of the one-box engine: the base's side files, other weights, the trainer's own state."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    for path in base.iterdir():
        if path.name not in ("manifest.json", "model.safetensors"):
            shutil.copyfile(path, folder / path.name)
    save_file(tiny_model.random_weights(seed), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "optimizer.pt").write_bytes(b"state")
    (folder / "trainer_state.json").write_text("{}")


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """Workspace and run: base made and patched, data of three rows a split, four checkpoints, run.json."""
    workspace = Workspace(tmp_path_factory.mktemp("workspace"))
    run = recipe.run("tiny", 1)
    base_model.make(run.model, workspace, no_download)
    data = workspace.data("tiny", "round1")
    data.parent.mkdir()
    rows = [
        {
            "inference_mode": split,
            "input": f"{HEAD}What is {n}+{n}?\n{split} ü\u2028{TAIL}",
            "output": f"{2 * n}<|im_end|>\n",
        }
        for n in range(4)
        for split in recipe.SPLITS
    ]
    data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    facts = {"sha256": files.sha256(data), "size": data.stat().st_size, "rows": len(rows)}
    manifest.write(data, {"modes": list(recipe.SPLITS)}, **facts)
    folder = workspace.run(run)
    folder.root.mkdir(parents=True)
    frozen.freeze(folder, frozen.inputs(TrainRequest.of(run), workspace))
    identity = checkpoints.run_identity(files.read_json(folder.run_json)["request"])
    for step in run.schedule.averaged:
        with checkpoints.saving(folder.checkpoints, step, identity) as aside:
            save(aside, step, workspace.model("tiny"))
    convert.from_trl(run, workspace)
    return workspace, run


@pytest.fixture
def trained(trained_once, tmp_path):
    """A copy of `trained_once` to plant faults in."""
    workspace, run = trained_once
    shutil.copytree(workspace.root, tmp_path / "workspace")
    copy = Workspace(tmp_path / "workspace")
    frozen = copy.run(run).run_json
    frozen.write_text(frozen.read_text().replace(str(workspace.root), str(copy.root)))
    # The checkpoints name the run they belong to, and its paths are part of that.
    identity = checkpoints.run_identity(files.read_json(frozen)["request"])
    for path in copy.run(run).checkpoints.glob("*/complete.json"):
        files.write_json(path, {**files.read_json(path), "run": identity})
    return copy, run
