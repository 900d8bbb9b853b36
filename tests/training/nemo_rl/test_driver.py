"""What the driver adds to NeMo-RL's script: our deadline, seal and lease; on a stand-in of its modules."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from omr import recipe
from omr.files import write_json
from omr.models import convert
from omr.run import checkpoints, lease
from omr.run.checkpoints import FORMATS, Checkpoints
from omr.run.nemo_rl_version import PINNED_VERSION
from omr.settings import ROOT
from omr.training.nemo_rl import config, driver
from omr.workspace import Workspace
from tests.training.nemo_rl.upstream import checkout

STAND_IN = ROOT / "tests" / "cluster" / "slurm" / "nemo_rl_stand_in"


@pytest.fixture
def run(tmp_path):
    """A function that runs the driver on a 24-step run; its folder is `run.folder`."""
    tiny = recipe.run("tiny", 1, steps=24, name="x")
    folder = Workspace(tmp_path).run(tiny)
    folder.root.mkdir(parents=True)
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    values = config.values(
        config.Inputs(tiny, folder, base, tmp_path / "d.jsonl", gpus=1, engine_root=str(STAND_IN))
    )
    file = folder.engine_yaml("nemo-rl")
    file.write_text(config.text(values, tiny))

    def go(**env):
        words = {"NRL_MEGATRON_CHECKPOINT_DIR": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin", **env}
        command = [sys.executable, str(ROOT / "omr/training/nemo_rl/driver.py"), "--config", str(file)]
        return subprocess.run(command, cwd=STAND_IN, env=words, capture_output=True, text=True, timeout=60)

    go.folder, go.file, go.cache = folder, file, tmp_path / "cache"
    return go


def test_an_undisturbed_run_is_sealed_and_told(run):
    done = run(OMR_METRICS=str(run.folder.metrics), OMR_DATA="/prepared/it's here")
    assert done.returncode == 0, done.stderr
    assert Checkpoints(run.folder, "nemo-rl").whole() == [6, 12, 18, 24]
    assert all((run.folder.checkpoint(n) / FORMATS["nemo-rl"].listing).exists() for n in (6, 24))
    rows = [json.loads(line) for line in run.folder.metrics.read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 25)) and rows[0]["loss"] == 1.0
    assert convert.cached(run.cache)
    made = (run.cache / driver.CONVERTED).stat().st_mtime_ns
    next(run.cache.rglob("run_config.yaml")).unlink()
    # Another start does not declare whole what is not.
    assert run().returncode == 0 and (run.cache / driver.CONVERTED).stat().st_mtime_ns == made
    assert "++data.train.data_path=" in done.stdout and "here" in done.stdout


@pytest.mark.slow
def test_the_deadline_is_a_moment_and_not_a_duration(run):
    """It counts from the allocation's end, however long the start took."""
    done = run(OMR_DEADLINE=str(time.time() + 3), OMR_STEP_DELAY="0.3")
    assert done.returncode == 0
    reached = Checkpoints(run.folder, "nemo-rl").whole()[-1]
    assert 1 <= reached < 24
    assert run().returncode == 0 and Checkpoints(run.folder, "nemo-rl").whole()[-1] == 24


def test_saves_for_recovery_are_kept_until_two_newer_ones_are_there(run):
    tiny = recipe.run("tiny", 1, steps=24, name="x")  # saves and averages 6, 12, 18, 24
    write_json(run.folder.run_json, {"request": {"recipe": tiny.as_dict()}})
    done = run(RECOVERY="2", OMR_METRICS=str(run.folder.metrics))
    assert done.returncode == 0, done.stderr
    assert "++checkpointing.save_period=2" in done.stdout
    assert Checkpoints(run.folder, "nemo-rl").whole() == [6, 12, 18, 22, 24]
    assert Checkpoints(run.folder, "nemo-rl").complete(tiny, [6, 12, 18, 22, 24])
    # A node is lost: what was trained since the newest save is trained again, to the same end.
    last = "policy/weights/iter_0000000/weights.distcp"
    end = (run.folder.checkpoint(24) / last).read_text()
    shutil.rmtree(run.folder.checkpoint(24))
    run.folder.metrics.unlink()
    assert run(RECOVERY="", OMR_METRICS=str(run.folder.metrics)).returncode == 0
    assert [json.loads(row)["step"] for row in run.folder.metrics.read_text().splitlines()] == [23, 24]
    assert (run.folder.checkpoint(24) / last).read_text() == end


def test_a_file_asks_it_to_stop(run, tmp_path):
    stop = tmp_path / "stop"
    stop.touch()
    assert run(OMR_STOP=str(stop)).returncode == 0
    assert Checkpoints(run.folder, "nemo-rl").whole() == [1]


def test_a_lost_lease_writes_nothing_more(run):
    held = lease.take(run.folder.lease, "7", 0, lambda job: False)
    lease.take(run.folder.lease, "8", 0, lambda job: False)
    done = run(OMR_LEASE=str(held.path))
    assert done.returncode != 0 and "has taken over this run" in done.stderr
    assert checkpoints.steps(run.folder.checkpoints) == []


@pytest.mark.slow
def test_interrupted_and_resumed_comes_to_the_same_end(run):
    run()
    last = "policy/weights/iter_0000000/weights.distcp"
    whole = (run.folder.checkpoint(24) / last).read_text()
    shutil.rmtree(run.folder.checkpoints)
    run(OMR_DEADLINE=str(time.time() + 2), OMR_STEP_DELAY="0.2")
    run()
    assert (run.folder.checkpoint(24) / last).read_text() == whole


def test_an_unknown_key_is_refused_before_anything_starts(run):
    values = yaml.safe_load(run.file.read_text())
    values["policy"]["megatron_cfg"]["optimizer"]["lrr"] = 1
    run.file.write_text(yaml.safe_dump(values))
    done = run()
    assert done.returncode == 1 and "policy.megatron_cfg.optimizer.lrr is no key of" in done.stderr


@pytest.mark.parametrize("name", PINNED_VERSION.hooks)
def test_another_nemo_rl_is_refused(name):
    class Module:
        TimeoutChecker = CheckpointManager = Logger = object
        setup = validate = staticmethod(lambda: None)

    delattr(Module, name)
    with pytest.raises(SystemExit, match=f"has no {name}"):
        driver.patch(Module, {})


@pytest.mark.nemo
def test_the_names_are_nemo_rl_s_own():
    """The names, their constructors' and methods' words, in a checkout of the pinned version."""
    import ast

    source = checkout()
    tree = ast.parse(Path(source, "nemo_rl/algorithms/sft.py").read_text())
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert {"TimeoutChecker", "CheckpointManager", "Logger"} <= imported
    assert {"setup", "validate"} <= {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    text = Path(source, "nemo_rl/algorithms/sft.py").read_text()
    for words in (
        "timeout.check_save()",
        "timeout.mark_iteration()",
        "checkpointer.finalize_checkpoint(checkpoint_path)",
        'logger.log_metrics(metrics, total_steps + 1, prefix="train")',
        "val_metrics, validation_timings = validate(",
        'val_metrics, total_steps + 1, prefix="validation"',
    ):
        assert words in text
    timer = Path(source, "nemo_rl/utils/timer.py").read_text()
    assert "self.iteration_times" in timer and "self.last_saved" in timer
    script = Path(source, PINNED_VERSION.script).read_text()
    assert "from nemo_rl.algorithms.sft import MasterConfig, setup, sft_train" in script
    assert ") = setup(config, tokenizer, dataset, val_dataset)" in script
