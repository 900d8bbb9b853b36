"""The page of the workspace, and `make report` as a user has it."""

import json
import os
import subprocess
import sys

import pytest

from omr.reports.run import page as run_page
from omr.reports.workspace import inventory, page
from omr.settings import ROOT, SETTINGS
from omr.workspace import Workspace
from tests.reports import kit


def text_of(root):
    workspace = Workspace(root)
    page.write(inventory.take(workspace), workspace)
    return workspace.report.read_text()


def test_it_lists_all_and_links_the_pages(tmp_path):
    _, folder = kit.begin(tmp_path)
    kit.finish(folder)
    run_page.write(run_page.look(folder))
    text = text_of(tmp_path)
    assert '<a href="runs/tiny/round1-page/report.html">tiny round1-page</a>' in text
    assert "1 run (1 finished), 1 model, 1 data file" in text
    assert "<code>make ask MODEL=tiny" in text or "<code>make prune MODEL=tiny" in text
    assert "75.0 %" in text and "<script" not in text


def test_a_workspace_of_nothing_says_what_makes_the_first(tmp_path):
    text = text_of(tmp_path)
    for words in ("make train MODEL=tiny", "make model MODEL=tiny", "make data DATASET=tiny"):
        assert words in text


def test_names_are_escaped(tmp_path):
    _, folder = kit.begin(tmp_path)
    kit.log(folder, 0, "<script>alert(1)</script>")
    (tmp_path / "models" / "<b>x").mkdir()
    text = text_of(tmp_path)
    assert "<script" not in text and "<b>x" not in text and "&lt;b&gt;x" in text


def report(root, *words):
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS}
    env |= {"WORKSPACE": str(root), "OMR_ENV_FILE": "/dev/null"}
    command = [sys.executable, ROOT / "bin/report.py", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True)


@pytest.mark.slow
def test_the_command(tmp_path):
    _, folder = kit.begin(tmp_path)
    kit.finish(folder)
    words = ("--model", "tiny", "--name", "page", "--steps", "8")
    assert report(tmp_path, "--dry_run").stdout == f"would write {tmp_path}/report.html\n"
    assert not (tmp_path / "report.html").exists()
    assert str(folder.report) in report(tmp_path, *words).stdout and folder.report.exists()
    assert "(up to date)" in report(tmp_path, *words).stdout
    assert report(tmp_path).stdout.endswith(f"  report  {tmp_path}/report.html\n")
    whole = json.loads(report(tmp_path, "--json").stdout)
    assert json.loads(report(tmp_path, *words, "--json").stdout) == whole["runs"][0]
    assert report(tmp_path / "none").stdout.startswith(f"{tmp_path}/none: nothing was made yet; make demo")
    missing = report(tmp_path, "--model", "tiny", "--round", "2")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1
