#!/usr/bin/env python3
"""Averaging four checkpoints: ours, a plain torch loop, and (given its checkout) NeMo-Skills' own script.

    .venv/bin/python bench/average.py [--size 0.67] [--rounds 3] [--upstream FOLDER]

Each runs as a process of its own on the same four bf16 checkpoints, in turn, `rounds` times; the table has
medians of wall and processor seconds and of peak memory. FOLDER is a checkout of NeMo-Skills.
"""

import hashlib
import json
import os
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.measure import Case, Place  # noqa: E402

LEAST = 0.3  # GB: of a checkpoint with a vocabulary as large as Qwen2.5's
STEPS = (1000, 2000, 3000, 4000)  # sorted as numbers and as names: every side adds in one order
UPSTREAM = "nemo_skills/pipeline/nemo_rl/average_checkpoints.py"

OURS = """
import json, sys
from pathlib import Path
from omr.models import weights
from omr.models.final import mean
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
known = json.loads((folder / "known.json").read_text()) if sys.argv[3] == "known" else {}
mean.average({f"step_{s}": weights.shards(folder / f"step_{s}") for s in sys.argv[4:]}, out, known)
"""
TORCH = """
import sys
from pathlib import Path
import torch
from safetensors import safe_open
from safetensors.torch import save_file
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
out.mkdir(parents=True)
steps = sys.argv[3:]
for shard in sorted(p.name for p in (folder / f"step_{steps[0]}").glob("*.safetensors")):
    parts = [safe_open(folder / f"step_{s}" / shard, framework="pt") for s in steps]
    mean = {}
    for name in parts[0].keys():
        total = parts[0].get_tensor(name).float()
        for part in parts[1:]:
            total += part.get_tensor(name)
        mean[name] = (total / len(parts)).to(torch.bfloat16)
    save_file(mean, out / shard, metadata={"format": "pt"})
"""


def shapes(size: float) -> dict[str, tuple[int, ...]]:
    """Tensors of a Qwen2 about `size` GB large in bf16, as many layers as that takes."""
    width, inner, vocabulary = 896, 4864, 151_936
    found = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    layer = {
        **{f"self_attn.{n}_proj.weight": (width, width) for n in "qo"},
        **{f"self_attn.{n}_proj.weight": (128, width) for n in "kv"},
        **{
            "self_attn.q_proj.bias": (width,),
            "self_attn.k_proj.bias": (128,),
            "self_attn.v_proj.bias": (128,),
        },
        **{"mlp.gate_proj.weight": (inner, width), "mlp.up_proj.weight": (inner, width)},
        **{"mlp.down_proj.weight": (width, inner)},
        **{"input_layernorm.weight": (width,), "post_attention_layernorm.weight": (width,)},
    }
    layers = max(1, round((size * 1e9 / 2 - vocabulary * width) / 14.9e6))
    for n in range(layers):
        found |= {f"model.layers.{n}.{name}": shape for name, shape in layer.items()}
    return found


def write(folder: Path, size: float, seed: int, shards: int = 2) -> int:
    """A checkpoint of random bf16 numbers; returns its bytes."""
    import numpy as np

    dice = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    items = list(shapes(size).items())
    total, where = 0, {}
    for n in range(shards):
        mine = items[n * len(items) // shards : (n + 1) * len(items) // shards]
        name = f"model-{n + 1:05}-of-{shards:05}.safetensors"
        header, at = {"__metadata__": {"format": "pt"}}, 0
        for key, shape in mine:
            length = 2 * int(np.prod(shape))
            header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + length]}
            where[key] = name
            at += length
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb") as out:
            out.write(struct.pack("<Q", len(text)) + text)
            for _, shape in mine:
                numbers = dice.standard_normal(int(np.prod(shape)), np.float32) * np.float32(0.02)
                out.write((numbers.view(np.uint32) >> 16).astype(np.uint16).tobytes())
        total += at
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (folder / "config.json").write_text("{}")
    return total


# A process's own peak: what the kernel reports of a child counts its parent's pages too.
MEASURED = """
import os, runpy, sys
kind, sys.argv = sys.argv[1], sys.argv[2:]
if kind == "file":
    runpy.run_path(sys.argv[0], run_name="__main__")
else:
    exec(sys.argv[0])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(sum(os.times()[:2]), peak.split()[1], file=sys.stderr)
"""


def run(command: list[str], environ: dict[str, str]) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak resident MB of a process of its own."""
    begin = time.monotonic()
    done = subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wall = time.monotonic() - begin
    if done.returncode:
        raise SystemExit(f"{command[3]}: {done.stderr[-500:]}")
    processor, peak = done.stderr.split()[-2:]
    return wall, float(processor), int(peak) / 1000


def commands(folder: Path, out: Path, upstream: Path | None) -> dict[str, list[str]]:
    """What is compared: a name and the command that writes the mean of `folder`'s steps."""
    steps = [str(step) for step in STEPS]
    python = [sys.executable, "-c", MEASURED]
    found = {
        "ours": [*python, "text", OURS, str(folder), str(out), "known", *steps],
        "ours, all inputs hashed": [*python, "text", OURS, str(folder), str(out), "new", *steps],
        "plain torch": [*python, "text", TORCH, str(folder), str(out), *steps],
    }
    if upstream:
        script = [
            *python,
            "file",
            str(upstream / UPSTREAM),
            "--checkpoint_dir",
            str(folder),
            "--backend",
            "megatron",
        ]
        found["NeMo-Skills"] = [*script, "--steps", *steps]
    return found


def cases(place: Place) -> Iterator[Case]:
    """Ours, with inputs whose hashes the conversion knows, and a plain torch loop."""
    folder, out = place.scratch / "hf", place.scratch / "average"
    size = max(LEAST, place.rows * 2e-5)
    written = checkpoints(folder, size)
    environ, same = {**os.environ, "PYTHONPATH": str(ROOT)}, {}

    def way(name: str) -> Callable[[], float]:
        def once() -> float:
            shutil.rmtree(out, ignore_errors=True)
            wall, _, _ = run(commands(folder, out, None)[name], environ)
            same[name] = _data(out)
            return wall

        return once

    ways = {"this toolkit": way("ours"), "plain torch": way("plain torch")}
    for once in ways.values():
        once()
    note = "the same bytes" if len(set(same.values())) == 1 else "OTHER BYTES"
    yield Case(f"the average of four checkpoints of {written / 1e9:.2f} GB", "s", ways, note)


def checkpoints(folder: Path, size: float) -> int:
    """Write the steps' checkpoints and what the conversion knows of them; returns the bytes of one."""
    written = [write(folder / f"step_{step}", size, step) for step in STEPS]
    known = {path.name: _digests(path) for path in folder.iterdir()}  # as the conversion writes them down
    (folder / "known.json").write_text(json.dumps(known))
    return written[0]


@click.command()
@click.option("--size", default=0.67, help="GB of one checkpoint")
@click.option("--rounds", default=3, help="runs of each, in turn")
@click.option("--upstream", type=click.Path(path_type=Path), help="a checkout of NeMo-Skills")
@click.option("--scratch", type=click.Path(path_type=Path), help="where the checkpoints are written")
def main(size: float, rounds: int, upstream: Path | None, scratch: Path | None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory(dir=scratch) as temporary:
        folder, out = Path(temporary, "hf"), Path(temporary, "out")
        written = checkpoints(folder, size)
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        results: dict[str, list[tuple[float, float, float]]] = {}
        same: dict[str, str] = {}
        for _ in range(rounds):
            for name, command in commands(folder, out, upstream).items():
                final = folder / "final_hf_model" if name == "NeMo-Skills" else out
                shutil.rmtree(final, ignore_errors=True)
                results.setdefault(name, []).append(run(command, environ))
                same[name] = _data(final)
        print(f"four checkpoints of {written / 1e9:.2f} GB, {rounds} runs each, {os.cpu_count()} cores")
        print("| | wall s | times ours | processor s | peak MB | times ours | same bytes |")
        print("| --- | --- | --- | --- | --- | --- | --- |")
        mine = [statistics.median(column) for column in zip(*results["ours"], strict=True)]
        for name, rows in results.items():
            wall, processor, peak = (statistics.median(column) for column in zip(*rows, strict=True))
            cells = [f"{wall:.2f}", f"{wall / mine[0]:.1f}", f"{processor:.2f}", f"{peak:.0f}"]
            cells += [f"{peak / mine[2]:.1f}", "yes" if same[name] == same["ours"] else "NO"]
            print("| " + " | ".join([name, *cells]) + " |")


def _digests(folder: Path) -> dict[str, dict]:
    """Size and sha256 of a checkpoint's shards."""
    found = {}
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        found[path.name] = {"size": path.stat().st_size, "sha256": digest}
    return found


def _data(folder: Path) -> str:
    """A hash of every tensor's bytes, whatever order the file has them in."""
    from omr.models import weights

    found = hashlib.sha256()
    for tensor in sorted((t for p in weights.shards(folder) for t in p.tensors), key=lambda t: t.name):
        with tensor.file.open("rb") as handle:
            handle.seek(tensor.start)
            found.update(tensor.name.encode() + handle.read(tensor.end - tensor.start))
    return found.hexdigest()


if __name__ == "__main__":
    main()
