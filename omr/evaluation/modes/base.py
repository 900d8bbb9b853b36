"""What every mode has in common."""

import abc
from typing import Self

from omr.evaluation.samples import Answer, SampleId
from omr.evaluation.servers.client import Client
from omr.files import Json


class Mode(abc.ABC):
    """Answers samples of problems, all at once where it is asked so."""

    identity: Json  # everything that decides an answer beside model, engine and sampling, as plain values

    @abc.abstractmethod
    async def answer(self, client: Client, sample: SampleId) -> Answer:
        """One sample's answer. An OmrError where the server gives none."""

    async def __aenter__(self) -> Self:
        """Answers are asked for between this and `__aexit__`, in one event loop."""
        return self

    async def __aexit__(self, *_: object) -> bool:
        """End what it holds; what was raised goes on."""
        return False
