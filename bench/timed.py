"""A command's seconds, with nothing left to write from before it, and the peak memory of its whole process tree."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path


class Memory(threading.Thread):
    """The largest proportional set size of a process and all below it, in bytes."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid, self.peak, self.over = pid, 0, threading.Event()

    def run(self) -> None:
        import psutil

        while not self.over.wait(0.1):
            total = 0
            try:
                process = psutil.Process(self.pid)
                for each in (process, *process.children(recursive=True)):
                    total += _pss(each.pid)
            except psutil.Error:
                continue
            self.peak = max(self.peak, total)


def _pss(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def timed(
    words: list[str | Path], environ: dict[str, str] | None = None, watch: bool = False
) -> tuple[float, int]:
    """Seconds of a command, with nothing left to write from before; its peak bytes, if watched."""
    os.sync()
    time.sleep(1)
    start = time.perf_counter()
    child = subprocess.Popen(
        words, env={**os.environ, **(environ or {})}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    memory = Memory(child.pid)
    if watch:
        memory.start()
    said, _ = child.communicate()
    seconds = time.perf_counter() - start
    memory.over.set()
    if child.returncode:
        sys.exit(f"{words}: {said.decode()}")
    return seconds, memory.peak
