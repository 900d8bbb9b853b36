"""The arithmetic: exact against fp64, whatever the layout; every fault one clear error and no file."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from omr.errors import OmrError
from omr.models import weights
from omr.models.final import mean
from omr.settings import ROOT
from tests.models.kit import write_shard

KINDS = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def to_bytes(dtype, values):
    """fp64 numbers as the type's bytes; bf16 to nearest, ties to even, by the long way round."""
    if dtype != "BF16":
        return values.astype(KINDS[dtype]).tobytes()
    single = values.astype(np.float32)
    down = (single.view(np.uint32) & 0xFFFF0000).view(np.float32)
    step = np.spacing(np.abs(down)) * np.float32(65536)
    up = down + np.copysign(step, single)
    near = np.abs(single - down) < np.abs(up - single)
    tie = np.abs(single - down) == np.abs(up - single)
    even = (down.view(np.uint32) >> 16) & 1 == 0
    rounded = np.where(near | (tie & even), down, up).astype(np.float32)
    return (rounded.view(np.uint32) >> 16).astype(np.uint16).tobytes()


def from_bytes(dtype, data):
    """The type's bytes as fp64 numbers."""
    if dtype != "BF16":
        return np.frombuffer(data, KINDS[dtype]).astype(np.float64)
    return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32).astype(np.float64)


SHAPES = {
    "embed": (300, 7),
    "bias": (5,),
    "norm": (3,),
    "up": (64, 129),
    "scalar": (),
    "none": (0, 4),
    "head": (301,),
}
LAYOUTS = {
    "one file": [list(SHAPES)],
    "two": [["embed", "bias", "norm"], ["up", "scalar", "none", "head"]],
    "three, another order": [["head", "up"], ["none", "embed"], ["scalar", "norm", "bias"]],
}


def model(folder, seed, layout="one file", dtype="BF16", spread=3.0, change=None):
    """A random checkpoint; returns its numbers by name, as they were rounded."""
    dice = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    tensors = {}
    for name, shape in SHAPES.items():
        size = int(np.prod(shape))
        values = dice.standard_normal(size) * 10 ** dice.uniform(-spread, spread, size)
        tensors[name] = (dtype, shape, to_bytes(dtype, values))
    if change:
        tensors = change(tensors)
    parts = LAYOUTS[layout]
    names = (
        ["model.safetensors"]
        if len(parts) == 1
        else [f"model-{n + 1:05}-of-{len(parts):05}.safetensors" for n in range(len(parts))]
    )
    extra = [name for name in tensors if name not in SHAPES]
    for file, part in zip(names, parts, strict=True):
        write_shard(folder / file, {n: tensors[n] for n in [*part, *extra] if n in tensors})
        extra = []
    if len(parts) > 1:
        where = {n: f for f, part in zip(names, parts, strict=True) for n in part if n in tensors}
        (folder / weights.INDEX).write_text(json.dumps({"weight_map": where}))
    return {name: from_bytes(t[0], t[2]) if t[0] in (*KINDS, "BF16") else None for name, t in tensors.items()}


def read(folder):
    return {
        t.name: (t.dtype, t.shape, t.file.read_bytes()[t.start : t.end])
        for s in weights.shards(folder)
        for t in s.tensors
    }


def average(tmp_path, names):
    models = {name: weights.shards(tmp_path / name) for name in names}
    return mean.average(models, tmp_path / "out")


CASES = [
    *[(dtype, 4, ("one file",) * 4) for dtype in ("BF16", "F16", "F32", "F64")],
    ("BF16", 4, ("two",) * 4),
    ("BF16", 4, ("two", "one file", "three, another order", "two")),
    ("BF16", 3, ("three, another order",) * 3),
    ("F32", 3, ("two", "three, another order", "one file")),
    ("BF16", 1, ("two",)),
]


@pytest.mark.parametrize(("dtype", "count", "layouts"), CASES)
def test_equals_the_fp64_mean_within_one_rounding(tmp_path, monkeypatch, dtype, count, layouts):
    monkeypatch.setattr(mean, "CHUNK", 1 << 10)  # many chunks, none of them even
    names = [f"step_{n}" for n in range(count)]
    spread = 1.0 if dtype == "F16" else 3.0
    numbers = [model(tmp_path / n, seed, layouts[seed], dtype, spread) for seed, n in enumerate(names)]
    written, seen = average(tmp_path, names)
    result = read(tmp_path / "out")
    first = {name: t[:2] for name, t in read(tmp_path / names[0]).items()}
    assert {name: t[:2] for name, t in result.items()} == first
    bits = {"BF16": 8, "F16": 11, "F32": 24, "F64": 53}[dtype]
    for name in SHAPES:
        exact = np.mean([n[name] for n in numbers], axis=0)
        largest = np.max([np.abs(n[name]) for n in numbers], axis=0, initial=0)
        # Half a step of the type, and what fp32 loses while it adds numbers as large as the largest.
        slack = (
            np.abs(exact) * 2.0**-bits
            + largest * count * 2.0 ** -(53 if dtype == "F64" else 24)
            + 6e-8 * (dtype == "F16")
        )
        assert np.all(np.abs(from_bytes(dtype, result[name][2]) - exact) <= slack), name
    # Sharded as the first, and every file that was read or written is told by its hash.
    assert sorted(p.name for p in (tmp_path / "out").glob("*.safetensors")) == sorted(
        p.name for p in (tmp_path / names[0]).glob("*.safetensors")
    )
    for folder, told in [(tmp_path / "out", written), *((tmp_path / n, seen[n]) for n in names)]:
        real = {
            p.name: {"size": p.stat().st_size, "sha256": hashlib.sha256(p.read_bytes()).hexdigest()}
            for p in folder.glob("*.safetensors")
        }
        assert told == real
    if len(LAYOUTS[layouts[0]]) > 1:
        index = json.loads((tmp_path / "out" / weights.INDEX).read_text())
        assert (
            index["weight_map"] == json.loads((tmp_path / names[0] / weights.INDEX).read_text())["weight_map"]
        )
        assert index["metadata"]["total_size"] == sum(len(t[2]) for t in result.values())


def test_rounds_to_nearest_ties_to_even(tmp_path):
    """1 + 2^-7 is the next bf16 after 1: means that fall between, on and beside the middle."""
    step = 2.0**-7
    # four numbers each; the mean, in steps above 1, and what it must become
    quads = [
        ([0, 0, 1, 1], 0),
        ([1, 1, 2, 2], 2),
        ([0, 1, 1, 1], 1),
        ([0, 0, 0, 1], 0),
        ([2, 2, 3, 3], 2),
        ([3, 3, 3, 3], 3),
    ]
    for n in range(4):
        values = np.array([1 + quad[n] * step for quad, _ in quads])
        (tmp_path / f"s{n}").mkdir()
        write_shard(
            tmp_path / f"s{n}/model.safetensors", {"a": ("BF16", (len(quads),), to_bytes("BF16", values))}
        )
    average(tmp_path, ["s0", "s1", "s2", "s3"])
    result = from_bytes("BF16", read(tmp_path / "out")["a"][2])
    assert list((result - 1) / step) == [wanted for _, wanted in quads]


@pytest.mark.slow
def test_torch_gives_the_same_bytes(tmp_path):
    torch = pytest.importorskip("torch")
    names = [f"step_{n}" for n in range(4)]
    for seed, name in enumerate(names):
        model(tmp_path / name, seed)
    average(tmp_path, names)
    for name, (_, _, data) in read(tmp_path / "out").items():
        if data:
            parts = [
                torch.frombuffer(bytearray(read(tmp_path / n)[name][2]), dtype=torch.bfloat16) for n in names
            ]
            total = parts[0].float()
            for part in parts[1:]:
                total += part
            assert bytes((total / 4).to(torch.bfloat16).view(torch.uint8).numpy()) == data


def drop(name):
    return lambda tensors: {k: v for k, v in tensors.items() if k != name}


def put(name, value):
    return lambda tensors: {**tensors, name: value}


def poison(number):
    """Put these two bytes among the numbers of a tensor."""

    def change(tensors):
        dtype, shape, data = tensors["up"]
        at = 2 * 4321
        return {
            **tensors,
            "up": (dtype, shape, data[:at] + number + data[at + 2 :]),
        }

    return change


FAULTS = [
    ("a key is missing", drop("bias"), "bias is in step_0 and not in step_2"),
    ("a key too many", put("extra", ("BF16", (1,), b"ab")), "extra is in step_2 and not in step_0"),
    ("another shape", put("bias", ("BF16", (6,), b"0" * 12)), "bias has shape (6,), in step_0 it has (5,)"),
    ("another type", put("bias", ("F32", (5,), b"0" * 20)), "bias has dtype F32, in step_0 it has BF16"),
    ("NaN", poison(b"\xc0\x7f"), "model.safetensors: up is nan at 4,321, so step_2"),
    ("infinity", poison(b"\x80\x7f"), "up is inf at 4,321, so step_2"),
    ("minus infinity", poison(b"\x80\xff"), "up is -inf at 4,321, so step_2"),
]


@pytest.mark.parametrize(("change", "line"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
def test_faults(tmp_path, change, line):
    for n in range(4):
        model(tmp_path / f"step_{n}", n, change=change if n == 2 else None)
    with pytest.raises(OmrError) as error:
        average(tmp_path, [f"step_{n}" for n in range(4)])
    assert line in str(error.value)
    assert not list(tmp_path.glob("out/*.safetensors"))


@pytest.mark.parametrize("dtype", ["I64", "I32", "U8", "BOOL", "F8_E4M3"])
def test_types_that_have_no_mean(tmp_path, dtype):
    size = weights.SIZES[dtype]
    for n in range(2):
        model(tmp_path / f"step_{n}", n, change=put("count", (dtype, (2,), b"\0" * 2 * size)))
    with pytest.raises(OmrError, match=f"count is {dtype}, a mean needs BF16, F16, F32 or F64"):
        average(tmp_path, ["step_0", "step_1"])


def test_a_sum_beyond_the_type(tmp_path):
    for n in range(2):
        (tmp_path / f"s{n}").mkdir()
        write_shard(tmp_path / f"s{n}/model.safetensors", {"a": ("F32", (1,), np.float32(3e38).tobytes())})
    with pytest.raises(OmrError, match="a: the sum at 0 is beyond F32's range"):
        average(tmp_path, ["s0", "s1"])


CUTS = [
    (-1, "its header says"),
    (-5000, "its header says"),
    (20, "no whole safetensors"),
    (0, "no whole safetensors"),
]


@pytest.mark.parametrize(("cut", "line"), CUTS)
def test_a_truncated_shard(tmp_path, cut, line):
    for n in range(2):
        model(tmp_path / f"step_{n}", n, "two")
    file = tmp_path / "step_1/model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(OmrError, match=line) as error:
        average(tmp_path, ["step_0", "step_1"])
    assert str(file) in str(error.value)


def test_a_shard_cut_while_it_is_read(tmp_path):
    model(tmp_path / "step_0", 0)
    shards = weights.shards(tmp_path / "step_0")
    file = tmp_path / "step_0/model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(OmrError, match="cut short meanwhile"):
        mean.average({"step_0": shards}, tmp_path / "out")
    assert not list(tmp_path.glob("out/*.safetensors"))


def test_goes_on_by_shard(tmp_path, monkeypatch):
    names = [f"step_{n}" for n in range(4)]
    for n, name in enumerate(names):
        model(tmp_path / name, n, "three, another order")
    average(tmp_path, names)
    whole = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    for p in (tmp_path / "out").iterdir():
        p.unlink()
    real, calls = mean._average_shard, []

    def once(part, *rest):
        calls.append(part.path.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(part, *rest)

    monkeypatch.setattr(mean, "_average_shard", once)
    with pytest.raises(KeyboardInterrupt):
        average(tmp_path, names)
    left = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert left == ["model-00001-of-00003.safetensors", mean.PROGRESS]
    average(tmp_path, names)
    assert calls == [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 2, 3)], "the first was kept"
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == whole

    # A finished shard that was damaged since, or other inputs: everything again.
    for spoil in ("out/model-00001-of-00003.safetensors", "step_2/model-00001-of-00003.safetensors"):
        path = tmp_path / spoil
        path.write_bytes(path.read_bytes()[:-2] + b"\0\0")
        calls[:] = [None, None]
        average(tmp_path, names)
        assert len(calls) == 5, spoil


RSS = """
import sys
from pathlib import Path
from omr.models.final import mean
from omr.models import weights
folder = Path(sys.argv[1])
mean.average({s: weights.shards(folder / s) for s in ("a", "b")}, folder / "out")
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(tmp_path):
    peaks = []
    for size in (1, 60):  # MB in one tensor
        folder = tmp_path / str(size)
        for name in "ab":
            (folder / name).mkdir(parents=True)
            write_shard(
                folder / name / "model.safetensors", {"a": ("BF16", (size << 19,), b"\1\1" * (size << 19))}
            )
        done = subprocess.run(
            [sys.executable, "-c", RSS, folder], cwd=ROOT, capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) / 1000)
    assert peaks[1] - peaks[0] < 20, peaks


FULL = """
import resource, sys
from pathlib import Path
from omr.models.final import mean
from omr.models import weights
from omr.errors import OmrError
folder = Path(sys.argv[1])
models = {s: weights.shards(folder / s) for s in ("a", "b")}
resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_001, 3_000_001))
try:
    mean.average(models, folder / "out")
except OSError as error:
    print(error.errno)
"""


def test_a_disk_that_fills_up(tmp_path):
    """A write may take a part of the bytes before the next one fails: nothing stands under a shard's name."""
    import errno

    for name in "ab":
        (tmp_path / name).mkdir()
        write_shard(tmp_path / name / "model.safetensors", {"a": ("BF16", (5 << 19,), b"\1\1" * (5 << 19))})
    done = subprocess.run([sys.executable, "-c", FULL, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{errno.EFBIG}\n"), done.stderr
    assert not [p.name for p in (tmp_path / "out").iterdir() if p.name != mean.PROGRESS]


@pytest.mark.nemo
@pytest.mark.slow
@pytest.mark.parametrize(
    ("steps", "share"),
    [((2500, 5000, 7500, 9999), 0.0), ((7500, 15000, 22500, 30000), 1e-3)],
    ids=["the order of names is that of numbers", "names put 7,500 last"],
)
@pytest.mark.parametrize("spread", [0.5, 3.0], ids=["weights", "heavy tails"])
def test_the_tensors_of_nemo_skills_own_average(tmp_path, steps, share, spread):
    """Tensors are equal; where names sort otherwise a few round the other way. Files' metadata differ."""
    skills = os.environ.get("NEMO_SKILLS") or pytest.skip("NEMO_SKILLS names no checkout (make test-nemo)")
    script = Path(skills) / "nemo_skills/pipeline/nemo_rl/average_checkpoints.py"
    folders = {f"step_{step}": tmp_path / f"hf_model_step_{step}" for step in steps}
    for seed, folder in enumerate(folders.values()):
        model(folder, seed, spread=spread)
    words = ["--checkpoint_dir", tmp_path, "--backend", "megatron", "--steps", *map(str, steps)]
    subprocess.run([sys.executable, script, *words], check=True, capture_output=True)
    mean.average({name: weights.shards(folder) for name, folder in folders.items()}, tmp_path / "ours")
    theirs, ours = (
        np.concatenate(
            [from_bytes(dtype, data) for _, (dtype, _, data) in sorted(read(tmp_path / name).items())]
        )
        for name in ("final_hf_model", "ours")
    )
    assert np.mean(theirs != ours) <= share
    assert np.allclose(theirs, ours, rtol=2**-7, atol=1e-6)
