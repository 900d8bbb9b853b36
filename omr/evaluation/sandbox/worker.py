"""What runs inside the sandbox: a supervisor that holds the limits, and the IPython shell that it forks.

Requests come on stdin and replies go to stdout, a JSON line each; only the supervisor has those two. The
model's code runs in the shell, whose process it can do with as it likes. Between two executions every process
but the supervisor stands still. This file imports the standard library and IPython alone: it is started by
its path, where nothing else of this package is seen.
"""

import contextlib
import ctypes
import io
import json
import os
import re
import resource
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

WATCH = 0.1  # seconds between two looks at the processes of an execution that runs
KEPT = 1_000_000  # characters of a stream that are kept until they are cleaned and cut
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4  # prctl(2)
# IPython colours what it writes, numbers its results, and names cells as files; the model sees none of it.
ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[@-Z_-])")
RESULT_NUMBER = re.compile(r"^Out\[\d+\]:\s*")
CELL_NAME = "File <ipython-"


def main(uid: int | None, limits: dict[str, float]) -> None:
    """Serve requests until stdin ends. `uid`: the user to become, where root started this."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # of no effect on process 1
    from IPython.terminal import interactiveshell

    del interactiveshell  # loaded, so that each shell has it at once
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    _prctl(PR_SET_DUMPABLE, 0)  # no process of the same user may look into this one
    supervisor = Supervisor(limits)
    supervisor.start()
    _answer({"status": "ready"})
    for line in _requests():
        _answer(supervisor.execute(json.loads(line)))
    supervisor.end()


def _requests() -> Any:
    """The lines of stdin, none read ahead, so that select tells whether it ended."""
    line = b""
    while chunk := os.read(0, 65536):
        line += chunk
        if line.endswith(b"\n"):
            yield line
            line = b""


def _answer(reply: dict[str, str]) -> None:
    data = f"{json.dumps(reply)}\n".encode()
    while data:
        data = data[os.write(1, data) :]


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


class Supervisor:
    """Runs code in its shell within the limits; a shell that is lost is replaced at the next execution."""

    def __init__(self, limits: dict[str, float]) -> None:
        self._limits = limits
        self._shell: int | None = None  # its process id
        self._requests = self._replies = -1

    def start(self) -> None:
        """Fork a shell and wait until it is ready; it ends with this process."""
        mine, its = os.pipe(), os.pipe()
        self._shell = os.fork()
        if self._shell == 0:
            os.close(its[1]), os.close(mine[0])
            _serve(its[0], mine[1], self._limits)
        os.close(its[0]), os.close(mine[1])
        self._replies, self._requests = mine[0], its[1]
        if not os.read(self._replies, 1):
            sys.exit(
                "its shell does not start: a package that it needs cannot be read, or its memory is too small"
            )
        os.set_blocking(self._requests, False)
        os.set_blocking(self._replies, False)

    def execute(self, code: str) -> dict[str, str]:
        """The reply to one request: its status (completed, error, timeout or died) and text."""
        if self._shell is None:
            self.start()
        with contextlib.suppress(BlockingIOError):  # what code wrote there that was not asked
            while os.read(self._replies, 65536):
                pass
        self._signal(signal.SIGCONT)
        reply = self._reply(f"{json.dumps(code)}\n".encode(), time.monotonic() + self._limits["seconds"])
        if reply["status"] in ("completed", "error"):
            self._signal(signal.SIGSTOP)
        else:
            self.end()
        return reply

    def _reply(self, request: bytes, deadline: float) -> dict[str, str]:
        received = b""
        while (left := deadline - time.monotonic()) > 0:
            asked = [self._requests] if request else []
            readable, writable, _ = select.select([0, self._replies], asked, [], min(WATCH, left))
            ready = [*readable, *writable]
            if 0 in ready:  # nothing is asked meanwhile: the evaluation has ended
                self.end()
                os._exit(0)
            try:
                if self._requests in ready:
                    request = request[os.write(self._requests, request) :]
                if self._replies in ready:
                    chunk = os.read(self._replies, 65536)
                    if not chunk:  # the code has closed it
                        break
                    received += chunk
            except OSError:
                break
            if b"\n" in received:
                return self._checked(received)
            # A reply takes up to 12 bytes a character.
            endless = len(received) > 100_000 + 30 * self._limits["characters"]
            if endless or self._has_died() or self._is_too_much():
                break
        else:
            return {"status": "timeout", "text": ""}
        return {"status": "died", "text": ""}

    def _checked(self, received: bytes) -> dict[str, str]:
        """The shell's reply; the model's code may have written another in its place."""
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            reply = json.loads(received.partition(b"\n")[0])
            if reply["status"] in ("completed", "error"):
                return {"status": reply["status"], "text": str(reply["text"])[: self._longest()]}
        return {"status": "died", "text": ""}

    def _longest(self) -> int:
        return 2 * (int(self._limits["characters"]) + len(cut("xx", 1)))

    def _has_died(self) -> bool:
        """Whether the shell has ended. Reaps what has ended, also what the code left behind."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                if ended == self._shell:
                    return True
        return False

    def _is_too_much(self) -> bool:
        """Whether there are too many processes, or they take too much memory together."""
        pages = [
            size for size in map(self._resident, filter(str.isdigit, _listing("/proc"))) if size is not None
        ]
        memory = sum(pages) * resource.getpagesize()
        return len(pages) > self._limits["processes"] or memory > self._limits["megabytes"] * 1_000_000

    def _resident(self, process: str) -> int | None:
        """Pages of memory that a process has, None for one that is not the code's: proc(5), stat."""
        try:
            fields = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            return None
        mine = int(process) != 1 if os.getpid() == 1 else int(fields[3]) == self._shell
        return int(fields[21]) if mine else None

    def _signal(self, number: int) -> None:
        """To every process of the code at once. As process 1, this sees no other processes than those."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getpid() == 1:
                os.kill(-1, number)
            elif self._shell:
                os.killpg(self._shell, number)

    def end(self) -> None:
        """End every process of the code."""
        if self._shell is None:
            return
        self._signal(signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, 0):
                pass
        os.close(self._requests), os.close(self._replies)
        self._shell = None


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208 - names, ten times a second
    except OSError:
        return []


def _serve(requests: int, replies: int, limits: dict[str, float]) -> NoReturn:
    """The shell's process: code in, what it wrote and how it ended out. The code can change all of this."""
    try:
        os.setsid()
        _prctl(PR_SET_DUMPABLE, 1)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        _limit(limits)
        shell = _shell()
        sys.path.insert(0, "")  # a module that the code wrote
        me = os.getpid()
        os.write(replies, b"r")
        with os.fdopen(requests, "rb") as lines, os.fdopen(replies, "wb") as answers:
            for line in lines:
                reply = execute(shell, json.loads(line), int(limits["characters"]))
                if os.getpid() != me:  # the code has forked, and this copy of it came to its end
                    break
                answers.write(f"{json.dumps(reply)}\n".encode())
                answers.flush()
    finally:
        os._exit(1)


def _limit(limits: dict[str, float]) -> None:
    """The kernel's limits of this process and of each that it starts."""
    size, files = int(limits["megabytes"]) * 1_000_000, int(limits["file_megabytes"]) * 1_000_000
    wanted = {"AS": size, "FSIZE": files, "CORE": 0, "NOFILE": 256, "MSGQUEUE": 0}
    if os.getppid() == 1:  # elsewhere the user's other processes would count
        wanted["NPROC"] = int(limits["processes"]) + 1
    for name, value in wanted.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):  # unknown here, or lower already
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))
    with contextlib.suppress(OSError):  # where memory runs out, this goes first
        Path("/proc/self/oom_score_adj").write_text("1000")


def _shell() -> Any:
    from IPython.terminal.interactiveshell import TerminalInteractiveShell
    from traitlets.config import Config

    shell = TerminalInteractiveShell(config=Config(HistoryManager={"enabled": False}))
    shell.history_manager.outputs = Forgotten()
    return shell


class Forgotten(dict):
    """In place of all that was ever written, which IPython keeps and nothing here reads."""

    def __setitem__(self, *_: object) -> None:
        pass

    def __missing__(self, _: object) -> list:
        return []


class Captured(io.StringIO):
    """A stream that keeps its beginning, however much is written."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, KEPT - self.tell())])
        return len(text)


def execute(shell: Any, code: str, characters: int) -> dict[str, str]:
    """Run one cell, as NeMo-Skills' server runs it: plain tracebacks, stdout and stderr each cut."""
    out, err = Captured(), Captured()
    shell.InteractiveTB.set_mode(mode="Plain")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            result = shell.run_cell(code)
        repr(result.result)  # the server sends it, and fails where it cannot be written
        status = "completed" if result.success else "error"
    except Exception:
        status = "error"
        err.write(f"\n{traceback.format_exc()}\n")
    return {"status": status, "text": "".join(cut(clean(s.getvalue()), characters) for s in (out, err))}


def clean(text: str) -> str:
    """A stream as the model is shown it: without escapes, cells' names, results' numbers and blank ends."""
    lines = ESCAPE.sub("", text).split("\n")
    kept = [RESULT_NUMBER.sub("", line) for line in lines if not line.strip().startswith(CELL_NAME)]
    text = "\n".join(kept).lstrip("\n").rstrip()
    return f"{text}\n" if text else ""


def cut(text: str, characters: int) -> str:
    """At most so many characters, and a word about the rest."""
    return text if len(text) <= characters else f"{text[:characters]}<output cut>"


if __name__ == "__main__":
    main(**json.loads(sys.argv[1]))
