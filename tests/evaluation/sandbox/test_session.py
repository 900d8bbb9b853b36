"""What a model is shown of its executions, and what is kept between them."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr.errors import OmrError, RequestError
from omr.evaluation.sandbox import Limits, Output, Sandbox, Status, bubblewrap, worker
from omr.settings import ROOT

from .kit import WAYS, outputs, processes, require
from .snippets import OURS_ALONE, SNIPPETS


@pytest.mark.parametrize("way", ["none", pytest.param("user", marks=pytest.mark.slow)])
def test_what_is_shown(way):
    require(way)
    rows = [*SNIPPETS, *OURS_ALONE]
    found = outputs([code for code, _, _ in rows], way, Limits())
    assert found == [(status, text) for _, text, status in rows]


SERVER = """
import json, logging, sys, types
class Flask:
    after_request = staticmethod(lambda function: function)
    def __init__(self, name): pass
    def route(self, *words, **more): return lambda function: function
request = types.SimpleNamespace()
sys.modules["flask"] = types.SimpleNamespace(Flask=Flask, request=request)
logging.disable()
from nemo_skills.code_execution.local_sandbox import local_sandbox_server as server
found = []
for number, code in enumerate(json.load(sys.stdin)):
    request.headers = {"X-Session-ID": str(number)}
    request.json = {"generated_code": code, "timeout": 10.0, "traceback_verbosity": "Plain"}
    done = server.execute()
    found.append([done["process_status"], done["stdout"] + done["stderr"]])
print(json.dumps(found))
"""


@pytest.mark.nemo
@pytest.mark.slow
def test_the_server_of_nemo_skills_shows_the_same():
    """Its own functions answer, without the HTTP about them."""
    require("none")
    pytest.importorskip("nemo_skills", reason="needs nemo-skills (make nemo)")
    codes = [code for code, _, _ in SNIPPETS]
    done = subprocess.run(
        [sys.executable, "-c", SERVER], input=json.dumps(codes), capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        pytest.skip(f"its server cannot be imported: {done.stderr.strip().splitlines()[-1]}")
    theirs = [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]
    assert theirs == [(status, text) for _, text, status in SNIPPETS]
    assert len(codes) >= 25


@pytest.mark.slow
def test_state_is_kept_and_a_limit_of_time_tells_and_restores():
    require("none")
    codes = [
        "x = [1]",
        "1 / 0",
        "x.append(2)\nimport time",
        "x.append(9)\ntime.sleep(60)",
        "x",
        "x.append(3); x",
    ]
    found = outputs(codes, "none", Limits(seconds=1))
    assert [text for _, text in found[3:]] == [
        "Execution timed out after 1.0 seconds\n",
        "[1, 2]\n",
        "[1, 2, 3]\n",
    ]
    assert [status for status, _ in found] == [
        "completed",
        "error",
        "completed",
        "timeout",
        "completed",
        "completed",
    ]
    assert processes() == []


@pytest.mark.slow
def test_what_cannot_be_run_again_is_told_and_forgotten(tmp_path):
    require("none")
    once = tmp_path / "once"
    codes = [f"open('{once}', 'x').close(); x = 5", "import os; os._exit(1)", "x", "2"]
    found = outputs(codes, "none", Limits(seconds=5))
    assert found[1][0] == "error" and found[1][1].startswith("RuntimeError: the session was restarted")
    assert found[2] == (
        "error",
        "Traceback (most recent call last):\n    x\nNameError: name 'x' is not defined\n",
    )
    assert found[3] == ("completed", "2\n")


def test_no_process_is_started_before_the_first_execution():
    async def run():
        async with Sandbox.create("none") as sandbox, sandbox.session():
            return processes()

    assert asyncio.run(run()) == []


@pytest.mark.slow
def test_the_same_set_is_in_the_same_order_each_time():
    require("none")
    code = "print({'a', 'b', 'c', 'd', 'e', 'f'})"
    assert outputs([code], "none") == outputs([code], "none")


@pytest.mark.slow
def test_an_execution_that_is_cancelled_leaves_nothing_behind():
    require("none")

    async def run():
        async with Sandbox.create("none") as sandbox, sandbox.session() as session:
            await session.run("x = 1")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(session.run("x = 2\nwhile True: pass"), 0.5)
            assert processes() == []
            return await session.run("x")

    assert asyncio.run(run()) == Output("1\n", Status.COMPLETED)


@pytest.mark.slow
def test_a_closed_sandbox_ends_what_runs():
    require("none")

    async def run():
        sandbox = Sandbox.create("none")
        session = sandbox.session()
        running = asyncio.create_task(session.run("while True: pass"))
        await asyncio.sleep(1)
        await sandbox.close()
        with pytest.raises(OmrError, match="run the same command again"):
            await running

    asyncio.run(run())
    assert processes() == []


@pytest.mark.slow
def test_as_many_run_at_once_as_there_are_cores_and_waiting_costs_no_time(monkeypatch):
    require("none")
    monkeypatch.setattr("omr.evaluation.sandbox.session.cores", lambda: 1)

    async def run():
        async with Sandbox.create("none", Limits(seconds=1)) as sandbox:
            sessions = [sandbox.session() for _ in range(4)]
            await asyncio.gather(*(session.run("import time") for session in sessions))
            return await asyncio.gather(*(session.run("time.sleep(0.6)\n1") for session in sessions))

    assert [output.text for output in asyncio.run(run())] == ["1\n"] * 4


@pytest.mark.parametrize(
    "code", ["\ud800", "print('\\ud800')", "x = '\0'", "print('\\0')", "print('😀' * 2000)"]
)
def test_odd_characters_pass(code):
    require("none")
    (_, text), after = outputs([code, "1"], "none")
    assert after == ("completed", "1\n")
    json.dumps(text)


def test_a_worker_needs_the_standard_library_and_ipython_alone():
    require("none")
    line = [sys.executable, "-P", str(bubblewrap.WORKER), bubblewrap.arguments(Limits())]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(line, env=bubblewrap.environment(), cwd="/", **pipes) as process:
        process.stdin.write(b'"1 + 1"\n')
        process.stdin.flush()
        assert process.stdout.readline() == b'{"status": "ready"}\n'
        assert process.stdout.readline() == b'{"status": "completed", "text": "2\\n"}\n'
    assert "import omr" not in bubblewrap.WORKER.read_text()


def test_any_text_is_code_that_ends():
    require("none")
    text = st.text(st.characters(exclude_categories=()), max_size=40)
    with asyncio.Runner() as loop:
        sandbox = Sandbox.create("none", Limits(seconds=5))
        session = sandbox.session()

        @settings(max_examples=40, derandomize=True, deadline=None, database=None)
        @given(text)
        def ends(code):
            output = loop.run(session.run(code))
            assert output.status in Status and len(output.text) <= 2_024
            assert loop.run(session.run("6 * 7")).text == "42\n"

        ends()
        loop.run(sandbox.close())


# ---- which sandbox ----


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("docker", "SANDBOX=docker is unknown; choose bwrap or none"),
        ("", None),
        (None, None),
        ("bwrap", None),
    ],
)
def test_bubblewrap_unless_none_is_said(kind, said, monkeypatch):
    monkeypatch.setattr(bubblewrap, "options", lambda limits: ("isolated",))
    if said:
        with pytest.raises(RequestError, match=said):
            Sandbox.create(kind)
    else:
        assert vars(Sandbox.create(kind))["_way"] == ("isolated",)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "bubblewrap (bwrap) is not installed"),
        (
            "echo 'bwrap: No permissions to create a new namespace' >&2; exit 1",
            "(bwrap: No permissions to create",
        ),
        ("exit 3", "(exit 3)"),
        ("echo 'bwrap: Unknown option --size' >&2; exit 1", "(bwrap: Unknown option --size)"),
    ],
)
def test_no_isolation_is_refused_with_the_reason(script, said, tmp_path, monkeypatch):
    if script:
        (tmp_path / "bwrap").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setattr(bubblewrap, "PROGRAM", str(tmp_path / "bwrap"))
    with pytest.raises(RequestError) as error:
        Sandbox.create(None)
    assert said in str(error.value) and "SANDBOX=none" in str(error.value) and "\n" not in str(error.value)


def test_an_older_bubblewrap_is_used_as_it_can(tmp_path, monkeypatch):
    script = """#!/bin/sh
case "$*" in *--disable-userns*|*CAP_SETUID*) echo "bwrap: Unknown option" >&2; exit 1;; esac
echo '{"status": "ready"}'
"""
    (tmp_path / "bwrap").write_text(script)
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setattr(bubblewrap, "PROGRAM", str(tmp_path / "bwrap"))
    assert bubblewrap.options(Limits()) == bubblewrap.USER


def test_the_command_line_names_nothing_of_the_project_or_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WORKSPACE", str(tmp_path / "workspace"))
    for way in WAYS.values():
        line = bubblewrap.command(way or (), Limits())
        bound = {line[at + 1] for at, word in enumerate(line) if word.startswith(("--ro-bind", "--bind"))}
        assert not bound & {
            "/",
            str(ROOT),
            str(ROOT / "omr"),
            str(tmp_path),
            os.path.expanduser("~"),
            sys.prefix,
        }
        assert "hf_secret" not in " ".join(line) and "--bind" not in line
    assert "HF_TOKEN" not in bubblewrap.environment()


def test_an_environment_below_tmp_is_seen(monkeypatch):
    monkeypatch.setattr(bubblewrap, "packages", lambda: [Path("/tmp/venv/site-packages")])
    line = bubblewrap.command(bubblewrap.USER, Limits())
    assert line.index("/tmp") < line.index("/tmp/venv/site-packages")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("\n\n", ""),
        ("a", "a\n"),
        ("\x1b[0;31mred\x1b[0m", "red\n"),
        ("Out[12]:  5\n", "5\n"),
        ("  File <ipython-input-1-ab>:1\n    1/0", "    1/0\n"),
        ("a\n\n\n", "a\n"),
    ],
)
def test_a_stream_is_cleaned(text, shown):
    assert worker.clean(text) == shown


@pytest.mark.parametrize(("text", "shown"), [("abc", "abc"), ("abcd", "abc<output cut>"), ("", "")])
def test_a_text_is_cut(text, shown):
    assert worker.cut(text, 3) == shown


def test_a_stream_keeps_its_beginning_alone():
    stream = worker.Captured()
    for _ in range(30):
        assert stream.write("x" * 100_000) == 100_000
    assert len(stream.getvalue()) == worker.KEPT
