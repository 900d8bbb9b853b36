"""What a training tells about each step: numbers in the run's files and on W&B, a line for who watches."""

from omr.progress import Progress
from omr.run import metrics
from omr.run.metrics import Metrics
from omr.run.validation import LOSS
from omr.training.trl.config import EngineConfig
from omr.training.trl.wandb_log import WandbLog
from omr.workspace import RunFolder


class Reporter:
    """Writes each step's numbers to metrics.jsonl, TensorBoard and W&B, and draws the progress line."""

    def __init__(self, folder: RunFolder, config: EngineConfig, start: int) -> None:
        """`start`: the step that training goes on from; numbers of later steps are removed first."""
        self.title = config.title
        self.metrics = Metrics(folder, start)
        self.wandb = WandbLog(folder, config, start, metrics.read(folder.metrics))
        self.progress = Progress(config.title, config.steps, "steps")
        self.progress.start(start)
        self.held_out = ""  # the newest loss on held-out rows, for the progress line

    def step(self, step: int, loss: float, **numbers: float) -> None:
        """Report a step that is done."""
        self.metrics.add(step, loss=loss, **numbers)
        self.wandb.add(step, loss=loss, **numbers)
        if LOSS in numbers:
            self.held_out = f", held out {numbers[LOSS]:.3f}"
        self.progress.what = f"{self.title}, loss {loss:.3f}{self.held_out}"
        self.progress.set(step)

    def flush(self) -> None:
        """Write what is still buffered, before a checkpoint that stands on it."""
        self.metrics.flush()

    def close(self) -> None:
        """End the progress line and close the files."""
        self.metrics.close()
        self.progress.close()
        self.wandb.close()
