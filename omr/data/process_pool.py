"""The processes of the data stage: workers for the shards, and a process of its own for a single call.

All are forked, so that they find this omr and nothing in the folder that the user is in, and end with the
process that made them, however that ends.
"""

import contextlib
import ctypes
import gc
import importlib.abc
import importlib.machinery
import multiprocessing
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

from omr.errors import OmrError
from omr.processes import end_with

FORK = multiprocessing.get_context("fork")
KILLED = "a process of the data stage was killed (out of memory?); run again to go on, with fewer WORKERS"
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3  # mallopt(3)


@contextlib.contextmanager
def workers(count: int) -> Iterator[Executor]:
    """`count` processes for the shards. An error or an interrupt kills them; OmrError if one was killed."""
    share()
    pool = ProcessPoolExecutor(count, FORK, _begin, (os.getpid(),))
    try:
        with _interrupts_later():
            pool.submit(int)  # the first task forks them all
        yield pool
    except BaseException as error:
        for process in multiprocessing.active_children():
            process.kill()
        if isinstance(error, BrokenProcessPool):
            raise OmrError(KILLED) from None
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_later() -> Iterator[None]:
    """Hold interrupts back while a process is forked.

    Python ignores what is raised in the callbacks that it runs after a fork: an interrupt would be lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def share() -> None:
    """Load what every worker needs before they are forked: it takes time and memory once."""
    _environment()
    import pyarrow.compute
    import pyarrow.parquet  # noqa: F401

    from omr.data import json_lines

    json_lines.compiled()


def _environment() -> None:
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # as fast here as Arrow's own, and smaller
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # nothing is multiplied here, and its threads spin
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"  # the threads of fastokens
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"


def _keep_freed_memory() -> None:
    """Batches of a few megabytes come and go; giving each back to the system costs a third of the loop."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's
    if mallopt:
        for option, size in ((M_MMAP_THRESHOLD, 1 << 28), (M_TRIM_THRESHOLD, 1 << 27), (M_TOP_PAD, 1 << 24)):
            mallopt(option, size)


def _begin(parent: int) -> None:
    """A process's beginning: end with the parent, and leave interrupts to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with(parent)
    _keep_freed_memory()
    sys.meta_path.insert(0, _NoPandas())


class _NoPandas(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """pyarrow imports pandas where it is installed, as long as all the rest takes; nothing here needs it."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == "pandas" else None

    def exec_module(self, module: types.ModuleType) -> None:
        raise ModuleNotFoundError("pandas is not for the data stage", name="pandas")


class Child:
    """A function's call in a process of its own: what it imports and holds is gone when it ends."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        _environment()
        self._answer, theirs = FORK.Pipe(duplex=False)
        self._process = FORK.Process(target=_answer, args=(theirs, os.getpid(), function, arguments))
        with _interrupts_later():
            self._process.start()
        theirs.close()

    def done(self) -> bool:
        """Whether `result` would return at once."""
        return self._answer.poll()

    def result(self) -> object:
        """What the function returned, or the error that it raised."""
        try:
            value = self._answer.recv()
        except EOFError:
            raise OmrError(KILLED) from None
        finally:
            self._process.join()
        if isinstance(value, BaseException):
            raise value
        return value


def _answer(
    answer: Connection, parent: int, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    _begin(parent)
    gc.disable()  # imports make much, and no garbage
    # No tokenizer needs torch, whose import takes longer than that of all the rest.
    sys.modules.setdefault("torch", None)
    try:
        answer.send(function(*arguments))
    except Exception as error:
        answer.send(error)
