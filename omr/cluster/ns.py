"""LAUNCHER=ns: the same run through NeMo-Skills' own `ns nemo_rl sft`: its argv and its cluster file.

Round 1 is the recipe's own command line, word for word but for the folders. Round 2 is that with the recipe's
changes, corrected where they cannot work: its own folder and name, a save period that reaches the averaged
steps, round 1's final model where it really is, and no metric that needs a validation set.
"""

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from omr import files, manifest, recipe, settings
from omr.cluster import slurm
from omr.cluster.submit import Say, Submission
from omr.errors import OmrError, RequestError
from omr.models import architecture
from omr.request import TrainRequest
from omr.run import frozen
from omr.workspace import RunFolder, Workspace

CLUSTER = "slurm"  # name of the cluster file
# NeMo-Skills' own image for NeMo-RL at the pinned commit (its cluster_configs/example-slurm.yaml).
IMAGE = "igitman/nemo-skills-nemo-rl:0.7.1"
IMAGES = {"nemo-rl": IMAGE}
EPSILON = 1e-6  # of RMSNorm, in its SFT YAML
# From these on the pinned NeMo-Skills breaks: `SupportedBackends.megatron` stands in the average's command,
# which fails after all the training; its `--output_dir` is not understood.
BREAKS = {"Python": (3, 11), "typer": (0, 29)}
LINKS = "num_training_jobs"  # its option; newer ones have --dependent_jobs=N, and hand ours on to NeMo-RL
# Asks the Python of `ns` for these versions, for the commit that nemo-skills was installed from ("" where it
# came from a folder), and whether it has that option. Nothing of it is imported.
ASK = f"""
import importlib.metadata as metadata, importlib.util, json, pathlib, sys
skills = metadata.distribution("nemo_skills")
origin = json.loads(skills.read_text("direct_url.json") or "{{}}")
package = pathlib.Path(importlib.util.find_spec("nemo_skills").submodule_search_locations[0])
print(json.dumps({{
    "Python": sys.version_info[:2],
    "typer": [int(part) for part in metadata.version("typer").split(".")[:2]],
    "commit": origin.get("vcs_info", {{}}).get("commit_id", ""),
    "links": "{LINKS}" in (package / "pipeline/nemo_rl/sft.py").read_text(),
}}))
"""


def train(request: TrainRequest, workspace: Workspace, how: Submission, say: Say) -> None:
    """Submit a run through `ns`, or say what would be run; a RequestError for what it cannot do."""
    for name, value in (("LIMIT", request.limit), ("RECOVERY", request.recovery), ("EVAL", how.evaluate)):
        if value:
            raise RequestError(
                f"{name}: LAUNCHER=ns knows no such thing; leave it out, or use LAUNCHER=sbatch"
            )
    refuse_container(IMAGE)
    command = argv(request, workspace, how.links)
    if not how.dry_run:
        check(request, workspace)
        check_program(command[0])
        _freeze(request, workspace, say)
    submit(request.run, workspace, command, say, how.dry_run)


def refuse_container(image: str) -> None:
    """A RequestError where CONTAINER names another image than NeMo-Skills' own."""
    if settings.get("CONTAINER"):
        raise RequestError(
            f"CONTAINER: LAUNCHER=ns runs in NeMo-Skills' own image ({image}), whose scripts fail in another;"
            " leave it out, or use LAUNCHER=sbatch"
        )


def argv(request: TrainRequest, workspace: Workspace, links: int = 1) -> list[str]:
    """The command line, as NeMo-Skills' snapshot of the recipe reads it."""
    run, model, schedule = request.run, request.run.model, request.run.schedule
    second_round = run.round.number == 2
    own_name = "" if run.key == "round1" else f"-{run.key}"
    command = [
        *("ns", "nemo_rl", "sft"),
        f"--cluster={CLUSTER}",
        f"--expname=openmathreasoning-repro-{model.folder}{own_name}",
        f"--output_dir={workspace.run(run).checkpoints}",
        f"--hf_model={base_of(run, workspace)}",
        f"--num_nodes={request.job_nodes}",
        f"--num_gpus={request.job_gpus or model.gpus}",
        "--backend=megatron",
        f"--average_steps={','.join(map(str, schedule.averaged))}",
        f"--training_data={frozen.data_of(run, workspace, request.modes)}",
        f"++policy.max_total_sequence_length={model.sequence_length}",
        "++policy.train_micro_batch_size=1",
        f"++policy.train_global_batch_size={model.batch}",
        f"++policy.tensor_model_parallel_size={model.tensor_parallel}",
        f"++policy.context_parallel_size={model.context_parallel}",
        f"++policy.lr={_rate(model.lr)}",
        f"++policy.min_lr={_rate(model.min_lr)}",
        f"++policy.megatron_cfg.scheduler.lr_warmup_iters={schedule.warmup}",
        "++policy.megatron_cfg.scheduler.lr_warmup_init=0",
        f"++checkpointing.save_period={schedule.save_period}",
        f"++sft.max_num_steps={schedule.steps}",
        "++sft.max_num_epochs=100",
    ]
    options = [f"--{LINKS}={links}"] if links > 1 else []
    if qos := settings.get("QOS"):
        options.append(f"--qos={qos}")
    if "WANDB_API_KEY" not in settings.secrets():  # it is on by default, and its login would end the job
        options.append("--disable_wandb")
    elif project := settings.get("WANDB_PROJECT"):
        options.append(f"--wandb_project={project}")
    if second_round:
        command += ["++checkpointing.metric_name=null", "++checkpointing.keep_top_k=null"]
    if (epsilon := architecture.trained_epsilon(run)) != EPSILON:
        command.append(f"++policy.megatron_cfg.layernorm_epsilon={_rate(epsilon)}")
    command += _of_edition(run)
    command[11:11] = options  # behind the other options of `ns`, before the keys
    # NeMo-Skills has short names of its own, so these are not checked against NeMo-RL's keys.
    return [*command, *(f"++{word.lstrip('+')}" for word in shlex.split(request.overrides or ""))]


def _of_edition(run: recipe.Run) -> list[str]:
    """The keys that an edition has otherwise than the pinned NeMo-Skills' own YAML."""
    pinned, edition = recipe.EDITIONS[recipe.PINNED], run.text
    found = []
    if edition.clip != pinned.clip:
        found.append(f"++policy.megatron_cfg.optimizer.clip_grad={edition.clip}")
    if edition.memory_level != pinned.memory_level:
        found.append(f"++policy.megatron_cfg.empty_unused_memory_level={edition.memory_level}")
    if edition.trains_full_rows != pinned.trains_full_rows:  # NeMo-Skills masks longer rows than this
        found.append(f"++data.max_input_seq_length={run.model.sequence_length - 1}")
    return found


def base_of(run: recipe.Run, workspace: Workspace) -> Path:
    """What a run starts from: ours, or for round 2 the average that `ns` itself left of round 1."""
    base = frozen.base_of(run, workspace)
    theirs = base.parent / "checkpoints" / "final_hf_model"
    return theirs if manifest.read(base) is None and (theirs / "config.json").exists() else base


def check(request: TrainRequest, workspace: Workspace) -> None:
    """A RequestError for what `ns` would find out on the nodes, or never: lacking inputs, a chain of ours."""
    run, folder = request.run, workspace.run(request.run)
    base, data = base_of(run, workspace), frozen.data_of(run, workspace, request.modes)
    if slurm.available():
        slurm.refuse_second(str(folder.root), run.title)
    if folder.jobs_json.exists() and folder.run_json.exists():
        raise RequestError(
            f"{folder.root} was begun with LAUNCHER=sbatch, whose checkpoints are of another NeMo-RL; go on"
            " with that, or set NAME=… for a run of its own"
        )
    for path, maker in ((base, "make model, or round 1's make train"), (data, "make data")):
        if manifest.read(path) is None and not (path / "config.json").exists():
            raise RequestError(f"{path} is not there, or not finished; run {maker} first")


def _freeze(request: TrainRequest, workspace: Workspace, say: Say) -> None:
    """Write down what the run begins with, so that make average can finish it."""
    base = base_of(request.run, workspace)
    if manifest.read(base) is not None:
        frozen.freeze(workspace.run(request.run), frozen.inputs(request, workspace))
    else:
        words = recipe.run_words(recipe.run(request.run.model.name, 1, edition=request.run.edition))
        say(
            f"note: {base} has no manifest.json, so make average cannot finish this run;"
            f" make average {words} makes a base that it can"
        )


def check_program(name: str) -> None:
    """A RequestError for an `ns` that is not there, is not the pinned one, or has what that one breaks on."""
    path = shutil.which(name)
    if path is None:
        raise RequestError(
            "ns is not installed; install nemo-skills at the pinned commit, or use LAUNCHER=sbatch"
        )
    with Path(path).open("rb") as handle:
        first = handle.readline(500).decode(errors="replace").removeprefix("#!").split()
    if not first or "python" not in first[-1]:
        return  # a site's own wrapper: what it runs is not ours to guess
    said = subprocess.run(
        [*first, "-c", ASK], capture_output=True, text=True, errors="replace"
    ).stdout.strip()
    if not said:
        return  # it lacks nemo-skills or typer, and says so itself
    found, pinned = json.loads(said), settings.pins()["NEMO_SKILLS_COMMIT"]
    if found["commit"] not in ("", pinned) or not found["links"]:
        has = f"NeMo-Skills {found['commit'][:8]}" if found["commit"] else f"a NeMo-Skills without --{LINKS}"
        raise RequestError(
            f"{path}: is of {has}, and LAUNCHER=ns speaks to the pinned {pinned[:8]} alone; install"
            " nemo-skills at that commit, or use LAUNCHER=sbatch"
        )
    for what, least in BREAKS.items():
        if tuple(found[what]) >= least:
            raise RequestError(
                f"{path}: runs with {what} {'.'.join(map(str, found[what]))}, and the pinned NeMo-Skills"
                f" needs one before {'.'.join(map(str, least))}; install it in an environment of Python 3.10"
                " with typer below 0.29"
            )


def begun(folder: RunFolder) -> bool:
    """Whether a run was submitted through `ns`."""
    return (folder.root / "ns" / f"{CLUSTER}.yaml").exists()


def refuse(folder: RunFolder) -> None:
    """A RequestError for such a run, where jobs of ours are asked for."""
    if begun(folder):
        raise RequestError(
            f"{folder.root} was begun with LAUNCHER=ns, whose jobs know nothing of ours; go on with that,"
            " or set NAME=… for a run of its own"
        )


def forget(folder: RunFolder) -> None:
    """FORCE=1: the run may be submitted by either launcher again."""
    shutil.rmtree(folder.root / "ns", ignore_errors=True)


def _rate(value: float) -> str:
    """`3e-4`, as the recipe writes it."""
    return f"{value:.0e}".replace("e-0", "e-")


def cluster_file(workspace: Workspace, mounts: str | None, containers: Mapping[str, str] = IMAGES) -> dict:
    """NeMo-Skills' cluster file from our settings; secrets by name, which it reads from the environment."""
    get = settings.get
    workspace_mount = f"{workspace.root}:{workspace.root}"
    values = {
        "executor": "slurm",
        "containers": dict(containers),
        "job_dir": str(workspace.root / "ns"),
        "job_name_prefix": "omr:",
        "account": get("ACCOUNT"),
        "partition": get("PARTITION"),
        "cpu_partition": get("CPU_PARTITION"),
        "timeouts": {get("PARTITION"): get("TIME")} if get("PARTITION") and get("TIME") else None,
        "mounts": [workspace_mount, *filter(None, (mounts or "").split(","))],
        "env_vars": [f"HF_HOME={get('HF_HOME') or workspace.root / 'hf_home'}", *settings.secrets()],
    }
    return {key: value for key, value in values.items() if value}


def submit(
    run: recipe.Run, workspace: Workspace, command: Sequence[str], say: Say, dry_run: bool = False
) -> None:
    """Write the cluster file of a training and run `ns`; with `dry_run` print both."""
    folder = workspace.run(run).root / "ns"
    call([command], folder, cluster_file(workspace, settings.get("MOUNTS")), say, dry_run)


def call(
    commands: Sequence[Sequence[str]], folder: Path, cluster: dict, say: Say, dry_run: bool = False
) -> None:
    """Write a cluster file below `folder` and run commands of `ns` by it; with `dry_run` print all."""
    import yaml

    text = yaml.safe_dump(cluster, sort_keys=False)
    file = folder / f"{CLUSTER}.yaml"
    if dry_run:
        variable = f"NEMO_SKILLS_CONFIG_DIR={shlex.quote(str(folder))}"
        for command in commands:
            say(" \\\n  ".join([variable, *map(shlex.quote, command)]) + "\n")
        say(f"{file}:\n{text}")
        return
    for name in settings.secrets():
        say(f"note: NeMo-Skills writes {name} into the scripts that it generates; LAUNCHER=sbatch does not")
    files.write_text(file, text)
    for command in commands:
        done = subprocess.run(command, env={**os.environ, "NEMO_SKILLS_CONFIG_DIR": str(folder)})
        if done.returncode:
            raise OmrError(f"{shlex.join(command[:2])} ended with exit code {done.returncode} (see above)")
