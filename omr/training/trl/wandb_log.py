"""A training's numbers on Weights & Biases, beside metrics.jsonl: one W&B run over all resumptions.

Where WANDB_API_KEY is set it logs there; WANDB_MODE=offline keeps it in <run>/logs/wandb, for `wandb sync`.
What fails there is told in one line and never harms the training: from then on nothing more is sent.

A session that is killed loses what W&B had not written yet, offline all of it. So the next one sends what is
missing from metrics.jsonl: online W&B tells which step comes next; offline wandb.json lists the sessions that
ended, and the folder of one that did not is removed.
"""

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omr import settings
from omr.files import read_json, write_json
from omr.training.trl.config import EngineConfig
from omr.workspace import RunFolder

if TYPE_CHECKING:
    import wandb

PROJECT = "openmathreasoning"  # unless WANDB_PROJECT says otherwise; as in nemo_rl/sft.yaml
PATIENCE = 30  # seconds: for W&B to answer at the begin, and to take the last numbers at the end


def wanted() -> bool:
    """Whether the environment asks for W&B: by its key, or by WANDB_MODE=offline without one."""
    mode = os.environ.get("WANDB_MODE", "")
    return mode == "offline" or bool(os.environ.get("WANDB_API_KEY") and mode != "disabled")


class WandbLog:
    """Sends the numbers of each step; nothing where it is not wanted."""

    def __init__(self, folder: RunFolder, config: EngineConfig, start: int, rows: Sequence[dict]) -> None:
        """`start`: the step that training goes on from; `rows`: the numbers of the steps up to it.

        From step 0 on the W&B run is begun anew.
        """
        self._logs, self._last = folder.logs, 0
        self._run: wandb.Run | None = None
        if wanted():
            self._guarded(lambda: self._begin(folder, config, start, rows))

    def _begin(self, folder: RunFolder, config: EngineConfig, start: int, rows: Sequence[dict]) -> None:
        import wandb

        name = f"{folder.root.parent.name}-{folder.root.name}"  # NeMo-RL's runs are named so, too
        self._logs.mkdir(parents=True, exist_ok=True)
        known = self._ended_sessions()
        for left in self._logs.glob("wandb/offline-run-*"):
            if left.name not in known:
                shutil.rmtree(left)
        self._run = wandb.init(
            project=settings.get("WANDB_PROJECT") or PROJECT,
            entity=settings.get("WANDB_ENTITY"),
            name=name,
            id=f"{name}-{config.identity[:8]}",
            resume="allow" if start else None,
            dir=self._logs,
            config=config.as_json(),
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                init_timeout=PATIENCE,
                finish_timeout=PATIENCE,
                finish_timeout_raises=False,
            ),
        )
        if start:
            self._last = max(known.values(), default=0) if self._run.offline else self._run.step - 1
        for row in rows:
            self._send(**row)

    def add(self, step: int, **numbers: float) -> None:
        """The numbers of a step, unless an earlier session has sent them."""
        if self._run:
            self._guarded(lambda: self._send(step, **numbers))

    def close(self) -> None:
        """End of the session; the W&B run may go on in the next one."""
        if self._run:
            self._guarded(self._end)
            self._run = None

    def _send(self, step: int, **numbers: float) -> None:
        if step > self._last:
            self._run.log(numbers, step=step)
            self._last = step

    def _end(self) -> None:
        self._run.finish()
        if self._run.offline:
            session = Path(self._run.dir).parent.name
            write_json(self._record, {**self._ended_sessions(), session: self._last})

    @property
    def _record(self) -> Path:
        return self._logs / "wandb.json"

    def _ended_sessions(self) -> dict[str, int]:
        """Of each offline session that ended, the name of its folder and its last step."""
        return read_json(self._record) if self._record.exists() else {}

    def _guarded(self, call: Callable[[], object]) -> None:
        """Whatever W&B raises ends the logging there, and nothing else."""
        try:
            call()
        except Exception as error:
            self._run = None
            why = " ".join(str(error).split())[:200] or type(error).__name__
            print(f"W&B: {why}; training goes on without it, metrics.jsonl has all", file=sys.stderr)
