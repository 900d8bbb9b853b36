"""When an engine has to begin its last save: the end of the allocation, less what a save may take."""

import contextlib
import time

from omr.cluster import slurm
from omr.errors import OmrError

FIRST_MARGIN = 600  # seconds before the end, as long as no save was measured
LEAST_MARGIN = 60
ASK_EVERY = 60  # seconds after which Slurm is asked again for the end


def learned_margin(save_seconds: float | None, left: float | None = None) -> int:
    """Seconds before the end by which saving must begin: twice the longest save seen, and half a minute.

    Before any save was seen ten minutes, but no more than a quarter of what is `left` of the allocation.
    Never more than half of that, or each link of a chain would save after its first step.
    """
    if not save_seconds:
        return int(min(FIRST_MARGIN, left / 4 if left else FIRST_MARGIN))
    wanted = max(LEAST_MARGIN, 2 * save_seconds + 30)
    return int(min(wanted, left / 2 if left else wanted))


class Deadline:
    """The deadline of one job; its end is asked for again each minute, because a limit may be changed."""

    def __init__(self, job: str, margin: int | None, save_seconds: float | None) -> None:
        """`margin` is the user's MARGIN in seconds, None to learn it from the longest save seen."""
        self.job = job
        self.end: float | None = None  # seconds since the epoch; None: the allocation has no end
        self.ask()
        left = self.end - time.time() if self.end else None
        self.margin = learned_margin(save_seconds, left) if margin is None else margin

    @property
    def moment(self) -> float | None:
        """Seconds since the epoch by which saving must begin; None where the allocation has no end."""
        return self.end - self.margin if self.end else None

    def ask(self, **how_long: float) -> None:
        """Ask Slurm for the end; `how_long` are `slurm.end_time`'s tries and patience."""
        self.asked = time.time()
        with contextlib.suppress(OmrError):  # the controller may be away: the end that we know stands
            self.end = slurm.end_time(self.job, **how_long) or self.end

    def ask_briefly(self) -> None:
        """The same without waiting long: the engine is not watched meanwhile."""
        self.ask(tries=1, patience=10)

    def passed(self) -> bool:
        """Whether it is time to save and stop."""
        if time.time() - self.asked > ASK_EVERY:
            self.ask_briefly()
        return self.moment is not None and time.time() >= self.moment
