"""The newcomer's first command, whole: both rounds on the tiny recipe, then again for nothing."""

import json
import os
import re
import subprocess
import sys
import time

import pytest

from omr import recipe
from omr.files import sha256
from omr.settings import ROOT, SETTINGS
from omr.workspace import Workspace

pytestmark = pytest.mark.slow


def make(folder, *words):
    """make in the repository, with a workspace of its own and no .env."""
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS and not k.startswith(("MAKE", "MFLAGS"))}
    env |= {"OMR_ENV_FILE": "/dev/null", "OMR_VENV": sys.prefix, "WORKSPACE": str(folder)}
    command = ["make", "--no-print-directory", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=1200)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A workspace after `make demo`, and what it printed."""
    folder = tmp_path_factory.mktemp("demo") / "a workspace"
    done = make(folder, "demo")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "PyTorch was not found" not in done.stdout + done.stderr
    return Workspace(folder), done.stdout


def test_it_learns_and_says_where_everything_is(demo):
    workspace, printed = demo
    for number in (1, 2):
        folder = workspace.run(recipe.run("tiny", number))
        graded = json.loads(folder.eval_json.read_text())
        assert graded["after"]["accuracy"] >= 0.9
        assert str(folder.report) in printed and str(folder.final) in printed
        text = folder.report.read_text()
        assert (
            "Training loss" in text
            and "Token lengths" in text
            and f"{graded['after']['accuracy']:.3f} after" in text
        )
    first = json.loads(workspace.run(recipe.run("tiny")).eval_json.read_text())
    assert first["before"]["accuracy"] == 0


def test_it_tells_one_story(demo):
    workspace, printed = demo
    headings = re.findall(r"^── (.*) ──$", printed, re.MULTILINE)
    assert [heading.split(":")[0] for heading in headings] == [
        *("data", "data-report", "model", "train", "eval", "report"),
        *("data", "data-report", "train", "eval", "report"),
    ]
    durations = re.findall(r"^   took (?:\d+ min )?[\d.]+ s$", printed, re.MULTILINE)
    assert len(durations) == len(headings)
    folder = workspace.run(recipe.run("tiny", 2))
    assert [line.split()[:3] for line in printed.replace(str(workspace.root), "W").splitlines()[-3:]] == [
        ["the", "report", str(folder.report).replace(str(workspace.root), "W")],
        ["the", "model", str(folder.final).replace(str(workspace.root), "W")],
        ["type", "next", "make"],
    ]


def test_round_2_starts_from_round_1s_final_model(demo):
    workspace, _ = demo
    request = json.loads(workspace.run(recipe.run("tiny", 2)).run_json.read_text())["request"]
    assert request["base"]["path"] == str(workspace.run(recipe.run("tiny")).final)


def test_the_final_model_answers_and_stops(demo):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from omr.tiny import corpus

    workspace, _ = demo
    final = workspace.run(recipe.run("tiny", 2)).final
    model, tokenizer = AutoModelForCausalLM.from_pretrained(final), AutoTokenizer.from_pretrained(final)
    rows = [json.loads(line) for line in workspace.data("tiny", "round1").read_text().split("\n")[:-1]]
    cot = next(row for row in rows if row["inference_mode"] == "cot")
    # The words around the problem are whatever the data stage wrote around a trained one.
    message = cot["input"].split("<|im_start|>user\n")[1].split("<|im_end|>")[0]
    preamble = message[: message.rindex("\n") + 1]
    right = 0
    problems = corpus.held_out(8)
    for problem in problems:
        asked = tokenizer.apply_chat_template(
            [{"role": "user", "content": preamble + problem["problem"]}],
            add_generation_prompt=True,
            return_tensors="pt",
        )
        asked = asked["input_ids"] if hasattr(asked, "keys") else asked
        answer = model.generate(asked, max_new_tokens=200, do_sample=False)[0, asked.shape[1] :]
        assert answer[-1].item() in model.generation_config.eos_token_id
        right += f"\\boxed{{{problem['expected_answer']}}}" in tokenizer.decode(answer)
    assert right >= 6


def test_a_second_demo_does_nothing_and_says_so(demo):
    workspace, _ = demo
    paths = [p for p in workspace.root.rglob("*") if p.is_file() and not p.name.endswith(".lock")]
    before = {p: (p.stat().st_mtime_ns, sha256(p)) for p in paths}
    start = time.monotonic()
    again = make(workspace.root, "demo")
    seconds = time.monotonic() - start
    assert again.returncode == 0, again.stderr
    assert {p: (p.stat().st_mtime_ns, sha256(p)) for p in paths} == before
    assert again.stdout.count("finished already") + again.stdout.count("up to date") >= 11
    # The promise is 10 seconds; the rest is patience with a busy machine.
    assert seconds < 60
