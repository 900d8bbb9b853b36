"""The run's event log, story.txt: what happened to its jobs, a line each, for people."""

import contextlib
from datetime import datetime

from omr.workspace import RunFolder


def log_event(folder: RunFolder, line: str) -> None:
    """Append a line to the run's event log; on a full disk the job's own log has to do."""
    with contextlib.suppress(OSError), folder.event_log.open("a") as handle:
        handle.write(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}\n")
