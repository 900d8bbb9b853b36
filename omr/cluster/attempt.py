"""This start of this link: what it trains, where, and how the event log names it."""

from dataclasses import dataclass, field

from omr import recipe
from omr.request import TrainRequest
from omr.run.checkpoints import Checkpoints
from omr.run.events import log_event
from omr.workspace import RunFolder, Workspace


@dataclass
class Attempt:
    """This start of this job."""

    request: TrainRequest
    folder: RunFolder
    workspace: Workspace
    job: str
    restart: int
    link: str  # `2 of 4`
    checkpoints: Checkpoints
    margin: int | None = None  # seconds; None: learned
    stopped: list[str] = field(default_factory=list)  # why it was asked to stop

    @property
    def run(self) -> recipe.Run:
        """The run that it trains."""
        return self.request.run

    @property
    def who(self) -> str:
        """How the event log names it."""
        return f"link {self.link}, job {self.job}" + (f", start {self.restart + 1}" if self.restart else "")

    def say(self, line: str) -> None:
        """Into the event log and this job's own log."""
        print(line, flush=True)
        log_event(self.folder, f"{self.who}: {line}")
