"""What every mode has in common."""

import abc

from omr.evaluation.samples import Answer, SampleId
from omr.evaluation.servers.client import Client
from omr.files import Json


class Mode(abc.ABC):
    """Answers samples of problems, all at once where it is asked so."""

    identity: Json  # everything that decides an answer beside model, engine and sampling, as plain values

    @abc.abstractmethod
    async def answer(self, client: Client, sample: SampleId) -> Answer:
        """One sample's answer. An OmrError where the server gives none."""

    def close(self) -> None:  # noqa: B027 (most modes hold nothing)
        """End what it holds."""
