"""Asks a server's completions endpoint for what follows a text, with patience."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from omr.errors import OmrError, shown
from omr.evaluation.request import Sampling

if TYPE_CHECKING:
    from openai import AsyncOpenAI

# A generation may take as long as the published evaluation lets it.
ANSWER_SECONDS = 4 * 3600
# The library waits 0.5 s before its first retry, doubles that up to 8 s, and heeds Retry-After: two minutes.
RETRIES = 16
SILENCE = 300.0  # seconds after which a server that answers nothing at all is given up


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served, and how it is asked there."""

    address: str  # http://host:port
    model: str  # its name there
    at_once: int  # requests that it works on together
    key: str | None = None  # where it wants one
    body: dict[str, Any] = field(default_factory=dict)  # what requests carry beyond OpenAI's own fields

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine."""
        return urlsplit(self.address).hostname in ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Completion:
    """What the model wrote after a text."""

    text: str
    tokens: int
    ended: bool  # by an end token or a stop text, and not at the limit


class Client:
    """Asks one endpoint; use it in one event loop, and close it there."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._openai = _openai(endpoint)

    async def complete(
        self,
        prompt: str,
        sampling: Sampling,
        seed: int,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
    ) -> Completion:
        """What follows `prompt`, exactly as it stands; `max_tokens` is by default the sampling's.

        The text may end with the stop text or just before it. An OmrError where the server is away, refuses
        the request, or goes on failing.
        """
        import openai

        try:
            answer = await self._openai.completions.create(
                model=self.endpoint.model,
                prompt=prompt,
                max_tokens=max_tokens or sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=seed,
                **({"stop": list(stop)} if stop else {}),
                extra_body=self.endpoint.body,
            )
            choice = answer.choices[0]
            return Completion(choice.text, answer.usage.completion_tokens, choice.finish_reason != "length")
        except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError) as error:
            raise OmrError(self._told(error)) from None

    async def stream(self, prompt: str, sampling: Sampling, seed: int) -> AsyncIterator[str]:
        """The pieces of what follows `prompt`, as they are written."""
        import openai

        try:
            pieces = await self._openai.completions.create(
                model=self.endpoint.model,
                prompt=prompt,
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=seed,
                extra_body=self.endpoint.body,
                stream=True,
            )
            async for piece in pieces:
                if piece.choices:
                    yield piece.choices[0].text
        except (openai.OpenAIError, AttributeError, ValueError) as error:
            raise OmrError(self._told(error)) from None

    async def listen(self) -> None:
        """Raise an OmrError when the server has been silent for SILENCE seconds; else never return.

        What it is asked costs it nothing. An answer itself may take hours.
        """
        import openai

        asking, heard = self._openai.with_options(max_retries=0, timeout=SILENCE / 10), time.monotonic()
        while True:
            try:
                await asking.models.list()
                heard = time.monotonic()
            except openai.APIStatusError:
                heard = time.monotonic()
            except openai.APIConnectionError:
                if time.monotonic() - heard > SILENCE:
                    raise OmrError(
                        f"{self.endpoint.address}: has not answered anything for {SILENCE:.0f} s; see whether"
                        " the server hangs, then run the same command again"
                    ) from None
            await asyncio.sleep(SILENCE / 30)

    async def close(self) -> None:
        """Close its connections."""
        await self._openai.close()

    def _told(self, error: Exception) -> str:
        """A failure as one line."""
        import openai

        address = self.endpoint.address
        if isinstance(error, openai.APIConnectionError):  # APITimeoutError is one
            return f"{address}: does not answer; see whether the server runs, then run the same command again"
        why = shown(" ".join(str(error).split()))
        if isinstance(error, openai.APIStatusError):
            return f"{address}: refuses a request ({why}); mend the server, then run the same command again"
        return f"{address}: answers what is no completion ({why}); name the server of a model"


def _openai(endpoint: Endpoint) -> "AsyncOpenAI":
    """The library's client, which retries what may pass: no connection, 408, 409, 429 and 5xx."""
    import openai

    return openai.AsyncOpenAI(
        base_url=f"{endpoint.address}/v1",
        api_key=endpoint.key or "none",
        max_retries=RETRIES,
        timeout=openai.Timeout(ANSWER_SECONDS, connect=30.0),
        # A site's proxy, which the environment may name, leads to other hosts than this one.
        http_client=openai.DefaultAsyncHttpxClient(trust_env=not endpoint.is_local),
    )
