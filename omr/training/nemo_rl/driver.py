"""NeMo-RL's own SFT script with five things added: deadline, seal, lease, saves for recovery, held-out loss.

Runs inside the engine's environment (Python 3.13, no click), from NeMo-RL's folder:
    uv run python omr/training/nemo_rl/driver.py --config <run>/nemo_rl.yaml
Its `checkpoint_must_save_by` counts from inside training, after a start that may take half an hour; here
the allocation's real end decides. What it renames is synced and listed first, and never by a job that was
replaced. v0.6.0 has one save period: for RECOVERY it is made shorter, and after each save what is neither
scheduled nor among the newest two is removed. Its loss on held-out rows is told for each split (held_out.py).

Environment: OMR_DEADLINE (seconds since the epoch by which saving must begin), OMR_STOP (a file that asks
for the same now), OMR_LEASE, OMR_METRICS (a file that gets one JSON line a step), OMR_DATA (the prepared
data set), OMR_VALIDATION (a folder with one of each split's held-out rows), RECOVERY (steps between saves,
a divisor of the save period), NRL_MEGATRON_CHECKPOINT_DIR (sealed once the converted base was loaded from
it).
"""

import json
import os
import runpy
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[3]
CONVERTED = "converted.json"  # in the conversion cache: every rank has loaded from it


def patch(sft: ModuleType, environ: Mapping[str, str]) -> None:
    """Replace, in NeMo-RL's sft module, what it builds its run from, and wrap its setup and its validate."""
    sys.path.insert(0, str(ROOT))
    from omr.recipe import Run
    from omr.run import checkpoints, lease
    from omr.run.nemo_rl_version import PINNED_VERSION
    from omr.training.nemo_rl.held_out import HeldOut
    from omr.workspace import RunFolder

    for name in PINNED_VERSION.hooks:
        if not hasattr(sft, name):
            sys.exit(
                f"error: this NeMo-RL has no {name} in nemo_rl/algorithms/sft.py; use the pinned version"
            )

    metrics_file = Path(environ["OMR_METRICS"]) if environ.get("OMR_METRICS") else None
    held_out = HeldOut(sft.validate, metrics_file.touch if metrics_file else lambda: None)

    class Deadline(sft.TimeoutChecker):
        """Saves and stops before the allocation ends, or when asked to."""

        def mark_iteration(self) -> None:
            super().mark_iteration()
            self.iteration_times[-1] -= held_out.take_seconds()  # what is left is a step's own

        def check_save(self) -> bool:
            sys.stdout.flush()
            sys.stderr.flush()
            lease.check()
            if self.last_saved:
                return False
            recent = self.iteration_times[-5:]
            step = sum(recent) / len(recent) if recent else 0.0
            ahead = step + held_out.seconds_before_next_save(step)
            late = time.time() + ahead >= float(environ.get("OMR_DEADLINE") or "inf")
            if late or Path(environ.get("OMR_STOP") or "/nonexistent").exists():
                self.last_saved = True
            return self.last_saved

    class Sealed(sft.CheckpointManager):
        """Gives a checkpoint its final name only when it is on disk, listed, and ours to write."""

        def finalize_checkpoint(self, checkpoint_path: os.PathLike) -> None:
            checkpoints.seal(Path(checkpoint_path))
            lease.check()
            super().finalize_checkpoint(checkpoint_path)
            folder = RunFolder(Path(checkpoint_path).parent.parent)
            if request := checkpoints.frozen_request(folder):
                saved = checkpoints.Checkpoints(folder, "nemo-rl")
                saved.tidy(Run.from_dict(request["recipe"]), saved.whole())

    class Metrics(sft.Logger):
        """Writes each step's numbers where make status reads them."""

        def log_metrics(
            self, metrics: dict, step: int, prefix: str = "", *more: object, **named: object
        ) -> None:
            super().log_metrics(metrics, step, prefix, *more, **named)
            if prefix == "train":
                held_out.step = step
            if metrics_file and prefix in ("train", "timing/train", "validation"):
                plain = {k: float(v) for k, v in metrics.items() if isinstance(v, int | float)}
                with metrics_file.open("a") as handle:
                    handle.write(json.dumps({"step": step, "time": time.time(), **plain}) + "\n")

    original = sft.setup

    def setup(
        master_config: Mapping, tokenizer: object, train_dataset: object, val_dataset: object
    ) -> object:
        held_out.begin(master_config, val_dataset)
        built = original(master_config, tokenizer, train_dataset, val_dataset)
        cache = Path(environ.get("NRL_MEGATRON_CHECKPOINT_DIR") or "/nonexistent")
        if cache.is_dir() and not (cache / CONVERTED).exists():
            found = {str(p.relative_to(cache)): p.stat().st_size for p in cache.rglob("*") if p.is_file()}
            aside = cache / f".{CONVERTED}"
            aside.write_text(json.dumps({"time": time.time(), "files": found}) + "\n")
            aside.replace(cache / CONVERTED)
        return built

    sft.TimeoutChecker, sft.CheckpointManager, sft.Logger = Deadline, Sealed, Metrics
    sft.setup, sft.validate = setup, held_out.validate


def check_keys(config: Path) -> dict:
    """The run's file, every key of which is in this very NeMo-RL's example, or named by its code alone."""
    sys.path.insert(0, str(ROOT))
    import yaml

    from omr.training.nemo_rl import keys

    values = yaml.safe_load(config.read_text())
    example = Path(values["defaults"])
    if unknown := keys.unknown_here(values, yaml.safe_load(example.read_text())):
        sys.exit(f"error: {unknown[0]} is no key of {example}; this image is not the pinned NeMo-RL")
    return values


def prepared_words(values: Mapping, environ: Mapping[str, str]) -> list[str]:
    """Words of Hydra's grammar: the prepared data sets in place of the files that the run's file names."""
    words = []
    if prepared := environ.get("OMR_DATA"):
        words.append(f"++data.train.data_path={_quoted(prepared)}")
    if (prepared := environ.get("OMR_VALIDATION")) and values["data"]["validation"]:
        sets = [
            {**each, "data_path": str(Path(prepared, Path(each["data_path"]).stem))}
            for each in values["data"]["validation"]
        ]
        listed = ",".join(
            "{" + ",".join(f"{key}:{_quoted(value)}" for key, value in each.items()) + "}" for each in sets
        )
        words.append(f"++data.validation=[{listed}]")
    return words


def _quoted(value: str | None) -> str:
    return "null" if value is None else "'" + value.replace("'", "\\'") + "'"


def main(argv: list[str], environ: Mapping[str, str]) -> None:
    """Check the keys, patch, and hand over to NeMo-RL's script."""
    values = check_keys(Path(argv[argv.index("--config") + 1]))
    sys.path.insert(0, str(Path.cwd()))
    import nemo_rl.algorithms.sft as sft

    patch(sft, environ)
    argv = [*argv, *prepared_words(values, environ)]
    if recovery := environ.get("RECOVERY"):
        argv = [*argv, f"++checkpointing.save_period={int(recovery)}"]
    from omr.run.nemo_rl_version import PINNED_VERSION

    sys.argv = [PINNED_VERSION.script, *argv]
    runpy.run_path(PINNED_VERSION.script, run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:], dict(os.environ))
