"""cot: the problem in the prompt of written-out solutions; one request, one answer."""

import hashlib
import json
from collections.abc import Mapping

from omr.evaluation.grading.rules import boxed
from omr.evaluation.modes.base import Mode
from omr.evaluation.request import Sampling
from omr.evaluation.samples import Answer, SampleId
from omr.evaluation.servers.client import Client


class Cot(Mode):
    """`texts` is what each problem is asked with, by Problem.id."""

    def __init__(self, texts: Mapping[str, str], sampling: Sampling) -> None:
        self._texts, self._sampling = texts, sampling
        self.identity = {"mode": "cot", "prompts": digest(texts)}

    async def answer(self, client: Client, sample: SampleId) -> Answer:
        done = await client.complete(self._texts[sample.problem], self._sampling, sample.number)
        return Answer(done.text, boxed(done.text), done.ended, done.tokens)


def digest(texts: Mapping[str, str]) -> str:
    """Hex digest of prompts."""
    return hashlib.sha256(json.dumps(dict(texts), sort_keys=True).encode()).hexdigest()
