"""tir: a solution that calls Python. Stops at the end of code, runs it, goes on with what it put out.

The loop is that of NeMo-Skills (nemo_skills/inference/model/code_execution.py at the pinned commit).
"""

from collections.abc import Mapping
from typing import Self

from omr import manifest
from omr.evaluation.grading.rules import boxed
from omr.evaluation.modes import cot
from omr.evaluation.modes.base import Mode
from omr.evaluation.modes.prompts import CodeTags
from omr.evaluation.request import Sampling
from omr.evaluation.samples import Answer, SampleId
from omr.evaluation.sandbox import Sandbox
from omr.evaluation.servers.client import Client


class Tir(Mode):
    """`texts` is what each problem is asked with, by Problem.id; an answer runs code `executions` times."""

    def __init__(
        self, texts: Mapping[str, str], sampling: Sampling, executions: int, tags: CodeTags, sandbox: str
    ) -> None:
        """`sandbox` is a kind of Sandbox's; a RequestError where this machine cannot have it."""
        self._texts, self._sampling, self._tags, self._kind = texts, sampling, tags, sandbox
        self._executions = executions
        self._sandbox = Sandbox.create(sandbox)
        self.identity = {
            "mode": "tir",
            "prompts": cot.digest(texts),
            "tags": tags.identity,
            "executions": executions,
            "sandbox": sandbox,
            "versions": manifest.versions("ipython", "numpy", "scipy", "sympy"),
        }

    async def __aenter__(self) -> Self:
        self._sandbox = Sandbox.create(self._kind)  # it belongs to the event loop
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._sandbox.close()

    async def answer(self, client: Client, sample: SampleId) -> Answer:
        """One solution, whose code runs in a session of its own; state is kept between its executions.

        The tokens of all that the model writes count towards the limit, outputs do not.
        """
        prompt, tags = self._texts[sample.problem], self._tags
        text, tokens, executions, ended = "", 0, 0, False
        async with self._sandbox.session() as session:
            while True:
                left = self._sampling.max_tokens - tokens
                piece = await client.complete(
                    prompt + text, self._sampling, sample.number, left, stop=[tags.end]
                )
                written = closed(piece.text, tags)
                text, tokens, ended = text + written, tokens + piece.tokens, piece.ended
                code = code_at_end(written, tags)
                if code is None or executions == self._executions:
                    break
                ended = False  # it was stopped, to run its code
                if tokens >= self._sampling.max_tokens:
                    break  # nothing could follow; NeMo-Skills runs no code then either
                output = await session.run(code)
                executions += 1
                text += tags.output(output.text, output.status, self._executions - executions)
        return Answer(text, boxed(text), ended, tokens, executions)


def closed(text: str, tags: CodeTags) -> str:
    """The text with its code ended: some servers leave the end tag, which stopped them, out."""
    return text + tags.end if text.count(tags.end) + 1 == text.count(tags.begin) else text


def code_at_end(text: str, tags: CodeTags) -> str | None:
    """The code that a text ends with, between its tags; None where it ends otherwise."""
    begin, end = text.rfind(tags.begin), len(text) - len(tags.end)
    if not text.endswith(tags.end) or begin <= text.rfind(tags.end, 0, -1):
        return None
    return text[begin + len(tags.begin) : end]
