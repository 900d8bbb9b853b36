"""Asks a server for many answers at once, and keeps each as it comes."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence

from omr.errors import OmrError
from omr.evaluation.modes.base import Mode
from omr.evaluation.samples import Sample, SampleId
from omr.evaluation.servers import process
from omr.evaluation.servers.client import Client, Endpoint
from omr.evaluation.servers.process import ServerProcess


def ask(
    wanted: Sequence[SampleId],
    endpoints: Sequence[Endpoint],
    mode: Mode,
    keep: Callable[[Sample], None],
    processes: Sequence[ServerProcess] = (),
) -> None:
    """Have every wanted sample answered and kept, in whatever order they come.

    An endpoint gets as many requests at once as it works on. The first failure, also the end of one of the
    server's `processes`, ends it all; what is kept by then stays.
    """
    asyncio.run(_ask(iter(wanted), endpoints, mode, keep, processes))


async def _ask(
    wanted: Iterator[SampleId],
    endpoints: Sequence[Endpoint],
    mode: Mode,
    keep: Callable[[Sample], None],
    processes: Sequence[ServerProcess],
) -> None:
    clients = [Client(endpoint) for endpoint in endpoints]
    try:
        async with mode, asyncio.TaskGroup() as group:
            watching = [group.create_task(process.watch(processes))]
            watching += [group.create_task(client.listen()) for client in clients]
            workers = [
                group.create_task(_work(client, wanted, mode, keep))
                for client in clients
                for _ in range(client.endpoint.at_once)
            ]
            await asyncio.gather(*workers)
            for watch in watching:
                watch.cancel()
    except BaseExceptionGroup as failures:
        raise _first(failures) from None
    finally:
        for client in clients:
            await client.close()


async def _work(
    client: Client, wanted: Iterator[SampleId], mode: Mode, keep: Callable[[Sample], None]
) -> None:
    """Answer one sample after the other, as long as there are any."""
    for sample in wanted:
        begin = time.monotonic()
        given = await mode.answer(client, sample)
        keep(Sample(sample, given, time.monotonic() - begin))


def _first(failures: BaseExceptionGroup) -> BaseException:
    """The failure to tell: the server's end before what follows from it."""
    found = list(_leaves(failures))
    for kind in (process.ServerEnded, OmrError):
        if told := next((failure for failure in found if isinstance(failure, kind)), None):
            return told
    return found[0]


def _leaves(failures: BaseExceptionGroup) -> Iterator[BaseException]:
    for failure in failures.exceptions:
        if isinstance(failure, BaseExceptionGroup):
            yield from _leaves(failure)
        else:
            yield failure
