"""The environment of a job: the settings it gets by name, the site's facts, and which secrets it will have.

A job gets a small environment of named, harmless variables; secrets stay in .env (mode 600) and are read on
the node.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from omr import manifest, settings
from omr.cluster.jobs import Job, Site
from omr.containers import mounts
from omr.errors import OmrError
from omr.request import TrainRequest
from omr.run import snapshot
from omr.run.nemo_rl_version import nemo_rl_folder
from omr.workspace import Workspace

# What a job needs of the login shell's environment; everything else it gets by name from our settings.
PLAIN = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "TZ"),
    *("SLURM_CONF", "SQSH_SPACE"),
)
# What the supervisor sets for the engine; an image's own values must not win.
ENGINE_NAMES = (
    *("OMR_DEADLINE", "OMR_STOP", "OMR_LEASE", "OMR_METRICS", "OMR_DATA", "OMR_ROOT", "OMR_STEP_DELAY"),
    *("OMR_VALIDATION", "OMR_LOCKS", "OMR_REVISION", "RAY_AUTH_TOKEN_PATH", "NRL_MEGATRON_CHECKPOINT_DIR"),
    *("RUN_DIR", "GPUS", "NEMO_RL", "RECOVERY"),
)


def site(workspace: Workspace, request: TrainRequest | None = None, code: Path | None = None) -> Site:
    """The site's facts from the settings; with a `request`, its size and the settings that name its run.

    `code` is a run's copy of this toolkit, which the jobs run in place of the checkout.
    """
    get = settings.get
    return Site(
        nodes=request.job_nodes if request else settings.number("NODES") or 1,
        gpus=request.job_gpus if request else settings.number("GPUS") or 0,
        account=get("ACCOUNT"),
        partition=get("PARTITION"),
        cpu_partition=get("CPU_PARTITION"),
        qos=get("QOS"),
        time=get("TIME"),
        settings={**settings_for_jobs(workspace, code), **(request.words() if request else {})},
    )


def settings_for_jobs(
    workspace: Workspace, code: Path | None = None, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Every harmless setting that is set, by name, as the jobs get it; never a secret's value."""
    absolute = mounts.paths(environ)  # a job stands in another folder than the user
    documented = [s.name for s in settings.SETTINGS.values() if s.for_jobs and not s.of_run and not s.secret]
    foreign = [name for name in environ if _is_foreign(name)]
    named = {name: absolute.get(name, environ[name]) for name in (*documented, *foreign) if environ.get(name)}
    if "CONTAINER" in named:
        named["CONTAINER"] = _image(named["CONTAINER"])
    secret = [s.name for s in settings.SETTINGS.values() if s.secret]
    return {
        **named,
        "WORKSPACE": str(workspace.root),
        "OMR_ROOT": str(code or settings.ROOT),
        "OMR_VENV": str(settings.venv()),
        "OMR_REVISION": manifest.code_revision(),
        "OMR_LOCKS": snapshot.locks_id(),
        **({"OMR_FROZEN": "1"} if code else {}),
        "OMR_PYTHON": sys.executable,
        "OMR_ENV_FILE": str(settings.env_file().absolute()),
        "NEMO_RL": nemo_rl_folder(),
        "CONTAINER_ENV": ",".join(dict.fromkeys([*named, *secret, *ENGINE_NAMES])),
        "CONTAINER_MOUNTS": mounts.for_pyxis(environ) if environ.get("CONTAINER") else "",
    }


def _image(container: str) -> str:
    """An image that is a file of this machine by its whole path, one of a registry as it is named."""
    return str(Path(container).expanduser().absolute()) if container[0] in "/.~" else container


def settings_of_run(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The settings that name a run, for a plain stage: its job does what the command would have done here.

    The jobs of a chain get these from their request.
    """
    named = (s.name for s in settings.SETTINGS.values() if s.of_run)
    return {name: environ[name] for name in named if environ.get(name)}


def _is_foreign(name: str) -> bool:
    """Whether a variable of another program that a site may have to set goes to the jobs as it is."""
    known = name.startswith((*settings.FOREIGN, "OMR_")) and name not in settings.SETTINGS
    return known and not name.startswith("PIP_") and not settings.is_secret(name)


def plain(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What every job has of the login shell's environment."""
    return {name: environ[name] for name in PLAIN if name in environ}


def environment(job: Job, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The whole environment that a job is submitted with."""
    return {**plain(environ), **{name: str(value) for name, value in job.env.items() if value is not None}}


def exported_secrets(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Names of secrets that are set here but not in .env: jobs will not have them."""
    path = settings.env_file()
    there = settings.read(path) if path.exists() else {}
    return [
        s.name for s in settings.SETTINGS.values() if s.secret and environ.get(s.name) and s.name not in there
    ]


def job_secrets() -> list[str]:
    """Names of the secrets that jobs will have: those in .env."""
    exported = exported_secrets()
    return [name for name in settings.secrets() if name not in exported]


def make_node_environments(engine: str, evaluate: bool = False) -> None:
    """Make what the jobs run in now, on the login node: compute nodes may have no network.

    With a CONTAINER that is the folders which it mounts, else the Python environments of the jobs.
    """
    if settings.get("CONTAINER"):
        for name in ("WORKSPACE", "HF_HOME"):
            Path(mounts.paths(os.environ)[name]).mkdir(parents=True, exist_ok=True)
        return
    for tier in ("train", "data") if engine == "trl" or evaluate else ("data",):
        done = subprocess.run([settings.ROOT / "docker" / "venv", tier])
        if done.returncode:
            raise OmrError(f"the {tier} environment could not be made (see above)")
