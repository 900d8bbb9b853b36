"""How the tests call the sandbox."""

import asyncio

import psutil
import pytest

from omr.errors import RequestError
from omr.evaluation.sandbox import Limits, Sandbox, bubblewrap

WAYS = {
    "root": bubblewrap.AS_ROOT,
    "user": bubblewrap.AS_USER[0],
    "old user": bubblewrap.AS_USER[1],
    "none": None,
}
_works = {}


def require(way):
    """Skip where a way of isolation does not work, with what bubblewrap says."""
    pytest.importorskip("IPython", reason="needs IPython, of the train tier")
    if way == "none":
        return
    if way not in _works:
        try:
            found = bubblewrap.options(Limits(), (WAYS[way],))
            _works[way] = "" if found == WAYS[way] else "not tried"
        except RequestError as error:
            _works[way] = str(error)
    if _works[way]:
        pytest.skip(_works[way])


def outputs(codes, way, limits=Limits(seconds=3), between=None):
    """(status, text) of each code, in one session; `between(session)` is called after each."""

    async def run():
        async with Sandbox(WAYS[way], limits) as sandbox, sandbox.session() as session:
            found = []
            for code in codes:
                output = await session.run(code)
                found.append((output.status.value, output.text))
                if between:
                    await between(session)
            return found

    return asyncio.run(run())


BEFORE = set()  # ids of processes that other tests left, such as a server of forks


def processes():
    """The processes that this test has started, and theirs."""
    found = psutil.Process().children(recursive=True)
    return [p for p in found if p.pid not in BEFORE and p.status() != psutil.STATUS_ZOMBIE]
