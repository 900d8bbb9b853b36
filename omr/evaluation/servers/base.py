"""What every kind of server has in common."""

import abc
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from omr.evaluation.servers.client import Endpoint
from omr.evaluation.servers.process import ServerProcess


@dataclass(frozen=True)
class Engine:
    """What decides an answer beside the model and what it is asked."""

    name: str  # vllm, transformers, or server: one that was running already
    version: str
    device: str  # cuda, cpu, or unknown
    dtype: str  # that it computes in


class Server(abc.ABC):
    """Serves one model after another; a context manager, which ends what it started."""

    engine: Engine

    def __init__(self) -> None:
        self.processes: list[ServerProcess] = []  # what there is to watch

    @abc.abstractmethod
    def serve(self, model: Path) -> Sequence[Endpoint]:
        """Where `model` is asked; returns when it answers there. An OmrError where that cannot be."""

    def stop(self) -> None:
        """End the processes, all at once."""
        with contextlib.ExitStack() as stack:
            for process in self.processes:
                stack.callback(process.stop)
        self.processes = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self, processes: list[ServerProcess], seconds: float) -> None:
        """Start them together, and wait until each answers."""
        self.processes = processes
        for process in processes:
            process.start()
        for process in processes:
            process.wait_until_ready(seconds)
