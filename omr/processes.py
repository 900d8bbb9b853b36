"""What a process of this toolkit settles for itself: its cores, its end, the manners of its libraries."""

import ctypes
import os
import signal
import sys
import warnings
from pathlib import Path

PR_SET_PDEATHSIG = 1  # prctl(2)


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory() -> int | None:
    """Bytes of memory that a process may still take, by the kernel and this control group; None: not told."""
    meminfo, group = Path("/proc/meminfo"), Path("/sys/fs/cgroup")
    if not meminfo.exists():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024  # it says kB and counts KiB
    limit, used = group / "memory.max", group / "memory.current"
    if limit.exists() and used.exists() and (most := limit.read_text().strip()).isdigit():
        available = min(available, int(most) - int(used.read_text()))
    return available


def end_with(parent: int) -> None:
    """Have the kernel end this process with its parent, however and whenever that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before it could be asked for
        os._exit(1)


def let_threads_sleep() -> None:
    """Make torch's threads sleep, not spin, while they wait for each other; call it before torch is imported.

    Spinning gains a little on an idle machine. Where another process wants the cores, it made a step of the
    tiny recipe nine times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def no_advice() -> None:
    """Keep transformers from advising to install torch, which the data tier does without."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def quiet() -> None:
    """Turn off the warnings and progress bars of transformers, torch, TRL and accelerate."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="torch|transformers|trl|accelerate")
