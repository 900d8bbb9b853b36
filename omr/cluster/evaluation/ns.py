"""LAUNCHER=ns for an evaluation: the recipe's page (its docs' evaluation.md) by `ns` itself.

cot and tir are the page's own commands, for a run's final model and its folders. The page's `ns genselect` is
gone at the pinned commit; what is there in its place is parallel thinking, a mode of `ns eval`
(nemo_skills/inference/model/parallel_thinking.py), which selects otherwise: `DIFFERENT` says how.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omr import manifest, recipe, settings
from omr.cluster import ns
from omr.cluster.evaluation import checks
from omr.cluster.submit import Say
from omr.errors import RequestError
from omr.workspace import RunFolder, Workspace

# NeMo-Skills' own images at the pinned commit (its cluster_configs/example-slurm.yaml).
IMAGES = {
    "nemo-skills": "igitman/nemo-skills:0.7.1",
    "sglang": "lmsysorg/sglang:v0.5.3rc1-cu126",
    "sandbox": "igitman/nemo-skills-sandbox:0.7.1",
}
# The page's judge of hle, whose answers in words are not compared as formulas.
JUDGE = (
    "--judge_generation_type=math_judge",
    "--judge_model=Qwen/Qwen2.5-32B-Instruct",
    "--judge_server_gpus=4",
    "--judge_server_type=sglang",
)
TIR = (
    "++code_tags=openmath",
    "++prompt_config=openmath/tir",
    "++inference.endpoint_type=text",
    "++code_execution=true",
    "++server.code_execution.add_remaining_code_executions=true",
)
TOP_P = 0.95  # NeMo-Skills' default, which the page leaves
MOST_SOLUTIONS = 16  # that the published GenSelect read at once; the default of parallel thinking is 8
DIFFERENT = (
    "note: the pinned NeMo-Skills has no `ns genselect`: its parallel thinking draws 16 solutions whatever"
    " their answers, and shows the problem as the chat message that asked it; without LAUNCHER=ns it is"
    " selected as published"
)


@dataclass(frozen=True)
class NsEvaluation:
    """What is asked for, of what `ns eval` knows."""

    modes: tuple[str, ...]
    benchmark: str
    samples: int = 64
    temperature: float = 0.6
    top_p: float = TOP_P
    max_tokens: int = 32_768
    solutions: str = "tir"  # of which mode genselect compares the solutions
    jobs: int = 1  # SHARDS


def evaluate(
    run: recipe.Run, workspace: Workspace, asked: NsEvaluation, say: Say, dry_run: bool = False
) -> None:
    """Run the page's commands, or say what they are; a RequestError for what is not there."""
    folder = workspace.run(run)
    if not dry_run:
        if manifest.read(folder.final) is None and not (final_of(folder) / "config.json").exists():
            words = recipe.run_words(run)
            raise RequestError(f"{folder.final}: is not finished; run make train {words} first")
        ns.check_program("ns")
    if "genselect" in asked.modes:
        say(DIFFERENT)
    cluster = ns.cluster_file(workspace, settings.get("MOUNTS"), IMAGES)
    ns.call(commands(run, workspace, asked), outputs(folder), cluster, say, dry_run)


def refuse(run: recipe.Run, given: Mapping[str, str]) -> None:
    """A RequestError for settings that `ns eval` knows nothing of; `given` are a user's, by name."""
    if recipe.of_model(run.model).evaluation.own:
        raise RequestError(
            f"LAUNCHER=ns evaluates by NeMo-Skills, which has no problems for {run.model.name}; leave it out"
        )
    for name in ("PROBLEMS", "SERVER", "SANDBOX", "BEFORE"):
        if name in given:
            raise RequestError(f"{name}: LAUNCHER=ns knows no such thing; leave it out, or LAUNCHER=ns")
    ns.refuse_container(IMAGES["nemo-skills"])


def outputs(folder: RunFolder) -> Path:
    """Where `ns` writes what it finds about a run, a folder for each mode, and its cluster file."""
    return folder.root / "ns-eval"


def final_of(folder: RunFolder) -> Path:
    """The model that a run ended with: ours, or the average that `ns nemo_rl sft` left."""
    theirs = folder.checkpoints / "final_hf_model"
    return theirs if manifest.read(folder.final) is None and theirs.exists() else folder.final


def commands(run: recipe.Run, workspace: Workspace, asked: NsEvaluation) -> list[list[str]]:
    """The command lines, in order: the benchmark's own preparation first, a mode each after it."""
    return [["ns", "prepare_data", asked.benchmark], *(_eval(run, workspace, asked, m) for m in asked.modes)]


def _eval(run: recipe.Run, workspace: Workspace, asked: NsEvaluation, mode: str) -> list[str]:
    """`ns eval` for one mode."""
    folder, model = workspace.run(run), run.model
    gpus = settings.number("GPUS")
    judged = asked.benchmark in checks.JUDGED
    command = [
        *("ns", "eval"),
        f"--cluster={ns.CLUSTER}",
        f"--expname={_name(run, mode)}",
        f"--model={final_of(folder)}",
        "--server_type=sglang",
        # The page's model is the 1.5b, which is served by one; larger ones as they were trained.
        f"--server_gpus={min(model.tensor_parallel, model.gpus if gpus is None else gpus) or 1}",
        f"--output_dir={outputs(folder) / mode}",
        f"--benchmarks={asked.benchmark}:{asked.samples}",
        *(["--split=math", *JUDGE] if judged else []),
    ]
    if qos := settings.get("QOS"):
        command.append(f"--qos={qos}")
    if mode == "tir":
        command += [f"--num_jobs={asked.jobs}", "--with_sandbox"]
    elif asked.jobs > 1:
        command.append(f"--num_jobs={asked.jobs}")
    if mode == "genselect" and asked.solutions in asked.modes:
        command.append(f"--run_after={_name(run, asked.solutions)}")
    if mode == "tir":
        executions = recipe.of_model(run.model).evaluation.code_executions
        command += [*TIR, f"++total_code_executions_in_prompt={executions}"]
    else:
        command.append("++prompt_config=generic/math")
    command += [
        f"++inference.tokens_to_generate={asked.max_tokens}",
        f"++inference.temperature={asked.temperature:g}",
    ]
    if asked.top_p != TOP_P:
        command.append(f"++inference.top_p={asked.top_p:g}")
    if mode == "genselect":
        solutions = outputs(folder) / asked.solutions / "eval-results" / asked.benchmark
        command += [
            "++parallel_thinking.mode=genselect",
            f"++parallel_thinking.generation_dir={solutions}",
            f"++parallel_thinking.window_size={MOST_SOLUTIONS}",
            "++parallel_thinking.genselect.prompt_config=openmath/genselect",
            f"++parallel_thinking.tokens_to_generate={asked.max_tokens}",
            f"++parallel_thinking.temperature={asked.temperature:g}",
        ]
    return command


def _name(run: recipe.Run, mode: str) -> str:
    """Names an experiment: another one may wait for it."""
    return f"openmathreasoning-eval-{run.model.folder}-{run.key}-{mode}"
