"""LAUNCHER=ns for an evaluation: the recipe's page for cot and tir, and what stands for its genselect."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from omr import recipe
from omr.cluster.evaluation import ns
from omr.cluster.evaluation.ns import NsEvaluation
from omr.errors import RequestError
from omr.workspace import Workspace
from tests.cluster.conftest import done

WORKSPACE = Workspace(Path("/workspace"))
# The recipe's page, with the folders of this toolkit in place of its own.
COT = """
ns eval
    --cluster=slurm
    --model=/workspace/runs/{model}/round2/final
    --server_type=sglang
    --server_gpus={gpus}
    --output_dir=/workspace/runs/{model}/round2/ns-eval/cot
    --benchmarks=comp-math-24-25:64
    ++prompt_config=generic/math
    ++inference.tokens_to_generate=32768
    ++inference.temperature=0.6
"""
TIR = """
ns eval
    --cluster=slurm
    --model=/workspace/runs/{model}/round2/final
    --server_type=sglang
    --output_dir=/workspace/runs/{model}/round2/ns-eval/tir
    --benchmarks=comp-math-24-25:64
    --server_gpus={gpus}
    --num_jobs=1
    --with_sandbox
    ++code_tags=openmath
    ++prompt_config=openmath/tir
    ++inference.endpoint_type=text
    ++inference.tokens_to_generate=32768
    ++inference.temperature=0.6
    ++code_execution=true
    ++server.code_execution.add_remaining_code_executions=true
    ++total_code_executions_in_prompt=8
"""
GENSELECT = """
    --run_after=openmathreasoning-eval-{model}-round2-tir
    ++prompt_config=generic/math
    ++inference.tokens_to_generate=32768
    ++inference.temperature=0.6
    ++parallel_thinking.mode=genselect
    ++parallel_thinking.generation_dir=/workspace/runs/{model}/round2/ns-eval/tir/eval-results/comp-math-24-25
    ++parallel_thinking.window_size=16
    ++parallel_thinking.genselect.prompt_config=openmath/genselect
    ++parallel_thinking.tokens_to_generate=32768
    ++parallel_thinking.temperature=0.6
"""
HLE = """
    --split=math
    --judge_generation_type=math_judge
    --judge_model=Qwen/Qwen2.5-32B-Instruct
    --judge_server_gpus=4
    --judge_server_type=sglang
"""
ALL = ("cot", "tir", "genselect")

BENCHMARK = recipe.of_model(recipe.model("7b")).evaluation.benchmark


@pytest.fixture(autouse=True)
def plain(space):
    """An environment that says nothing."""


def commands(model="7b", space=WORKSPACE, modes=ALL, **more):
    return ns.commands(recipe.run(model, 2), space, NsEvaluation(modes, **{"benchmark": BENCHMARK, **more}))


@pytest.mark.parametrize(("model", "gpus"), [("1.5b", 1), ("7b", 4), ("14b", 8)])
def test_the_page_s_own_words(model, gpus):
    prepare, *listed = commands(model)
    assert prepare == ["ns", "prepare_data", "comp-math-24-25"]
    for mode, command, page in zip(ALL, listed, (COT, TIR, COT), strict=True):
        wanted = set(shlex.split(page.format(model=model, gpus=gpus)))
        if mode == "genselect":
            wanted = {word.replace("ns-eval/cot", "ns-eval/genselect") for word in wanted}
            wanted |= set(shlex.split(GENSELECT.format(model=model)))
        # A name of its own, so that genselect can wait for the solutions.
        assert set(command) - wanted == {f"--expname=openmathreasoning-eval-{model}-round2-{mode}"}
        assert wanted <= set(command) and command[:2] == ["ns", "eval"]


@pytest.mark.parametrize("mode", ["cot", "tir"])
def test_hle_has_the_page_s_judge(mode):
    prepare, command = commands(modes=(mode,), benchmark="hle")
    _, usual = commands(modes=(mode,))
    assert prepare == ["ns", "prepare_data", "hle"]
    assert set(command) - set(usual) == {"--benchmarks=hle:64", *HLE.split()}


def test_what_a_user_says(monkeypatch):
    monkeypatch.setenv("QOS", "long")
    monkeypatch.setenv("GPUS", "2")
    _, command = commands(
        modes=("cot",), samples=8, temperature=0.7, top_p=0.9, max_tokens=1000, jobs=4, benchmark="aime25"
    )
    assert set(command) > {
        *("--benchmarks=aime25:8", "--num_jobs=4", "--qos=long", "--server_gpus=2"),
        *("++inference.temperature=0.7", "++inference.top_p=0.9", "++inference.tokens_to_generate=1000"),
    }


def test_genselect_waits_only_for_what_runs_beside_it():
    _, command = commands(modes=("cot", "genselect"))[1:]
    assert not any(word.startswith("--run_after") for word in command)
    (*_, command) = commands(modes=("cot", "genselect"), solutions="cot")
    assert "--run_after=openmathreasoning-eval-7b-round2-cot" in command
    assert any(word.endswith("ns-eval/cot/eval-results/comp-math-24-25") for word in command)


def test_the_average_that_ns_itself_left(tmp_path):
    space = Workspace(tmp_path)
    folder = space.run(recipe.run("7b", 2))
    theirs = folder.checkpoints / "final_hf_model"
    theirs.mkdir(parents=True)
    assert f"--model={theirs}" in commands(space=space)[1]
    done(folder.final, files={})
    assert f"--model={folder.final}" in commands(space=space)[1]


@pytest.mark.parametrize(
    ("model", "given", "environ", "says"),
    [
        ("tiny", {}, {}, "NeMo-Skills, which has no problems for tiny"),
        ("7b", {"PROBLEMS": "p"}, {}, "PROBLEMS: LAUNCHER=ns knows no such thing"),
        ("7b", {"SERVER": "http://x"}, {}, "SERVER: LAUNCHER=ns knows"),
        ("7b", {"BEFORE": "1"}, {}, "BEFORE: LAUNCHER=ns knows"),
        ("7b", {}, {"CONTAINER": "/i.sqsh"}, r"CONTAINER: LAUNCHER=ns runs in .* own image \(.*skills:0"),
    ],
)
def test_what_is_refused(model, given, environ, says, monkeypatch):
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RequestError, match=says):
        ns.refuse(recipe.run(model), given)


def test_a_dry_run_says_everything_and_writes_nothing(tmp_path):
    space, lines = Workspace(tmp_path), []
    ns.evaluate(recipe.run("7b", 2), space, NsEvaluation(ALL, BENCHMARK), lines.append, dry_run=True)
    assert lines[0] == ns.DIFFERENT and "\n" not in ns.DIFFERENT
    shown = "\n".join(lines)
    assert shown.count("NEMO_SKILLS_CONFIG_DIR=") == 4 and "sandbox: igitman/nemo-skills-sandbox" in shown
    assert not any(tmp_path.rglob("ns-eval"))


def test_it_runs_one_command_after_the_other(tmp_path, monkeypatch):
    tool, seen, space = tmp_path / "bin" / "ns", tmp_path / "seen", Workspace(tmp_path / "w")
    run = recipe.run("7b", 2)
    with pytest.raises(RequestError, match="is not finished; run make train MODEL=7b ROUND=2 first"):
        ns.evaluate(run, space, NsEvaluation(("cot",), BENCHMARK), print)
    done(space.run(run).final, files={})
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$1 $NEMO_SKILLS_CONFIG_DIR" >> {seen}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    ns.evaluate(run, space, NsEvaluation(("cot", "tir"), BENCHMARK), print)
    place = ns.outputs(space.run(run))
    assert seen.read_text().splitlines() == [f"{word} {place}" for word in ("prepare_data", "eval", "eval")]
    assert "sglang" in (place / "slurm.yaml").read_text()
    # The folder of a training by ns is another: that is how such a run is known.
    assert not (space.run(run).root / "ns").exists()


@pytest.mark.nemo
@pytest.mark.slow
def test_nemo_skills_own_parsers_take_every_command():
    pytest.importorskip("nemo_skills")
    given = [*commands(), *commands(benchmark="hle")]
    script = Path(__file__).with_name("ns_parser.py")
    done = subprocess.run(
        [sys.executable, script], input=json.dumps(given), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    prepare, cot, tir, genselect, hle, *judged = json.loads(done.stdout.splitlines()[-1])
    assert prepare["rest"] == ["comp-math-24-25"] and hle["rest"] == ["hle"]
    for one in (cot, tir, genselect):
        assert (one["options"]["server_type"], one["options"]["server_gpus"]) == ("sglang", "4")
        assert one["keys"]["inference"]["tokens_to_generate"] == 32768
        assert one["keys"]["inference"]["top_p"] == ns.TOP_P
    assert (tir["options"]["with_sandbox"], tir["keys"]["code_execution"]) == ("True", True)
    assert tir["keys"]["inference"]["endpoint_type"] == "text"
    thinking = genselect["keys"]["parallel_thinking"]
    assert (thinking["mode"], thinking["window_size"]) == ("genselect", 16)
    assert thinking["genselect"]["prompt_config"] == "openmath/genselect"
    for one in judged:
        assert (one["options"]["judge_generation_type"], one["options"]["split"]) == ("math_judge", "math")
