"""What a run's jobs are given: the machine's facts, the run's words, the engine's file.

A job gets a small environment of named, harmless words; secrets stay in .env (mode 600) and are read on
the node.
"""

import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from omr import manifest, recipe, settings
from omr.cluster import chain
from omr.cluster.chain import Job, Site
from omr.errors import RequestError
from omr.run import request as runs
from omr.training.nemo_rl import checks, config
from omr.workspace import Workspace

# What a job needs to find itself; everything else it gets by name from our settings.
PLAIN = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ"),
    *("SLURM_CONF", "SQSH_SPACE"),
)
# Said per command, and nothing to a job.
NOT_FOR_JOBS = {
    "DRY_RUN",
    "FORCE",
    "JSON",
    "FOLLOW",
    "YES",
    "NUM_TRAINING_JOBS",
    "LAUNCHER",
    "RUNNER",
    "EVAL",
}
# What the supervisor sets for the engine; an image's own values must not win.
ENGINE_NAMES = (
    *("OMR_DEADLINE", "OMR_STOP", "OMR_LEASE", "OMR_METRICS", "OMR_DATA", "OMR_ROOT", "OMR_STEP_DELAY"),
    *("RAY_AUTH_TOKEN_PATH", "NRL_MEGATRON_CHECKPOINT_DIR", "RUN_DIR", "GPUS", "NEMO_RL"),
)


def site(run: recipe.Run | None, workspace: Workspace, asked: dict | None = None) -> Site:
    """The machine facts, from the settings; `asked` are the words of a run beside those that name it."""
    get = settings.get
    nodes, gpus = size(run)
    return Site(
        nodes=nodes,
        gpus=gpus,
        account=get("ACCOUNT"),
        partition=get("PARTITION"),
        cpu_partition=get("CPU_PARTITION"),
        qos=get("QOS"),
        time=get("TIME"),
        container=get("CONTAINER"),
        python=sys.executable,
        words={**words(workspace), **(of_run(run, asked) if run and asked else {})},
    )


def size(run: recipe.Run | None) -> tuple[int, int]:
    """Nodes of a training job, and GPUs of each: what was said, else the recipe's."""
    gpus = settings.get("GPUS")
    return (
        int(settings.get("NODES") or (run.model.nodes if run else 1)),
        int(gpus) if gpus is not None else (run.model.gpus if run else 0),
    )


def of_run(run: recipe.Run, asked: dict) -> dict[str, str]:
    """The words that name a run, as its jobs read them again."""
    plain = run.schedule == recipe.run(*_names(run)).schedule
    named = {
        "MODEL": run.model.name,
        "ROUND": str(run.round.number),
        "VARIANT": run.round.variant,
        "NAME": run.name,
        "STEPS": None if plain else str(run.schedule.steps),
        "LIMIT": asked["limit"] and str(asked["limit"]),
        "MODES": ",".join(asked["modes"]),
        "OVERRIDES": asked["overrides"],
    }
    return {name: value for name, value in named.items() if value}


def _names(run: recipe.Run) -> tuple:
    return run.model.name, run.round.number, run.round.variant


def words(workspace: Workspace, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Every harmless setting that is set, by name, as the jobs get it; never a secret's value."""
    named = {
        name: environ[name]
        for name in environ
        if (name in settings.SETTINGS or name.startswith((*settings.FOREIGN, "OMR_")))
        and environ[name]
        and name not in (*NOT_FOR_JOBS, *chain.WORDS)
        and not name.startswith("PIP_")
        and not settings.is_secret(name)
    }
    secret = [s.name for s in settings.SETTINGS.values() if s.secret]
    return {
        **named,
        "WORKSPACE": str(workspace.root),
        "OMR_ROOT": str(settings.ROOT),
        "OMR_PYTHON": sys.executable,
        "OMR_ENV_FILE": str(settings.env_file().absolute()),
        "NEMO_RL": settings.get("NEMO_RL") or config.FOLDER,
        "CONTAINER_ENV": ",".join(dict.fromkeys([*named, *secret, *ENGINE_NAMES])),
        "CONTAINER_MOUNTS": container_mounts(environ) if environ.get("CONTAINER") else "",
    }


def container_mounts(environ: Mapping[str, str]) -> str:
    """What pyxis mounts: the toolkit, the workspace, every path that a setting names, and MOUNTS."""
    from omr.containers.mounts import Mount, mounts

    found = [Mount(str(settings.ROOT), str(settings.ROOT)), *mounts(environ, settings.env_file())]
    for mount in found:
        if set(mount.source + mount.target) & set(",:"):
            raise RequestError(
                f"{mount.source}: pyxis cannot mount a path with a comma or a colon; rename it"
            )
    named = {m.target: f"{m.source}:{m.target}{'' if m.writable else ':ro'}" for m in found}
    return ",".join(named.values())


def environment(job: Job, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment that a job is submitted with."""
    plain = {name: environ[name] for name in PLAIN if name in environ}
    return {**plain, **{name: str(value) for name, value in job.env.items() if value is not None}}


def exported_secrets(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names of secrets that are set here but not in .env: jobs will not have them."""
    path = settings.env_file()
    there = settings.read(path) if path.exists() else {}
    return [
        s.name for s in settings.SETTINGS.values() if s.secret and environ.get(s.name) and s.name not in there
    ]


def kept_secrets() -> list[str]:
    """Names of the secrets that jobs will have: those in .env."""
    exported = exported_secrets()
    return [name for name in settings.secrets() if name not in exported]


def prepared(run: recipe.Run, workspace: Workspace, words: dict) -> bool:
    """Is the engine's form of the training data there already?"""
    from omr.training.nemo_rl import prepared_data

    origin = manifest.read(runs.data_of(run, workspace, words["modes"]))
    return origin is not None and prepared_data.finished(workspace, origin["sha256"], words["limit"])


def engine_file(
    run: recipe.Run,
    workspace: Workspace,
    words: dict,
    *,
    base: Path | None = None,
    data: Path | None = None,
    secrets: Collection[str] | None = None,
) -> tuple[Path, str] | None:
    """nemo_rl.yaml and its text; None for the one-box engine, which writes its own.

    `base` and `data` where they are still to be made, else what the run starts from now; `secrets` are the
    names of those that the engine will have, by default a job's.
    """
    if words["engine"] != "nemo-rl":
        return None
    folder, (nodes, gpus) = workspace.run(run), size(run)
    wandb = None
    if "WANDB_API_KEY" in (kept_secrets() if secrets is None else secrets):
        named = {"project": settings.get("WANDB_PROJECT"), "entity": settings.get("WANDB_ENTITY")}
        wandb = {key: value for key, value in named.items() if value}
    values = config.config(
        run,
        folder,
        base or runs.base_of(run, workspace),
        data or runs.data_of(run, workspace, words["modes"]),
        nodes=nodes,
        gpus=gpus,
        overrides=words["overrides"],
        wandb=wandb,
        engine_root=settings.get("NEMO_RL") or config.FOLDER,
    )
    return folder.engine_yaml("nemo-rl"), config.text(values, run, words["overrides"])


def check_engine(file: tuple[Path, str] | None, run: recipe.Run, request: dict) -> None:
    """A RequestError where the file's text cannot train this request, or is not what the run began with."""
    import yaml

    if file is None:
        return
    path, text = file
    rows, limit = request["data"]["rows"], request["limit"]
    checks.rows(run, min(rows, limit or rows), yaml.safe_load(text))
    if path.exists() and (changed := checks.changes(path.read_text(), text)):
        raise RequestError(
            f"{path}: the run began with other values: {'; '.join(changed)}; remove the file to go on with"
            " the new ones, or set NAME=… for a run of its own"
        )
