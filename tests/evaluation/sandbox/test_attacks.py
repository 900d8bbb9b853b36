"""Whatever code does, the evaluation goes on, the machine is as before, and no process is left."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from omr.evaluation.sandbox import Limits, Sandbox, Status
from omr.settings import ROOT

from .attacks import ATTACKS, seen
from .kit import WAYS, processes, require

SECRET = "a-secret-of-the-evaluation"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is for Linux")]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """What of this machine the attacks ask for: a secret, a home, two servers."""
    monkeypatch.setenv("HF_TOKEN", SECRET)
    for name in (".ssh/id", ".env"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(SECRET)
    abstract = f"omr-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as other:
        other.bind(f"\0{abstract}")
        other.listen()
        yield {
            "PORT": str(server.getsockname()[1]),
            "ABSTRACT": abstract,
            "HOME": str(tmp_path),
            "CHECKOUT": str(ROOT),
            "SECRET": SECRET[::-1],  # its own text is no find
        }


async def attacked(code, limits, way):
    """The outputs of an attack, and what the next session answers."""
    async with Sandbox(WAYS[way], limits) as sandbox:
        async with sandbox.session() as session:
            outputs = []
            for part in code.split("\n# ---\n"):
                outputs.append(await session.run(part))
                await asyncio.sleep(0.2)
        async with sandbox.session() as session:
            return outputs, await session.run("6 * 7")


@pytest.mark.parametrize("way", ["root", "user"])
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack(name, way, here):
    require(way)
    code, limits, pattern = ATTACKS[name]
    for word, text in here.items():
        code = code.replace(word, text)
    limits = Limits(**{"seconds": 3.0, **limits})
    free = shutil.disk_usage("/").free
    begin = time.monotonic()
    outputs, after = asyncio.run(attacked(code, limits, way))
    seconds = time.monotonic() - begin
    assert (after.text, after.status) == ("42\n", Status.COMPLETED)
    assert seen(pattern, outputs[-1].text), outputs[-1].text[-2000:]
    assert all(len(output.text) <= 2_100 and SECRET not in output.text for output in outputs)
    assert seconds < 3 * limits.seconds + 15
    assert processes() == []
    assert not (ROOT / "planted").exists()
    assert free - shutil.disk_usage("/").free < 1e9


def test_there_are_enough_of_them():
    assert len(ATTACKS) >= 48


@pytest.mark.parametrize("way", ["root", "user", "none"])
@pytest.mark.parametrize("which", ["sandbox", "supervisor"])
def test_a_process_killed_between_two_executions_is_replaced_and_its_state_restored(way, which):
    require(way)

    async def run():
        async with Sandbox(WAYS[way], Limits(seconds=10)) as sandbox, sandbox.session() as session:
            await session.run("x = 5")
            await session.run("1 / 0")
            await session.run("x += 2")
            found = processes()
            killed = found[0] if which == "sandbox" else found[min(1, len(found) - 1)]
            killed.kill()
            return await session.run("x")

    assert asyncio.run(run()).text == "7\n"
    assert processes() == []


@pytest.mark.parametrize("way", ["root", "user", "none"])
@pytest.mark.parametrize("code", ["1", "while True: pass", "import os, time\nos.fork()\ntime.sleep(99)"])
def test_the_evaluation_killed_leaves_no_process(way, code):
    require(way)
    script = f"""
import asyncio
from omr.evaluation.sandbox import *
async def run():
    async with Sandbox({WAYS[way]!r}, Limits(seconds=60)) as sandbox:
        sessions = [sandbox.session() for _ in range(3)]
        await asyncio.gather(*(session.run("1") for session in sessions))
        print("begun", flush=True)
        await sessions[0].run({code!r})
        await asyncio.sleep(99)
asyncio.run(run())
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout.readline() == b"begun\n"
        time.sleep(0.5)
        found = psutil.Process(parent.pid).children(recursive=True)
        assert len(found) >= 6
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(found, timeout=10)
    assert alive == []


@pytest.mark.parametrize("way", ["root", "user"])
def test_64_sessions_at_once(way):
    require(way)

    async def one(sandbox, number):
        async with sandbox.session() as session:
            await session.run(f"x = {number}")
            await asyncio.sleep(0)
            return (await session.run("print(x * 2)")).text

    async def run():
        async with Sandbox(WAYS[way], Limits()) as sandbox:
            return await asyncio.gather(*(one(sandbox, number) for number in range(64)))

    assert asyncio.run(run()) == [f"{2 * number}\n" for number in range(64)]
    assert processes() == []


@pytest.mark.parametrize("way", ["root", "user"])
def test_nothing_of_one_solution_is_seen_by_another(way):
    require(way)

    async def run():
        async with (
            Sandbox(WAYS[way], Limits()) as sandbox,
            sandbox.session() as one,
            sandbox.session() as other,
        ):
            await one.run("open('/tmp/note', 'w').write('x'); y = 1")
            return await other.run(
                "import os; print('note' in os.listdir('/tmp'), os.listdir('/dev/shm'), 'y' in dir())"
            )

    assert asyncio.run(run()).text == "False [] False\n"


@pytest.mark.parametrize(
    ("outside", "said"),
    [
        (["--proc", "/proc"], "isolated"),
        (
            ["--proc", "/proc", "--tmpfs", "/proc/irq"],
            "(bwrap: Can't mount proc on /newroot/proc: Operation",
        ),
        (["--disable-userns"], "(bwrap: Creating new namespace failed"),
    ],
    ids=["as docker/run opens it", "covers in /proc", "no namespaces"],
)
def test_in_a_container(outside, said):
    """Bubblewrap plays a container's engine, whose rules are the kernel's."""
    require("user")
    script = """
from omr.evaluation.sandbox import Sandbox
from omr.errors import RequestError
try:
    Sandbox.create(None)
    print("isolated")
except RequestError as error:
    print(error)
"""
    line = ["bwrap", "--unshare-user", "--unshare-pid", "--dev-bind", "/", "/", *outside, "--"]
    done = subprocess.run(
        [*line, sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert said in done.stdout, done.stderr


def test_the_checkout_and_the_home_are_hidden_where_the_system_holds_them(monkeypatch):
    from omr.evaluation.sandbox import bubblewrap

    monkeypatch.setattr(bubblewrap.settings, "ROOT", Path("/usr/share"))
    line = bubblewrap.command(bubblewrap.AS_ROOT, Limits())
    assert line[line.index("/usr/share") - 1] == "--tmpfs"
