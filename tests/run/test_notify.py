"""NOTIFY against a real server and real commands: told once, with the words as they are, and never a harm."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from omr.run import notify
from omr.settings import ROOT
from omr.workspace import RunFolder

EVIL = """7b 'round1' "stopped": $(touch planted) `touch planted`; touch planted\n| größe"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    root = tmp_path / "7b" / "round1"
    root.mkdir(parents=True)
    monkeypatch.chdir(root)  # where a planted file would land
    monkeypatch.setenv("OMR_ENV_FILE", str(root / "env"))
    monkeypatch.delenv("CA_BUNDLE", raising=False)
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return RunFolder(root)


@pytest.fixture
def server():
    """A server that keeps what it was sent; `status`, `delay` (seconds) and `location` are its answer."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words):
            pass

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((self.path, self.headers["Content-Type"], json.loads(body)))
            time.sleep(made.delay)
            self.send_response(made.status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.daemon_threads = True
    made.got, made.status, made.delay, made.location = [], 200, 0.0, ""
    made.url = f"http://127.0.0.1:{made.server_port}/hook/s3cret?x=1"
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def tell(folder, value, monkeypatch, ending="c", text=EVIL):
    """Tell, and return what the event log says of it."""
    monkeypatch.setenv("NOTIFY", value)
    notify.tell(folder, "7b round1 stopped", text, folder.event_log, ending)
    log = folder.event_log.read_text() if folder.event_log.exists() else ""
    assert "s3cret" not in log and not (folder.root / "planted").exists()
    return log


def command(tmp_path, body):
    """A program that keeps its arguments and environment as JSON, then does `body`."""
    path = tmp_path / "my notifier"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, pathlib, sys, time\n"
        f"out = pathlib.Path({str(tmp_path)!r}, f'told-{{os.getpid()}}.json')\n"
        f"out.write_text(json.dumps([sys.argv[1:], dict(os.environ)]))\n{body}\n"
    )
    path.chmod(0o755)
    return f"'{path}' --to s3cret"


def told(tmp_path):
    return [json.loads(path.read_text()) for path in tmp_path.glob("told-*.json")]


def test_nobody_is_told_without_it(folder, monkeypatch):
    monkeypatch.delenv("NOTIFY", raising=False)
    notify.tell(folder, "t", "x", folder.root, "c")
    assert not list(folder.root.iterdir())


def test_a_server_gets_one_post(folder, server, monkeypatch):
    assert tell(folder, server.url, monkeypatch) == "" and tell(folder, server.url, monkeypatch) == ""
    words = {"title": "7b round1 stopped", "text": EVIL, "path": str(folder.event_log)}
    assert server.got == [("/hook/s3cret?x=1", "application/json", words)]
    tell(folder, server.url, monkeypatch, ending="d")
    assert len(server.got) == 2


def test_a_command_gets_arguments_and_variables(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s3cret too")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3cret@index.example.org/simple")
    monkeypatch.setenv("SOME_API_KEY", "s3cret")
    assert tell(folder, command(tmp_path, ""), monkeypatch) == ""
    [(argv, environ)] = told(tmp_path)
    assert argv == ["--to", "s3cret", "7b round1 stopped", EVIL, str(folder.event_log)]
    assert (environ["OMR_TITLE"], environ["OMR_TEXT"]) == ("7b round1 stopped", EVIL)
    assert not {"NOTIFY", "HF_TOKEN", "PIP_INDEX_URL", "SOME_API_KEY"} & set(environ)


def test_a_relative_command_lies_beside_env(folder, tmp_path, monkeypatch):
    """A job stands in another folder than whoever wrote the line."""
    command(tmp_path, "")
    monkeypatch.setenv("OMR_ENV_FILE", str(tmp_path / "env"))
    assert tell(folder, "'./my notifier'", monkeypatch) == ""
    assert len(told(tmp_path)) == 1


@pytest.mark.slow
def test_two_links_that_end_at_once_tell_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("NOTIFY", command(tmp_path, ""))
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from omr.run import notify\nfrom omr.workspace import RunFolder\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time())); root = Path(sys.argv[1])\n"
        "notify.tell(RunFolder(root), 't', 'x', root, 'c')"
    )
    start = str(time.time() + 2)
    words = [sys.executable, "-c", code, str(folder.root), start]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    children = [subprocess.Popen(words, env=env) for _ in range(6)]
    assert [child.wait(30) for child in children] == [0] * 6
    assert len(told(tmp_path)) == 1 and not folder.event_log.exists()


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("/nowhere/s3cret", "its command does not start (No such file or directory)"),
        ("mail 's3cret", "its quotes are not closed"),
        ("http://s3cret.example.org/x", "it is no https:// address"),
        ("http://127.0.0.1:9/s3cret", "its server cannot be reached (ConnectionRefusedError)"),
        ("https://127.0.0.1:9/s3cret", "its server cannot be reached (ConnectionRefusedError)"),
        ("https://user:s3cret@[::1/x", "ValueError"),
    ],
)
def test_one_that_cannot_be_told_is_a_line_of_the_event_log(folder, monkeypatch, value, fault):
    log = tell(folder, value, monkeypatch)
    assert f"NOTIFY was not told that 7b round1 stopped: {fault}" in log and log.count("\n") == 1


def test_a_server_that_refuses_or_leads_elsewhere(folder, server, monkeypatch):
    server.status = 500
    assert "its server answered 500" in tell(folder, server.url, monkeypatch)
    server.status, server.location = 302, f"http://127.0.0.1:{server.server_port}/elsewhere"
    assert "its server answered 302" in tell(folder, server.url, monkeypatch, ending="d")
    assert [path for path, _, _ in server.got] == ["/hook/s3cret?x=1"] * 2


@pytest.mark.slow
def test_a_server_that_hangs(folder, server, monkeypatch):
    monkeypatch.setattr(notify, "PATIENCE", 0.5)
    server.delay = 5
    began = time.monotonic()
    assert "its server did not answer in 0.5 s" in tell(folder, server.url, monkeypatch)
    assert time.monotonic() - began < 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("sys.exit(3)", ""),  # its exit code is its own matter
        ("os.kill(os.getpid(), 9)", ""),
        ("print('x' * 1_000_000, flush=True); sys.stdin.read()", ""),
        ("os.fork(); time.sleep(60)", "its command did not end in 1 s"),
    ],
)
def test_a_command_that_fails_or_hangs(folder, tmp_path, monkeypatch, body, fault):
    monkeypatch.setattr(notify, "PATIENCE", 1.0)
    began = time.monotonic()
    log = tell(folder, command(tmp_path, body), monkeypatch)
    assert fault in log and bool(log) is bool(fault) and time.monotonic() - began < 8
    assert len(told(tmp_path)) == 1


def test_on_a_full_disk_it_is_told_all_the_same(folder, server, monkeypatch):
    def full(*words):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(notify.os, "open", full)
    tell(folder, server.url, monkeypatch)
    assert len(server.got) == 1


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://hooks.example.org/x", True),
        ("http://localhost:8080/x", True),
        ("http://127.8.0.1/x", True),
        ("http://[::1]:80/x", True),
        ("http://10.0.0.1/x", False),
        ("http://localhost.example.org/x", False),
        ("http://127.0.0.1@example.org/x", False),
        ("https:///x", False),
    ],
)
def test_only_an_encrypted_way_leaves_this_machine(url, safe):
    assert notify.is_safe(url) is safe
