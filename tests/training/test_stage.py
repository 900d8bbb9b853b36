"""bin/train.py: what is refused and what is planned, and the way from frozen request to final/."""

import contextlib
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from omr import files, manifest, recipe
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run.frozen import BaseModel, FrozenRun, TrainingData
from omr.settings import ROOT
from omr.tiny.model import write_base
from omr.training import stage
from omr.training.trl import memory
from omr.training.trl.config import EngineConfig, engine_config, read_config, write_config
from omr.workspace import Workspace

RUNS = {name: recipe.run(name) for name in ("tiny", "7b")}
DATA = TrainingData(Path("/d"), "0", 1, 1)
SMOKE = recipe.run("7b", name="smoke")


def bin_(script, *words, **environ):
    """A script of bin/ in a process of its own, with nothing of the caller's settings."""
    clean = {
        k: v
        for k, v in os.environ.items()
        if k in ("PATH", "PYTHONPATH", "HOME", "TMPDIR", "LANG", "LD_LIBRARY_PATH")
    }
    ours = {"PYTHONPATH": str(ROOT), "OMR_ENV_FILE": "/nonexistent", "CUDA_VISIBLE_DEVICES": ""}
    named = {**clean, **ours, **environ}
    command = [sys.executable, str(ROOT / "bin" / f"{script}.py"), *words]
    return subprocess.run(command, env=named, capture_output=True, text=True, timeout=500)


def words(run=RUNS["tiny"], **said):
    return TrainRequest.of(run, **said)


@pytest.mark.parametrize(
    ("run", "said", "told"),
    [
        (RUNS["7b"], {"engine": "trl"}, "ENGINE=trl makes another run than the recipe's; add NAME="),
        (RUNS["7b"], {"limit": 10}, "LIMIT=10 makes another run"),
        (RUNS["7b"], {"modes": "cot"}, "MODES=cot makes another run"),
        (RUNS["7b"], {"modes": "cot,foo"}, "MODES=foo is unknown; choose cot, tir or genselect"),
        (RUNS["7b"], {"engine": "foo"}, "ENGINE=foo is unknown; choose trl or nemo-rl"),
        (RUNS["7b"], {"overrides": "a.b=c"}, "OVERRIDES=a.b=c makes another run"),
        (SMOKE, {"engine": "trl", "overrides": "a.b=c"}, "OVERRIDES are keys of NeMo-RL"),
    ],
)
def test_words_that_cannot_be(run, said, told):
    with pytest.raises(RequestError) as refused:
        words(run, **said)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (RUNS["7b"], {}),
        (RUNS["7b"], {"engine": "nemo-rl", "modes": "genselect,cot,tir", "gpus": 4}),
        (SMOKE, {"engine": "trl", "limit": 10, "modes": "cot"}),
        (RUNS["tiny"], {"engine": "trl"}),
    ],
)
def test_words_that_can_be(run, said):
    assert words(run, **said).engine == said.get("engine", run.model.engine)


@pytest.mark.parametrize(
    ("run", "chosen", "where"),
    [
        ("tiny", None, "host"),
        ("7b", "slurm", "slurm"),
        ("7b", "docker", "docker"),
        ("tiny", "slurm", "slurm"),
    ],
)
def test_where_it_trains(monkeypatch, run, chosen, where):
    monkeypatch.delenv("RUNNER", raising=False)
    if chosen:
        monkeypatch.setenv("RUNNER", chosen)
    assert stage.runner(RUNS[run]) == where


def test_a_real_model_is_not_trained_just_anywhere(monkeypatch):
    monkeypatch.delenv("RUNNER", raising=False)
    with pytest.raises(RequestError) as refused:
        stage.runner(RUNS["7b"])
    for way in ("RUNNER=slurm", "RUNNER=docker", "RUNNER=host ENGINE=trl NAME="):
        assert way in str(refused.value)


def test_a_deadline_is_seconds_from_now_or_a_time():
    assert stage.parse_deadline(None) is None
    assert stage.parse_deadline("90") == pytest.approx(time.time() + 90, abs=5)
    wall = datetime(2030, 1, 31, 18, 0)
    assert stage.parse_deadline("2030-01-31T18:00") == wall.timestamp()
    assert stage.parse_deadline("2030-01-31T18:00+00:00") == 1896112800
    with pytest.raises(RequestError, match="DEADLINE=soon is no time"):
        stage.parse_deadline("soon")


REFUSED = [
    ({"MODEL": "9b"}, "MODEL=9b is unknown; choose tiny, 1.5b, 7b, 14b or 32b"),
    ({}, "MODEL is not set"),
    ({"MODEL": "32b", "ROUND": "2"}, "32b trains in round 1 only"),
    ({"MODEL": "tiny", "ROUND": "3"}, "ROUND=3 is unknown; choose 1 or 2"),
    ({"MODEL": "tiny", "VARIANT": "foo", "ROUND": "2"}, "VARIANT=foo is unknown"),
    ({"MODEL": "tiny", "MODES": "cot,foo"}, "MODES=foo is unknown"),
    ({"MODEL": "tiny", "STEPS": "8"}, "STEPS=8 makes another run"),
    ({"MODEL": "tiny", "STEPS": "x", "NAME": "n"}, "STEPS=x is not a whole number"),
    ({"MODEL": "tiny", "GPUS": "-1"}, "GPUS=-1 is not a whole number from 0 up"),
    ({"MODEL": "tiny", "DEADLINE": "soon"}, "DEADLINE=soon is no time"),
    ({"MODEL": "tiny"}, "run make model MODEL=tiny first"),
    ({"MODEL": "tiny", "ROUND": "2"}, "run make train MODEL=tiny ROUND=1 first"),
    (
        {"MODEL": "tiny", "ENGINE": "nemo-rl", "NAME": "n"},
        "tiny trains with NeMo-RL, which is not on this machine",
    ),
    ({"MODEL": "7b"}, "RUNNER is not set"),
    ({"MODEL": "7b", "RUNNER": "host"}, "7b trains with NeMo-RL, which is not on this machine"),
]


@pytest.mark.parametrize(("said", "told"), REFUSED, ids=[told[:30] for _, told in REFUSED])
@pytest.mark.slow
def test_a_wrong_request_is_one_line_and_writes_nothing(tmp_path, said, told):
    done = bin_("train", WORKSPACE=str(tmp_path / "work"), **said)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("model", ["tiny", "7b"])
def test_a_dry_run_needs_little_and_writes_nothing(tmp_path, model):
    script = str(ROOT / "bin" / "train.py")
    code = (
        "import runpy, sys\n"
        "sys.modules.update(dict.fromkeys(('torch', 'numpy', 'transformers', 'pyarrow')))\n"
        f"sys.argv = [{script!r}]; runpy.run_path({script!r}, run_name='__main__')"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MODEL": model, "DRY_RUN": "1", "WORKSPACE": str(tmp_path / "work")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 5  # under one on an idle machine
    assert not (tmp_path / "work").exists()
    assert ("400 steps of 64 rows" if model == "tiny" else "convert") in done.stdout


def plan_of(folder, **changes):
    began = FrozenRun(RUNS["7b"], "trl", BaseModel(folder, "0"), DATA, None, None)
    return EngineConfig(**{**vars(engine_config(began, 0)), **changes})


@pytest.fixture(scope="module")
def seven_b(tmp_path_factory):
    """The header and the configuration of a 7.6 B-parameter model; its file is a hole."""
    folder = tmp_path_factory.mktemp("7b")
    write_base(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "vocab_size": 152064}
    (folder / "config.json").write_text(json.dumps(config))
    size = 2 * 7_616_000_000
    header = json.dumps(
        {"a": {"dtype": "BF16", "shape": [7_616_000_000], "data_offsets": [0, size]}}
    ).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + size)
    return folder


def test_what_cannot_fit_is_refused_beforehand(seven_b, monkeypatch):
    for gpu, there, processes, fits in (
        (True, 80e9, 1, False),
        (True, 80e9, 8, False),
        (True, 192e9, 1, True),
        (False, 64e9, 1, False),
        (False, 256e9, 1, True),
    ):
        monkeypatch.setattr(memory, "free", lambda plan, there=there: (int(there), "of memory"))
        planned = plan_of(seven_b, gpu=gpu, packed=gpu)
        assert 7.616e9 * 16 < memory.needed(planned, processes) < 7.616e9 * 16 * 1.5
        if fits:
            memory.check(planned, processes)
        else:
            with pytest.raises(
                RequestError, match=r"7b round1 needs about 1\d\d\.\d GB of memory with ENGINE=trl"
            ):
                memory.check(planned, processes)


def test_free_memory_is_what_the_machine_has(seven_b):
    there, what = memory.free(plan_of(seven_b))
    assert 1e8 < there < 1e14
    assert what == "of memory"


def test_gpus_are_asked_for_by_name_or_number(tmp_path, monkeypatch):
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'GPU-a, 0, 80000'\necho 'GPU-b, 1, 40000'\n")
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for visible, found in ((None, [80000, 40000]), ("1", [40000]), ("GPU-b, 0", [40000, 80000]), ("", [])):
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert memory.gpu_memory() == [mebibytes << 20 for mebibytes in found]


def test_the_plan_is_read_as_it_was_written(tmp_path):
    folder = Workspace(tmp_path).run(RUNS["tiny"])
    planned = engine_config(FrozenRun(RUNS["tiny"], "trl", BaseModel(Path("/b"), "0"), DATA, 3, None))
    folder.root.mkdir(parents=True)
    write_config(folder, planned)
    assert read_config(folder) == planned
    assert planned.data.limit == 3
    assert (planned.gpu, planned.packed) == (False, False)
    assert [step for step in range(1, 401) if planned.saves(step)] == list(range(20, 401, 20))


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """A workspace with the tiny corpus's data for both rounds, and micro's base."""
    work = tmp_path_factory.mktemp("work")
    for number in ("1", "2"):
        assert bin_("data", DATASET="tiny", ROUND=number, WORKSPACE=str(work)).returncode == 0
    done = bin_("model", MODEL="micro", WORKSPACE=str(work))
    assert done.returncode == 0, done.stderr
    return work


def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_the_whole_way_of_both_rounds(ready):
    environ = {"MODEL": "micro", "WORKSPACE": str(ready)}
    first = ready / "runs" / "micro" / "round1"
    done = bin_("train", **environ)
    assert done.returncode == 0, done.stderr
    assert f"the final model is {first / 'final'}" in done.stdout
    weights = digest(first / "final")

    began = time.monotonic()
    again = bin_("train", **environ)
    assert (again.returncode, again.stdout) == (0, f"micro round1: finished already: {first / 'final'}\n")
    assert time.monotonic() - began < 5  # under one on an idle machine

    # Stopped by a deadline, gone on with, redone: the same weights.
    redone = bin_("train", **environ, FORCE="1", DEADLINE="0")
    assert redone.returncode == 0, redone.stderr
    assert "saved step 1 of 24; run the same command again to go on" in redone.stdout
    assert not (first / "final").exists()
    assert bin_("train", **environ).returncode == 0
    assert digest(first / "final") == weights

    second = bin_("train", **environ, ROUND="2")
    assert second.returncode == 0, second.stderr
    request = files.read_json(ready / "runs" / "micro" / "round2" / "run.json")["request"]
    assert request["base"]["path"] == str(first / "final")
    assert (
        manifest.read(ready / "runs" / "micro" / "round2" / "final")["inputs"]["base"]
        == request["base"]["identity"]
    )
    # A shared workspace: every model is as open as the umask says.
    modes = {p: stat.S_IMODE(p.stat().st_mode) for p in ready.rglob("*.safetensors")}
    assert {p.parent.parent.name for p in modes} >= {"models", "checkpoints", "hf", "round1"}
    assert set(modes.values()) == {ready.joinpath("models").stat().st_mode & 0o666}, modes

    # Another request for a finished run is refused, and named.
    named = {**environ, "NAME": "few"}
    assert bin_("train", **named, LIMIT="50", STEPS="4").returncode == 0
    other = bin_("train", **named, LIMIT="60", STEPS="4")
    assert other.returncode == 2
    assert "limit was 50, is 60" in other.stderr
    assert bin_("train", **named, LIMIT="60", STEPS="4", FORCE="1").returncode == 0


@pytest.mark.slow
def test_the_end_of_a_training_is_told(ready, tmp_path):
    """To a real command: an end that was asked for, and the last step."""
    teller = tmp_path / "teller"
    teller.write_text(f'#!/bin/sh\nprintf "%s\\n" "$1" "$2" "$3" >>\'{tmp_path}/told\'\n')
    teller.chmod(0o755)
    environ = {"MODEL": "micro", "WORKSPACE": str(ready), "NAME": "told", "STEPS": "4", "NOTIFY": str(teller)}
    folder = ready / "runs" / "micro" / "round1-told"

    def told():
        lines = (tmp_path / "told").read_text().splitlines()
        (tmp_path / "told").unlink()
        return lines

    assert bin_("train", **environ, DEADLINE="0").returncode == 0
    line = "micro round1-told: saved step 1 of 4; run the same command again to go on"
    assert told() == ["micro round1-told stopped", line, str(folder)]
    assert bin_("train", **environ).returncode == 0
    line = f"micro round1-told: trained 4 steps; the final model is {folder / 'final'}"
    assert told() == ["micro round1-told finished", line, str(folder / "final")]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (4, ("finished", "trained 4 steps")),
        (2, ("stopped", "saved step 2 of 4")),
        (OmrError("the disk is full"), ("stopped", "the disk is full")),
        (OSError(28, "No space left on device"), ("stopped", "No space left on device")),
        (files.Busy("is being made by process 7"), None),
    ],
)
def test_who_is_told_of_which_end(tmp_path, monkeypatch, end, told):
    """Another process that trains the run tells of it itself."""

    def engine(*request):
        if isinstance(end, Exception):
            raise end
        return end

    said = []
    monkeypatch.setattr(stage.frozen, "knows_held_out", lambda wanted: None)
    monkeypatch.setattr(stage.frozen, "inputs", lambda *request: SimpleNamespace(data=DATA))
    monkeypatch.setattr(stage, "engine_config", lambda *request: None)
    monkeypatch.setattr(stage.memory, "check", lambda *request: None)
    monkeypatch.setattr(stage, "_one_box", engine)
    monkeypatch.setattr(stage.notify, "tell", lambda *given: said.append(given[1:3]))
    request = TrainRequest.of(recipe.run("tiny", 1, steps=4, name="x"))
    with contextlib.suppress(OmrError, OSError):
        stage.train_locally(request, Workspace(tmp_path), force=False, verify=False, say=print)
    assert [title for title, _ in said] == ([f"tiny round1-x {told[0]}"] if told else [])
    assert not told or told[1] in said[0][1]


@pytest.mark.slow
def test_sigterm_is_saved_and_gone_on_with(ready):
    clean = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "TMPDIR", "LANG")}
    environ = {**clean, "PYTHONPATH": str(ROOT), "OMR_ENV_FILE": "/nonexistent", "WORKSPACE": str(ready)}
    environ |= {"MODEL": "micro", "NAME": "term", "STEPS": "12", "OMR_STEP_DELAY": "0.3"}
    command = [sys.executable, str(ROOT / "bin" / "train.py")]
    process = subprocess.Popen(
        command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    saved = Path(ready, "runs", "micro", "round1-term", "checkpoints", "step_3")
    until = time.monotonic() + 120
    while not saved.exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "run the same command again to go on" in out
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def nemo(ready):
    """NeMo-RL on this machine: a stand-in of its folder that trains by hashing."""
    stand_in = ROOT / "tests" / "cluster" / "slurm" / "nemo_rl_stand_in"
    return {
        **{"MODEL": "micro", "ENGINE": "nemo-rl", "GPUS": "1", "WORKSPACE": str(ready)},
        **{
            "NEMO_RL": str(stand_in),
            "PATH": f"{stand_in}/bin:{os.environ['PATH']}",
            "OMR_PYTHON": sys.executable,
        },
    }


@pytest.mark.slow
def test_nemo_rl_on_this_machine_stops_resumes_and_finishes(ready, nemo):
    folder = ready / "runs" / "micro" / "round1-here"
    stopped = bin_("train", **nemo, NAME="here", OMR_DEADLINE="1")
    assert stopped.returncode == 0, stopped.stderr
    assert "saved step 1 of 24; run the same command again to go on" in stopped.stdout
    done = bin_("train", **nemo, NAME="here")
    assert done.returncode == 0, done.stderr
    assert "training goes on from step 1" in done.stdout
    assert "ray None token" in done.stdout  # Ray is told to ask for a token
    assert f"the final model is {folder / 'final'}" in done.stdout
    assert {path.name for path in (folder / "hf").glob("step_*")} == {
        "step_12",
        "step_16",
        "step_20",
        "step_24",
    }
    assert "num_nodes: 1" in (folder / "nemo_rl.yaml").read_text()
    assert not list(folder.glob(".ray-*"))
    assert not list(folder.glob(".stop-*"))


@pytest.mark.slow
def test_nemo_rl_that_fails_is_one_line_and_needs_a_gpu(nemo):
    broken = bin_("train", **{**nemo, "PATH": "/nonexistent"}, NAME="broken")
    assert broken.returncode == 1
    assert "uv" in broken.stderr.splitlines()[-1]
    none = bin_("train", **{**nemo, "GPUS": "0"}, NAME="none")
    assert none.returncode == 2
    assert "NeMo-RL needs GPUs" in none.stderr
