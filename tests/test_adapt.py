"""docs/adapt.md, command by command: a third recipe from one's own JSON lines to an evaluated model."""

import json
import os
import re
import subprocess
import sys

import pytest

from omr.evaluation import results
from omr.settings import ROOT, SETTINGS
from omr.workspace import RunFolder

PAGE = (ROOT / "docs" / "adapt.md").read_text()
BLOCKS = re.findall(r"^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FILES = BLOCKS[:3]  # those that write files; the last of them checks the recipe


def run(block, folder):
    """A block of the page, with `mine/` in a folder of the test's own."""
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS and not k.startswith(("MAKE", "MFLAGS"))}
    env |= {"OMR_ENV_FILE": "/dev/null", "OMR_VENV": sys.prefix, "WORKSPACE": str(folder / "workspace")}
    script = block.replace("mine/", f"{folder}/mine/")
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=1200)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The files of the page, and what its check of the recipe says."""
    folder = tmp_path_factory.mktemp("adapt")
    told = [run(block, folder) for block in FILES]
    assert [done.returncode for done in told] == [0, 0, 0], told[-1].stderr
    return folder, told[-1].stdout


def test_the_recipe_of_the_page_is_right(written):
    assert written[1].endswith("nothing wrong was found\n")


@pytest.mark.slow
def test_it_learns_another_task(written):
    folder, _ = written
    for line in BLOCKS[3].splitlines():
        done = run(line, folder)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    there = RunFolder(folder / "workspace" / "runs" / "larger-small" / "round1")
    graded = results.read(there.eval_json)["main"].models["after"].scores["all"]
    assert graded.pass1 >= 0.9 and (graded.problems, graded.samples) == (40, 2)
    assert "Training loss" in there.report.read_text()
    # A row carries the columns of the recipe; the number of an id is the text that it was spelled with.
    data = folder / "workspace" / "data" / "larger-round1.jsonl"
    first = json.loads(data.open().readline())
    assert list(first) == ["id", "input", "output"] and first["id"].isdigit()
    # The run keeps the recipe whole, and does not go on with another.
    file = folder / "mine" / "larger.toml"
    kept = json.loads(there.run_json.read_text())["request"]["recipe_file"]
    assert kept["models"]["small"]["lr"] == 4e-3 and kept["columns"]["problem"] == "question"
    text = file.read_text()
    file.write_text(text.replace("lr = 4e-3", "lr = 3e-3"))
    changed = run("make train RECIPE=mine/larger.toml MODEL=small", folder)
    file.write_text(text)
    assert changed.returncode == 2 and "recipe_file.models.small.lr was 0.004, is 0.003" in changed.stderr
    # Nor with other data.
    source = folder / "mine" / "train.jsonl"
    source.write_text("".join(source.read_text().splitlines(keepends=True)[1:]))
    changed = run("make data RECIPE=mine/larger.toml", folder)
    assert changed.returncode == 2 and "was made from other files than are now there" in changed.stderr
