"""The newcomer's first command, whole: both rounds on the tiny recipe, then again for nothing."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import urllib.request

import pytest

from omr import recipe
from omr.evaluation import results
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
        graded = results.read(folder.eval_json)["cot"].models["after"].scores["all"]
        assert graded.pass1 >= 0.9 and (graded.problems, graded.samples) == (20, 3)
        assert str(folder.report) in printed and str(folder.final) in printed
        text = folder.report.read_text()
        assert "Training loss" in text and "Token lengths" in text and f"{graded.pass1:.3f} after" in text
    first = results.read(workspace.run(recipe.run("tiny")).eval_json)["cot"]
    assert first.models["before"].scores["all"].pass1 == 0


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


# The evaluation with real parts: transformers' server, the client, the sandbox, the model of the demo.


def held_out(count, folder):
    """A file of problems."""
    from omr.tiny import corpus

    path = folder / "problems.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in corpus.held_out(count)))
    return path


def evaluation_command(demo, *words):
    """bin/eval.py on the final model of round 1, as any folder: the run's own eval.json stays as it is."""
    final = demo[0].run(recipe.run("tiny")).final
    return [sys.executable, str(ROOT / "bin" / "eval.py"), "--model", "tiny", "--folder", str(final), *words]


def evaluate(demo, workspace, *words):
    """Its answers by (problem, sample), in a workspace of its own, and what it printed."""
    env = {**os.environ, "WORKSPACE": str(workspace), "OMR_ENV_FILE": "/dev/null"}
    done = subprocess.run(
        evaluation_command(demo, *words), capture_output=True, text=True, env=env, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return answers(workspace, words), done.stdout


def answers(workspace, words):
    """The kept answers of the mode that was asked for."""
    mode = words[words.index("--mode") + 1].split(",")[-1] if "--mode" in words else "cot"
    found = {}
    for path in workspace.glob(f"eval/tiny-{mode}-*/answers-*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            del row["seconds"], row["check"]  # which is of the seconds, too
            assert (row["problem"], row["number"]) not in found  # nothing is asked twice
            found[row["problem"], row["number"]] = row
    return found


def test_greedy_answers_of_the_server_are_those_of_generate(demo, tmp_path):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from omr.evaluation.modes.prompts import Prompts
    from omr.evaluation.problems import read

    path = held_out(50, tmp_path)
    kept, printed = evaluate(demo, tmp_path, "--problems", str(path), "--temperature", "0")
    assert len(kept) == 50 and "1 samples, temperature 0, by transformers" in printed
    final = demo[0].run(recipe.run("tiny")).final
    model = AutoModelForCausalLM.from_pretrained(final, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(final)
    prompts = Prompts(recipe.CORPORA["tiny"], tokenizer)
    for problem in read(path):
        asked = tokenizer(prompts.of("cot", problem), return_tensors="pt")
        output = model.generate(**asked, max_new_tokens=96, do_sample=False)[0, asked["input_ids"].shape[1] :]
        row = kept[problem.id, 0]
        assert row["text"] == tokenizer.decode(output, skip_special_tokens=True)
        assert row["tokens"] == len(output) and row["ended"]


def test_samples_are_drawn_by_their_numbers(demo, tmp_path):
    path = held_out(6, tmp_path)
    words = ("--problems", str(path), "--samples", "4", "--temperature", "1.2")
    first, printed = evaluate(demo, tmp_path / "a", *words)
    again, printed_again = evaluate(demo, tmp_path / "b", *words)
    assert first == again and printed == printed_again and len(first) == 24
    assert len({row["text"] for row in first.values()}) >= 9  # of six problems


def test_tir_runs_its_code_and_uses_the_output(demo, tmp_path):
    words = ("--problems", str(held_out(6, tmp_path)), "--samples", "2", "--mode", "tir")
    kept, _ = evaluate(demo, tmp_path, *words)
    used = [row for row in kept.values() if row["executions"]]
    assert len(used) >= 10
    for row in used:
        code = re.search(r"<tool_call>\nprint\((\d+)\+(\d+)\)\n</tool_call>\n", row["text"])
        output = f"```output\n{int(code[1]) + int(code[2])}\n```\n```system\nRemaining code executions: 7\n"
        assert f"</tool_call>\n{output}" in row["text"]
    # What the code put out is what the model goes on with.
    assert sum(re.search(r"```output\n(\d+)\n", row["text"])[1] == row["given"] for row in used) >= 10


def test_genselect_chooses(demo, tmp_path):
    words = ("--problems", str(held_out(8, tmp_path)), "--samples", "4", "--temperature", "1.4")
    kept, printed = evaluate(demo, tmp_path, *words, "--mode", "cot,genselect", "--solutions", "cot")
    assert "tiny, genselect" in printed.replace(str(tmp_path / "problems.jsonl"), "tiny")
    solutions = answers(tmp_path, ("--mode", "cot"))
    judged = [row for row in kept.values() if row["text"] and row["judged"]]
    assert len(kept) == 32 and len(judged) >= 5
    for row in kept.values():
        assert row["given"] == solutions[row["problem"], row["chosen"]]["given"]


def test_ten_kills_change_nothing(demo, tmp_path):
    """Of the server, the evaluation and the sandbox, at random moments; it goes on where it was."""
    import random

    import psutil

    words = ("--problems", str(held_out(8, tmp_path)), "--samples", "4", "--mode", "tir")
    undisturbed, printed = evaluate(demo, tmp_path / "a", *words)
    env = {**os.environ, "WORKSPACE": str(tmp_path / "b"), "OMR_ENV_FILE": "/dev/null"}
    rng, kills = random.Random(3), ["server", "sandbox", "client"] * 3 + ["sandbox"]

    def begin():
        command = evaluation_command(demo, *words)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)

    def part_of(process, kind):
        mark = {"server": "transformers.cli.transformers", "sandbox": "worker.py"}[kind]
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(mark in word for word in child.cmdline()):
                    return child
        return None

    running, killed = begin(), 0
    until = time.monotonic() + 500
    while kills and time.monotonic() < until:
        if running.poll() == 1:  # a server that ended before its first answer is the user's to look at
            assert "then run the same command again" in running.communicate()[1]
            running = begin()
        if running.poll() is not None:
            break
        victim = running if kills[0] == "client" else part_of(running, kills[0])
        begun = len(list((tmp_path / "b").glob("eval/*/answers-*.jsonl")))
        if victim is None or not begun:
            time.sleep(0.05)
            continue
        time.sleep(rng.random())
        with contextlib.suppress(psutil.Error):
            victim.kill()
            killed += 1
        if kills.pop(0) == "client":
            running.communicate()
            running = begin()
        else:
            time.sleep(0.5)
    output, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    assert killed >= 6
    assert answers(tmp_path / "b", words) == undisturbed
    assert output.replace(str(tmp_path / "b"), "") == printed.replace(str(tmp_path / "a"), "")


def test_a_model_is_served_and_asked(demo):
    asked = make(demo[0].root, "ask", "MODEL=tiny", "TEMPERATURE=0", "Q=What is 12+34?")
    assert asked.returncode == 0, asked.stderr
    assert "\\boxed{46}." in asked.stdout
    env = {**os.environ, "WORKSPACE": str(demo[0].root), "OMR_ENV_FILE": "/dev/null"}
    command = [sys.executable, "-u", str(ROOT / "bin" / "serve.py"), "--model", "tiny", "--round", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as serving:
        try:
            line = next(line for line in serving.stdout if line.startswith("curl "))
            curl = shlex.split(line)
            request = urllib.request.Request(curl[2], curl[-1].encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert "\\boxed{46}" in json.load(answer)["choices"][0]["text"]
        finally:
            serving.send_signal(signal.SIGINT)
        assert serving.wait(30) == 130
