"""This start of this link: what it trains, where, and how the event log names it."""

import os
from dataclasses import dataclass, field

from omr import recipe, settings
from omr.request import TrainRequest
from omr.run import notify
from omr.run.chain_state import Submitted
from omr.run.checkpoints import Checkpoints
from omr.run.events import log_event
from omr.workspace import RunFolder, Workspace


@dataclass
class Attempt:
    """One start of one job; Slurm may start a job again."""

    request: TrainRequest
    folder: RunFolder
    workspace: Workspace
    job: str  # Slurm's id
    restart: int  # how often Slurm had requeued the job before
    link: str  # `2 of 4`
    checkpoints: Checkpoints
    margin: int | None = None  # seconds before the allocation's end by which saving begins; None: learned
    stopped: list[str] = field(default_factory=list)  # why it was asked to stop

    @classmethod
    def of_this_job(cls, request: TrainRequest, workspace: Workspace) -> "Attempt":
        """This process's own, as Slurm's variables name it; an OmrError for a MARGIN that is no number."""
        folder = workspace.run(request.run)
        return cls(
            request,
            folder,
            workspace,
            job=os.environ.get("SLURM_ARRAY_JOB_ID") or os.environ["SLURM_JOB_ID"],
            restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
            link=f"{os.environ.get('LINK', '?')} of {os.environ.get('LINKS', '?')}",
            checkpoints=Checkpoints(folder, request.engine),
            margin=settings.number("MARGIN"),
        )

    @property
    def run(self) -> recipe.Run:
        """The run that it trains."""
        return self.request.run

    @property
    def who(self) -> str:
        """How the event log names it."""
        return f"link {self.link}, job {self.job}" + (f", start {self.restart + 1}" if self.restart else "")

    def log(self, line: str) -> None:
        """Write a line to the run's event log and to this job's own log."""
        print(line, flush=True)
        log_event(self.folder, f"{self.who}: {line}")

    def tell(self, how: str, why: str, of_chain: bool = True) -> None:
        """Tell NOTIFY how the chain has ended, or (not `of_chain`) this job of it alone."""
        chain = Submitted.load(self.folder.jobs_json).chain or "run"
        ending = chain if of_chain else f"{chain}-{self.job}"
        title = f"{self.run.title} {how}"
        notify.tell(self.folder, title, f"{title}: {why} ({self.who})", self.folder.event_log, ending)
