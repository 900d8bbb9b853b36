"""A server's process: it is waited for, watched, and ends with whoever started it."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest

from omr.errors import OmrError
from omr.evaluation.servers import process
from omr.evaluation.servers.process import ServerEnded, ServerProcess, free_port
from omr.settings import ROOT

pytestmark = pytest.mark.slow
SERVE = """
import http.server, os, subprocess, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
subprocess.Popen(["sleep", "600"])
print("serving", os.environ.get("HF_TOKEN"), os.environ.get("MORE"), flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def server(tmp_path, script=SERVE):
    port = free_port()
    command = [sys.executable, "-c", script, str(port)]
    return ServerProcess(command, f"http://127.0.0.1:{port}", tmp_path / "logs" / "server.log", {"MORE": "1"})


def descendants(pid):
    return psutil.Process(pid).children(recursive=True)


def gone(processes, seconds=20):
    """Whether processes end within so many seconds."""
    _, alive = psutil.wait_procs(processes, timeout=seconds)
    return not alive


@pytest.fixture
def running(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    serving = server(tmp_path)
    serving.start()
    try:
        serving.wait_until_ready(60)
        yield serving
    finally:
        serving.stop()


def ours(running):
    """The keeper, the server and what that started."""
    (keeper,) = [p for p in psutil.Process().children() if "omr.evaluation.servers.keeper" in p.cmdline()]
    return [keeper, *keeper.children(recursive=True)]


def test_it_answers_and_ends_with_all_that_it_started(running):
    assert process.answers(running.address)
    processes = ours(running)
    assert len(processes) == 3
    running.check()
    running.stop()
    assert gone(processes)
    assert not process.answers(running.address)
    assert running.log.read_text() == "serving None 1\n"
    running.stop()


@pytest.mark.parametrize("which", [0, 1])
def test_one_that_was_killed_is_noticed_and_leaves_nothing(running, which):
    processes = ours(running)
    processes[which].kill()
    with pytest.raises(ServerEnded, match=r"ended \(exit code .*serving None 1\); read .*server.log"):
        asyncio.run(asyncio.wait_for(process.watch([running], every=0.05), 20))
    running.stop()
    assert gone(processes)


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("raise SystemExit('no GPU')", r"the server ended \(exit code 1: no GPU\)"),
        ("import time; time.sleep(60)", "the server does not answer within 1 s; read .*server.log"),
        ("import os; os._exit(3)", r"the server ended \(exit code 3: it printed nothing\)"),
    ],
)
def test_one_that_never_answers_is_told(tmp_path, script, told):
    serving = server(tmp_path, script)
    serving.start()
    try:
        with pytest.raises(OmrError, match=told) as failure:
            serving.wait_until_ready(1 if "sleep" in script else 60)
    finally:
        serving.stop()
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_server_ends_with_whoever_started_it(tmp_path, number):
    script = f"""
    import signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.path.insert(0, {str(ROOT)!r})
    from pathlib import Path
    from omr.evaluation.servers.process import ServerProcess, free_port
    port = free_port()
    command = [sys.executable, "-c", {SERVE!r}, str(port)]
    server = ServerProcess(command, f"http://127.0.0.1:{{port}}", Path({str(tmp_path / "log")!r}))
    server.start()
    server.wait_until_ready(60)
    print("ready", flush=True)
    time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as parent:
        assert parent.stdout.readline() == "ready\n"
        processes = descendants(parent.pid)
        assert len(processes) == 3
        os.kill(parent.pid, number)
        parent.wait(30)
    assert gone(processes)


def test_a_free_port_is_free():
    ports = {free_port() for _ in range(5)}
    assert all(not process.answers(f"http://127.0.0.1:{port}", 1) for port in ports)
