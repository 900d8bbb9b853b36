"""Keeps a server's process: runs a command until it ends, or until nobody holds this one's stdin open.

`python -m omr.evaluation.servers.keeper COMMAND [ARG…]`, as the leader of a session of its own. The kernel
closes stdin with the process that started this one, however that ended; the command and all that it started
are killed then. Exits as the command does.
"""

import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading

from omr.processes import end_with

PATIENCE = 10  # seconds between asking the command to end and killing it


def main(command: list[str]) -> int:
    """Run the command; its exit code as subprocess says it."""
    # Ends with this process too, should that be killed itself.
    ended_by_kernel = functools.partial(end_with, os.getpid())
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=ended_by_kernel)
    threading.Thread(target=_end_with_stdin, args=(child,), daemon=True).start()
    code = child.wait()
    _kill_the_others()
    return code


def _end_with_stdin(child: subprocess.Popen) -> None:
    """Wait until stdin ends; then end the command, patiently."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(PATIENCE)
    child.kill()


def _kill_the_others() -> None:
    """Kill what the command left behind in this session's group, but for this process."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.killpg(0, signal.SIGTERM)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code if code >= 0 else 128 - code)  # the other thread still waits for stdin
