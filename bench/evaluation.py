"""Evaluation requests a second against a stub server, beside the openai client on its own."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from bench.measure import Case, Place
from bench.tiny_run import environment
from omr.evaluation.request import Sampling
from omr.evaluation.samples import SampleId
from omr.evaluation.servers.client import Endpoint

AT_ONCE = 32
# The tests' own stub, in a process of its own; its answers are short and come at once.
SERVER = """
import sys
from tests.evaluation.kit import DummyServer
with DummyServer(lambda body: "It is \\\\boxed{7}.") as server:
    print(server.address, flush=True)
    sys.stdin.read()
"""
SAMPLING = Sampling(samples=1, temperature=0.6, top_p=0.95, max_tokens=50)


def cases(place: Place) -> Iterator[Case]:
    """Both ways ask the same requests, as many at once; the server is the same."""
    count = max(200, place.rows // 4)
    command = [sys.executable, "-c", SERVER]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment(place.scratch / "w"), text=True, **pipes) as server:
        endpoint = Endpoint(server.stdout.readline().strip(), "dummy", AT_ONCE)
        ways = {
            "this toolkit": _speed(lambda: _ours(endpoint, count), count),
            "the openai client alone": _speed(lambda: asyncio.run(_plain(endpoint, count)), count),
        }
        what = f"answers to {count:,} requests, {AT_ONCE} at once"
        yield Case(what, "requests/s", ways, "the stub is Python, too, and shares the cores")
        server.stdin.close()


def _ours(endpoint: Endpoint, count: int) -> None:
    from omr.evaluation import asking
    from omr.evaluation.modes.cot import Cot

    kept = []
    wanted = [SampleId(str(number), 0) for number in range(count)]
    mode = Cot({sample.problem: f"What is {sample.problem}+1?" for sample in wanted}, SAMPLING)
    asking.ask(wanted, [endpoint], mode, kept.append)
    assert len(kept) == count and kept[0].answer.given == "7"


async def _plain(endpoint: Endpoint, count: int) -> None:
    import openai

    slots = asyncio.Semaphore(AT_ONCE)
    async with openai.AsyncOpenAI(
        base_url=f"{endpoint.address}/v1",
        api_key="none",
        http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
    ) as client:

        async def one(number: int) -> str:
            async with slots:
                prompt = f"What is {number}+1?"
                done = await client.completions.create(
                    model=endpoint.model, prompt=prompt, max_tokens=50, temperature=0.6, top_p=0.95, seed=0
                )
                return done.choices[0].text

        assert len(await asyncio.gather(*map(one, range(count)))) == count


def _speed(work: Callable[[], None], count: int) -> Callable[[], float]:
    def way() -> float:
        begin = time.perf_counter()
        work()
        return count / (time.perf_counter() - begin)

    return way
