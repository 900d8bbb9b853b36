"""What an execution may cost, and what it comes to."""

from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True)
class Limits:
    """What one solution's executions may cost. The first two are the published evaluation's."""

    seconds: float = 10.0  # of wall-clock time, an execution
    characters: int = 1_000  # of stdout, and as many of stderr
    megabytes: int = 4_000  # of address space a process, and of memory all processes together
    processes: int = 64  # at once; threads count, where the kernel counts (Linux 5.14 and later)
    file_megabytes: int = 256  # a file, and all files together


class Status(StrEnum):
    """How an execution ended."""

    COMPLETED = "completed"
    ERROR = "error"  # it raised, or its process ended
    TIMEOUT = "timeout"


@dataclass(frozen=True)
class Output:
    """What the model is shown of an execution: its stdout, then its stderr, each cut."""

    text: str
    status: Status
