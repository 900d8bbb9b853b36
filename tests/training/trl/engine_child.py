"""What the engine's tests run in processes of their own; imported in those alone.

A fork server imports this once, with torch and TRL; each training is then a fork, and may be killed.
"""

import os

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import torch
import trl.trainer.sft_trainer  # noqa: F401
from torch.utils.tensorboard import SummaryWriter  # noqa: F401
from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: F401
from transformers.models.qwen2 import modeling_qwen2  # noqa: F401

from omr import recipe
from omr.training.trl import engine, trainer
from omr.training.trl.config import EngineConfig, engine_config, write_config
from omr.training.trl.session import StopRule
from omr.workspace import Workspace
from tests.training import kit


def prepare(root, rows=100, held_out=0, **changes):
    """A workspace ready to train micro's round 1; `changes` replace fields of trl.yaml.

    `held_out`: rows of cot that are held out, and as many of tir.
    """
    workspace = kit.write_inputs(root, list(kit.sft_rows(rows)))
    if held_out:
        splits = {split: list(kit.sft_rows(rows + held_out, split))[rows:] for split in ("cot", "tir")}
        kit.hold_out(workspace.data("tiny", "round1"), **splits)
    folder, began = kit.freeze(workspace)
    write_config(folder, EngineConfig(**{**vars(engine_config(began)), **changes}))


def train(root, log, kill=None, largest_file=None, measuring=None, **environ):
    """One session of training; what it prints goes to `log`. `kill`: the file operation to die in.

    `measuring`: seconds that the losses on held-out rows take longer; then the slowest step and save are
    printed.
    """
    with open(log, "a") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ.update(environ)
    if kill:
        die_in_save(kill)
    if largest_file:  # a disk that is full, as far as a test can have one
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    if measuring:
        measure_slowly(measuring)
    folder = Workspace(Path(root)).run(recipe.run("micro"))
    code = engine.main(str(folder.root))
    sys.stdout.flush()
    os._exit(code)


def measure_slowly(seconds):
    """Measure on held-out rows for so long, and print what the rule of when to stop has learned of it."""
    measure, learn = trainer.measure, StopRule.save_took

    def slow(*args):
        time.sleep(seconds)
        return measure(*args)

    def learned(rule, took):
        learn(rule, took)
        print(f"slowest: step {rule.step_seconds:.2f}, save {rule.save_seconds:.2f}", flush=True)

    trainer.measure, StopRule.save_took = slow, learned


def die_in_save(number):
    """SIGKILL this process in the `number`th file operation of its saves, a written file cut in half."""
    seen = 0

    def dying(function, target=None):
        def wrapped(*args, **kwargs):
            nonlocal seen
            seen += 1
            if seen != number:
                return function(*args, **kwargs)
            if target is not None:
                function(*args, **kwargs)
                path = Path(target(*args, **kwargs))
                os.truncate(path, path.stat().st_size // 2)
            print(f"dies in operation {number}: {getattr(function, '__name__', function)}", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    second = lambda first, path, *more, **named: path  # noqa: E731
    torch.save = dying(torch.save, second)
    import transformers.modeling_utils as modeling

    modeling.safe_save_file = dying(modeling.safe_save_file, second)
    shutil.copyfile = dying(shutil.copyfile, second)
    from transformers.trainer_callback import TrainerState

    TrainerState.save_to_json = dying(TrainerState.save_to_json, second)
    from omr.run import checkpoints

    checkpoints.write_json = dying(checkpoints.write_json, lambda path, value: path)
    trainer.write_json = dying(trainer.write_json, lambda path, value: path)
    os.fsync = dying(os.fsync)
    Path.rename = dying(Path.rename)
    # Only what happens within the first save counts.
    whole, seen = checkpoints.saving, -(10**9)

    def saving(*args, **kwargs):
        nonlocal seen
        seen = max(seen, 0)
        return whole(*args, **kwargs)

    checkpoints.saving = saving
