"""The processes of the data stage: how they begin, what they share, and how they end with their parent.

The crew is forked by one process that has imported Arrow and compiled json_lines.py (warm.py), while
the prompts are compiled elsewhere: that is done once, and its memory is there once.
"""

import contextlib
import ctypes
import gc
import importlib.abc
import importlib.machinery
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import forkserver
from pathlib import Path

from omr.data import formatting
from omr.data.corpus import Shard
from omr.errors import OmrError


@contextlib.contextmanager
def crew(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; an error or an interrupt ends them at once."""
    _start_forkserver()
    try:
        with _pool("forkserver", workers, start) as pool:
            yield pool
    finally:
        # It holds the compiler, and nothing is formatted any more; a later crew starts another. Its own end
        # waits for all that it has made, and this for that, so it is ended.
        with contextlib.suppress(ProcessLookupError, TypeError):
            os.kill(forkserver._forkserver._forkserver_pid, signal.SIGKILL)
        forkserver._forkserver._stop()


def _start_forkserver() -> None:
    """Let it begin with its imports; the first worker is forked behind them."""
    forkserver.set_forkserver_preload(["omr.data.warm"])
    # It finds this omr, and nothing in the folder that it is run from.
    words = {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONSAFEPATH": "1"}
    before = {word: os.environ.get(word) for word in words}
    os.environ.update(words)
    try:
        forkserver.ensure_running()
    finally:
        for word, value in before.items():
            if value is None:
                del os.environ[word]
            else:
                os.environ[word] = value


@contextlib.contextmanager
def _pool(method: str, workers: int, begin: Callable[[], None]) -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(method), begin)
    try:
        yield pool
    except (BrokenProcessPool, EOFError, ConnectionError):  # a worker's end, or that of the forkserver
        raise OmrError(
            "a process of the data stage was killed (out of memory?); run again to go on, with fewer WORKERS"
        ) from None
    finally:
        for process in (pool._processes or {}).values():
            process.kill()
        pool.shutdown(cancel_futures=True)


def meanwhile(
    pool: Executor, workers: int, found: list[Shard], function: Callable, *words: object
) -> tuple[object, dict[str, str]]:
    """Call `function` in a process of its own, whose imports end with it; until then the crew hashes shards.

    Returns what it returned, and name -> sha256 of the shards that were reached.
    """
    with _pool("spawn", 1, start_alone) as one, _no_script():
        asked = one.submit(function, *words)  # first: the crew's first task waits for the forkserver
        left, hashes, running = iter(found), {}, set()
        busy = workers  # which begins them; then one fewer, as all waits for the other process
        while not asked.done():
            for shard in itertools.islice(left, busy - len(running)):
                running.add(hashes.setdefault(shard.name, pool.submit(formatting.sha256, shard)))
            _, pending = wait([asked, *running], return_when=FIRST_COMPLETED)
            running, busy = running & pending, max(1, workers - 1)
        result = asked.result()
    return result, {name: future.result() for name, future in hashes.items()}


@contextlib.contextmanager
def _no_script() -> Iterator[None]:
    """Processes begun here do not import the script that was run: what they are asked for is in omr."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


def in_child(function: Callable, *words: object) -> object:
    """Call in a process of its own: what it imports and holds is gone when it ends."""
    with _pool("spawn", 1, start_alone) as pool, _no_script():
        return pool.submit(function, *words).result()


def start() -> None:
    """A process's beginning: end with the parent, leave interrupts to it."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def start_alone() -> None:
    """The same for a process that was not forked, and is there for one call."""
    start()
    lean()


def lean() -> None:
    """Make the imports of this process, and of those that it forks, quick and small; keep freed memory."""
    gc.disable()  # imports make much, and no garbage
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["RAYON_NUM_THREADS"] = "1"  # those of fastokens
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # as fast here, and smaller
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # its threads spin, and nothing is multiplied here
    # No tokenizer needs torch, whose import takes longer than that of all the rest.
    sys.modules.setdefault("torch", None)
    if not any(isinstance(finder, _NoPandas) for finder in sys.meta_path):
        sys.meta_path.insert(0, _NoPandas())
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:  # glibc: give back to the system, page by page, only what is far too much
        for option, size in ((-3, 1 << 28), (-1, 1 << 27), (-2, 1 << 24)):  # mmap from, trim at, grow by
            mallopt(option, size)


class _NoPandas(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """pyarrow imports pandas where it finds it, at a cost of time and memory; no column here needs it."""

    def find_spec(self, name: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == "pandas" else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        raise ModuleNotFoundError("pandas is not for the data stage", name=spec.name)

    def exec_module(self, module: object) -> None:
        """Never reached."""


def die_with_parent() -> None:
    """End this process when the run is gone, however it went: a killed run leaves no worker."""
    if os.uname().sysname == "Linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: of the process that made this one
    run = multiprocessing.parent_process()
    if run:
        # The forkserver made it, and lives as long as one that it has made.
        threading.Thread(target=lambda: (run.join(), os._exit(1)), daemon=True).start()
