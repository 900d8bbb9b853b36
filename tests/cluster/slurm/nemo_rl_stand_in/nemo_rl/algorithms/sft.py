"""The names that the driver replaces, with as much behind them as a chain can see."""

import hashlib
import json
import os
import shutil
import time
from pathlib import Path


class TimeoutChecker:
    """Mean step times, and a limit that counts from its own construction."""

    def __init__(self, timeout=None, fit_last_save_time=False):
        self.iteration_times, self.last_saved, self.before = [], False, time.time()

    def mark_iteration(self):
        now = time.time()
        self.iteration_times.append(now - self.before)
        self.before = now

    def check_save(self):
        return False


class CheckpointManager:
    """tmp_step_<n>, then step_<n>; resumes from the highest number without a look inside."""

    def __init__(self, config):
        self.folder = Path(config["checkpoint_dir"])

    def latest(self):
        numbers = [int(p.name[5:]) for p in self.folder.glob("step_*") if p.name[5:].isdigit()]
        return max(numbers, default=0)

    def finalize_checkpoint(self, checkpoint_path):
        path = Path(checkpoint_path)
        path.rename(path.with_name(path.name.removeprefix("tmp_")))


class Logger:
    """Prints."""

    def __init__(self, config):
        Path(config["log_dir"]).mkdir(parents=True, exist_ok=True)

    def log_metrics(self, metrics, step, prefix=""):
        print(prefix, step, metrics, flush=True)


def setup(master_config, tokenizer, train_dataset, val_dataset):
    """The converted base goes into the cache, as NeMo-RL keeps it; returns what training needs."""
    config = master_config
    cache = Path(os.environ["NRL_MEGATRON_CHECKPOINT_DIR"]) / "model" / "iter_0000000"
    cache.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(config["policy"]["model_name"]) / "config.json", cache / "run_config.yaml")
    return Logger(config["logger"]), CheckpointManager(config["checkpointing"])


def validate(policy, val_dataloader, tokenizer, loss_fn, step, **_):
    """Nothing is held out."""
    return {}, {}


def sft_train(config, logger, checkpointer):
    """Each step hashes the one before: the end depends on every step having been made once."""
    steps, period = config["sft"]["max_num_steps"], config["checkpointing"]["save_period"]
    timeout = TimeoutChecker()
    step = checkpointer.latest()
    state = "start"
    if step:
        state = (checkpointer.folder / f"step_{step}/policy/weights/iter_0000000/weights.distcp").read_text()
    while step < steps:
        time.sleep(float(os.environ.get("OMR_STEP_DELAY") or 0))
        step += 1
        state = hashlib.sha256(f"{state} {step}".encode()).hexdigest()
        timeout.mark_iteration()
        late = timeout.check_save()
        if step % period == 0 or step == steps or late:
            folder = checkpointer.folder / f"tmp_step_{step}"
            weights = folder / "policy/weights/iter_0000000"
            weights.mkdir(parents=True, exist_ok=True)
            (weights / "weights.distcp").write_text(state)
            (weights / ".metadata").write_text("{}")
            (folder / "training_info.json").write_text(json.dumps({"total_steps": step}))
            (folder / "config.yaml").write_text(json.dumps(config))
            (folder / "train_dataloader.pt").write_bytes(b"0")
            time.sleep(float(os.environ.get("OMR_STAND_IN_SAVE") or 0))
            checkpointer.finalize_checkpoint(folder)
        logger.log_metrics({"loss": 1 / step, "global_valid_toks": 1000}, step, prefix="train")
        if late:
            return
