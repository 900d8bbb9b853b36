"""What is seen of a run at a look: its status, its loss so far, and whether it goes on."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omr import recipe, settings
from omr.cluster import slurm, status
from omr.cluster.status import Status
from omr.files import holder_lives
from omr.reports.watch.follow import Follower
from omr.run import frozen
from omr.workspace import RunFolder, manifest_of

ASK_SLURM = 30  # seconds after which Slurm is asked again about the jobs
SILENT = 900  # seconds without a step after which a training on another machine counts as ended


@dataclass(frozen=True)
class Look:
    """A run at one moment."""

    status: Status
    losses: Sequence[float]  # of every step so far
    live: bool  # jobs wait or run, or a process trains

    @property
    def title(self) -> str:
        """How a person calls the run."""
        return self.status.title


class Watched:
    """A run that is looked at again and again."""

    def __init__(self, run: recipe.Run, folder: RunFolder) -> None:
        self.run, self.folder = run, folder
        self.follower = Follower(folder.metrics)
        self._before: Status | None = None
        self._asked = 0.0

    def look(self) -> Look:
        """The run now; its jobs as Slurm had them at most half a minute ago."""
        now, limit = time.monotonic(), slurm.limit(settings.get("TIME"))
        known = self._before if now - self._asked < ASK_SLURM else None
        steps = self.follower.look()
        found = status.of(self.run, self.folder, limit, steps, known)
        if known is None:
            self._before, self._asked = found, now
        losses = [row["loss"] for row in steps if isinstance(row.get("loss"), (int, float))]
        return Look(found, losses, not found.final and self._goes_on(found))

    def _goes_on(self, found: Status) -> bool:
        """Whether anybody works on it; where Slurm does not answer, its jobs count as alive."""
        if found.rows:
            return found.live or bool(found.note)
        lives = holder_lives(self.folder.root / ".train.lock")
        return self._stepped_lately() if lives is None else lives

    def _stepped_lately(self) -> bool:
        try:
            return time.time() - self.folder.metrics.stat().st_mtime < SILENT
        except OSError:
            return False


def active(root: Path) -> list[Watched]:
    """Every run of the workspace that goes on, on Slurm or on this machine."""
    known = {folder.root: run for run, folder in status.runs(root)}
    for folder in (RunFolder(path.parent) for path in root.glob("runs/*/*/run.json")):
        if folder.root not in known and not manifest_of(folder.final).exists():
            known[folder.root] = frozen.run_of(folder)
    watched = [Watched(run, RunFolder(folder)) for folder, run in sorted(known.items())]
    return [each for each in watched if each.look().live]
