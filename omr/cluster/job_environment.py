"""What a run's jobs are given: the machine's facts and the run's words.

A job gets a small environment of named, harmless words; secrets stay in .env (mode 600) and are read on
the node.
"""

import os
import sys
from collections.abc import Mapping

from omr import manifest, settings
from omr.cluster.chain import Job, Site
from omr.errors import RequestError
from omr.request import TrainRequest
from omr.run import frozen
from omr.training.nemo_rl import prepared_data
from omr.workspace import Workspace

# What a job needs to find itself; everything else it gets by name from our settings.
PLAIN = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ"),
    *("SLURM_CONF", "SQSH_SPACE"),
)
# What the supervisor sets for the engine; an image's own values must not win.
ENGINE_NAMES = (
    *("OMR_DEADLINE", "OMR_STOP", "OMR_LEASE", "OMR_METRICS", "OMR_DATA", "OMR_ROOT", "OMR_STEP_DELAY"),
    *("RAY_AUTH_TOKEN_PATH", "NRL_MEGATRON_CHECKPOINT_DIR", "RUN_DIR", "GPUS", "NEMO_RL"),
)


def site(workspace: Workspace, request: TrainRequest | None = None) -> Site:
    """The machine facts, from the settings; with a `request`, its size and the words that name it."""
    get = settings.get
    return Site(
        nodes=request.job_nodes if request else settings.number("NODES") or 1,
        gpus=request.job_gpus if request else settings.number("GPUS") or 0,
        account=get("ACCOUNT"),
        partition=get("PARTITION"),
        cpu_partition=get("CPU_PARTITION"),
        qos=get("QOS"),
        time=get("TIME"),
        container=get("CONTAINER"),
        python=sys.executable,
        words={**words(workspace), **(request.words() if request else {})},
    )


def words(workspace: Workspace, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Every harmless setting that is set, by name, as the jobs get it; never a secret's value."""
    documented = [s.name for s in settings.SETTINGS.values() if s.for_jobs and not s.of_run and not s.secret]
    others = [
        name
        for name in environ
        if name not in settings.SETTINGS
        and name.startswith((*settings.FOREIGN, "OMR_"))
        and not name.startswith("PIP_")
        and not settings.is_secret(name)
    ]
    named = {name: environ[name] for name in (*documented, *others) if environ.get(name)}
    secret = [s.name for s in settings.SETTINGS.values() if s.secret]
    return {
        **named,
        "WORKSPACE": str(workspace.root),
        "OMR_ROOT": str(settings.ROOT),
        "OMR_PYTHON": sys.executable,
        "OMR_ENV_FILE": str(settings.env_file().absolute()),
        "NEMO_RL": settings.nemo_rl_folder(),
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


def prepared(request: TrainRequest, workspace: Workspace) -> bool:
    """Is NeMo-RL's form of the training data there already?"""
    origin = manifest.read(frozen.data_of(request.run, workspace, request.modes))
    return origin is not None and prepared_data.finished(workspace, origin["sha256"], request.limit)
