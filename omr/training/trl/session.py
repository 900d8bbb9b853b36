"""A session of training: from the step where one process takes a run up until it ends or is stopped."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from omr.run import lease
from omr.training.trl.config import EngineConfig
from omr.training.trl.process_group import ProcessGroup
from omr.workspace import RunFolder


@dataclass
class StopRule:
    """When to save and stop before the last step; it learns how long a step and a save take."""

    signals: list[str]  # grows when a signal asks this process to stop (omr/run/stopping.py)
    step_seconds: float = 0.0  # of the slowest step so far
    measuring_seconds: float = 0.0  # guessed, of the first measuring on held-out rows
    save_seconds: float = 0.0  # of the slowest save so far, with the measuring on held-out rows before it

    def must_stop(self) -> bool:
        """Whether to save and stop now: asked to, or after the next step it would be too late.

        Raises lease.Lost where another job has taken over the run.
        """
        lease.check()
        remaining = float(os.environ.get("OMR_DEADLINE") or "inf") - time.time()
        saving = max(self.save_seconds, self.measuring_seconds)
        too_late = remaining < 2 * self.step_seconds + saving
        stop_file = os.environ.get("OMR_STOP")
        return bool(self.signals or too_late or (stop_file and Path(stop_file).exists()))

    def step_took(self, seconds: float) -> None:
        """Note the seconds of a step."""
        self.step_seconds = max(self.step_seconds, seconds)

    def save_took(self, seconds: float) -> None:
        """Note the seconds of a save."""
        self.save_seconds = max(self.save_seconds, seconds)


@dataclass(frozen=True)
class Session:
    """What one process knows of the training that it is part of."""

    folder: RunFolder
    config: EngineConfig
    start: int  # the step whose checkpoint it goes on from; 0: from the base model
    processes: ProcessGroup
    stop_rule: StopRule

    @property
    def gpu(self) -> bool:
        """Whether it trains on a GPU: the configuration asks for it, and one is there."""
        import torch

        return self.config.gpu and torch.cuda.is_available()
