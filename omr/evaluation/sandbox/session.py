"""The sandbox as an evaluation uses it: a session for each solution, with its processes and its history."""

import asyncio
import contextlib
import json
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from typing import Self

from omr.errors import OmrError, choose
from omr.evaluation.sandbox import bubblewrap
from omr.evaluation.sandbox.limits import Limits, Output, Status
from omr.processes import cores

START_SECONDS = 120  # for the imports, which a cold file system makes slow
GRACE = 10  # seconds beyond the limit after which the supervisor itself is given up
CHOICES = ("bwrap", "none")
ENDED = "the evaluation was ended; run the same command again to go on"
LOST = (
    "RuntimeError: the session was restarted, and what ran before could not be run again;"
    " nothing is defined any more: define again what the next code needs.\n"
)


class Sandbox:
    """Where an evaluation's solutions run their code; an async context manager, made by `create`.

    As many executions run at once as there are cores; the others wait, and their clock has not begun.
    """

    def __init__(self, way: tuple[str, ...] | None, limits: Limits) -> None:
        """`way`: bubblewrap's options of isolation, None: without."""
        self._way, self.limits = way, limits
        self.turns = asyncio.Semaphore(cores())
        self._sessions: set[Session] = set()
        self._closed = False

    @classmethod
    def create(cls, kind: str | None, limits: Limits = Limits()) -> Self:
        """A sandbox of a kind (SANDBOX): bwrap, which is the default, or none, the same without isolation.

        A RequestError says why bubblewrap cannot isolate here.
        """
        isolated = choose("SANDBOX", kind or CHOICES[0], CHOICES) == "bwrap"
        return cls(bubblewrap.options(limits) if isolated else None, limits)

    def session(self) -> "Session":
        """A solution's own processes; none is started before its first execution."""
        session = Session(self)
        self._sessions.add(session)
        return session

    async def start(self) -> "Worker":
        """A worker that is ready; an OmrError where it does not come so far."""
        for _ in range(2):
            if self._closed:
                raise OmrError(ENDED)
            if worker := await Worker.start(self._way, self.limits):
                return worker
        raise OmrError(
            "the sandbox of a model's code no longer starts (is the machine out of memory or processes?);"
            " run the same command again to go on"
        )

    def forget(self, session: "Session") -> None:
        """Of a session that was closed."""
        self._sessions.discard(session)

    async def close(self) -> None:
        """End every process of every session; an execution that runs is refused."""
        self._closed = True
        await asyncio.gather(*(session.close() for session in list(self._sessions)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class Session:
    """One solution's executions: what one defines, the next one finds. An async context manager.

    Where its shell was lost (a limit, a crash), the completed executions are run again before the next one:
    so NeMo-Skills restores a session.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._worker: Worker | None = None
        self._completed: list[str] = []
        self._lost = self._closed = False

    async def run(self, code: str) -> Output:
        """Execute code and return what the model is shown. A session runs one execution at a time."""
        async with self._sandbox.turns:
            try:
                return await self._run(code)
            except BaseException:  # what was interrupted half-way has no state to go on from
                await self._end()
                raise

    async def close(self) -> None:
        """End its processes; an execution that runs is refused."""
        self._closed = True
        await self._end()
        self._sandbox.forget(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, code: str) -> Output:
        output = await self._restored_and_run(code)
        if output is None:  # killed from outside, perhaps: it is tried once more
            output = await self._restored_and_run(code)
        if output is None:
            return Output("connection closed\n", Status.ERROR)
        if output.status is Status.COMPLETED:
            self._completed.append(code)
        return output

    async def _restored_and_run(self, code: str) -> Output | None:
        """The output, after the completed executions where they were lost; None when a process ended."""
        for earlier in self._completed if self._lost else ():
            output = await self._execute(earlier)
            if output is None:
                return None
            if output.status is not Status.COMPLETED:
                self._completed.clear()
                await self._end()
                return Output(LOST, Status.ERROR)
        return await self._execute(code)

    async def _execute(self, code: str) -> Output | None:
        """One execution as it is; None when its process ended."""
        if self._closed:
            raise OmrError(ENDED)
        if self._worker is None:
            self._worker = await self._sandbox.start()
        reply = await self._worker.ask(code, self._sandbox.limits.seconds + GRACE)
        status = reply["status"]
        self._lost = status not in (Status.COMPLETED, Status.ERROR)
        if status == "unreachable":
            await self._end()
        if status == Status.TIMEOUT:
            text = f"Execution timed out after {float(self._sandbox.limits.seconds)} seconds\n"
            return Output(text, Status.TIMEOUT)
        return None if self._lost else Output(reply["text"], Status(status))

    async def _end(self) -> None:
        worker, self._worker, self._lost = self._worker, None, True
        if worker is not None:
            await worker.end()


@dataclass
class Worker:
    """A process of worker.py, as seen from here."""

    process: asyncio.subprocess.Process
    folder: str | None = None  # its temporary folder, where nothing isolates it

    @classmethod
    async def start(cls, way: tuple[str, ...] | None, limits: Limits) -> "Worker | None":
        """A process that is ready; None where it ended before."""
        folder = None
        if way is None:
            folder = tempfile.mkdtemp(prefix="omr-sandbox-")
            line = [sys.executable, "-P", str(bubblewrap.WORKER), bubblewrap.arguments(limits)]
            environment = {**bubblewrap.environment(), "PATH": os.defpath, "HOME": folder, "TMPDIR": folder}
        else:
            line, environment = bubblewrap.command(way, limits), bubblewrap.environment()
        process = await asyncio.create_subprocess_exec(
            *line,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=environment,
            cwd=folder,
            limit=100_000 + 30 * limits.characters,  # a reply takes up to 12 bytes a character
            start_new_session=True,  # an interrupt is the evaluation's to handle
        )
        worker = cls(process, folder)
        try:
            if (await worker._read(START_SECONDS))["status"] == "ready":
                return worker
        except BaseException:
            await worker.end()
            raise
        await worker.end()
        return None

    async def ask(self, code: str, seconds: float) -> dict[str, str]:
        """Its reply to code; status `unreachable` where none came, in time or at all."""
        try:
            self.process.stdin.write(f"{json.dumps(code)}\n".encode())
            return await self._read(seconds)
        except OSError:
            return {"status": "unreachable"}

    async def _read(self, seconds: float) -> dict[str, str]:
        try:
            line = await asyncio.wait_for(self.process.stdout.readline(), seconds)
            return json.loads(line) if line else {"status": "unreachable"}
        except (TimeoutError, ValueError):
            return {"status": "unreachable"}

    async def end(self) -> None:
        """End it with all that the code started, at once."""
        if self.folder is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
        self.process.stdin.close()  # not isolated, it ends the code's processes first
        try:
            await asyncio.wait_for(self._ended(), GRACE)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self._ended()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    async def _ended(self) -> None:
        with contextlib.suppress(RuntimeError):  # an execution that was interrupted reads it already
            await self.process.stdout.read()
        await self.process.wait()
