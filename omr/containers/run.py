"""RUNNER=docker: the command line that runs a stage in its image, under docker or podman.

`python -m omr.containers.run TIER SCRIPT [ARG…]` becomes that command; docker/run alone calls it.
"""

import json
import os
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omr import settings
from omr.containers.choose import machine_has_gpus, stage_of
from omr.containers.mounts import OUTPUTS, Mount, mounts, paths, visible
from omr.errors import OmrError, RequestError
from omr.files import writable
from omr.run.snapshot import code_id
from omr.runner import argument

HOME = "/opt/omr"  # where an image keeps our files
PYTHON = f"{HOME}/venv/bin/python"
# What bubblewrap needs to isolate a model's code inside a container: user namespaces and mounts, which an
# engine's filter of system calls keeps from a container's user, and a /proc without covers, since the kernel
# makes nobody a new one that shows more. Our own code is then held no better than by RUNNER=host; the model's
# runs in bubblewrap alone.
FOR_BUBBLEWRAP = ("--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined")
APPARMOR = Path("/sys/kernel/security/apparmor")
# Foreign variables that mean something to this machine alone.
LOCAL = ("PIP_", "SBATCH_")


@dataclass(frozen=True)
class Engine:
    """The container engine that answered, and what sets it apart."""

    command: str
    podman: bool = False
    rootless: bool = False
    gpus: tuple[str, ...] = ()  # the arguments that give a container the GPUs
    note: str = ""  # what a user of GPUs should know


def ask(*command: str) -> subprocess.CompletedProcess:
    """Run an engine's command and catch what it says; an engine that does not answer is an OmrError."""
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120)
    except subprocess.TimeoutExpired:
        raise OmrError(f"`{shlex.join(command[:2])}` does not answer; restart the container engine") from None


def detect() -> Engine:
    """Find docker, or podman under either name; each way of not having one is a RequestError of its own."""
    command = shutil.which("docker") or shutil.which("podman")
    if command is None:
        raise RequestError("neither docker nor podman is installed; install one, or use RUNNER=host")
    done = ask(command, "info", "--format", "{{json .}}")
    try:
        info = json.loads(done.stdout or "{}")
    except ValueError:
        info = {}
    errors = "; ".join(info.get("ServerErrors") or []) or (done.stderr.strip() if done.returncode else "")
    if errors:
        if "permission denied" in errors.lower():
            raise RequestError(
                "you may not use the container engine (permission denied); "
                "join its group (usermod -aG docker), use rootless podman, or RUNNER=host"
            )
        raise RequestError(
            f"the container engine is not running ({errors.splitlines()[0]}); "
            "start it (systemctl start docker), or use RUNNER=host"
        )
    podman = "host" in info
    if podman:
        rootless = bool(info["host"].get("security", {}).get("rootless"))
    else:
        rootless = any("rootless" in option for option in info.get("SecurityOptions") or [])
    gpus, note = _gpus(podman, info)
    return Engine(command, podman, rootless, gpus, note)


def _gpus(podman: bool, info: dict) -> tuple[tuple[str, ...], str]:
    """How this engine gives a container the machine's GPUs, if there are any and if it can."""
    if not machine_has_gpus():
        return (), ""
    cdi = any(Path(folder, "nvidia.yaml").exists() for folder in ("/etc/cdi", "/var/run/cdi"))
    if podman and cdi:
        return ("--device", "nvidia.com/gpu=all"), ""
    if not podman and (
        "nvidia" in (info.get("Runtimes") or {}) or shutil.which("nvidia-container-runtime-hook")
    ):
        return ("--gpus", "all"), ""
    return (
        (),
        "note: the engine cannot give this machine's GPUs to a container; install nvidia-container-toolkit",
    )


def image(stage: str) -> str:
    """`omr:tools`, or with IMAGE=registry/omr its name there."""
    return f"{settings.get('IMAGE')}:{stage}"


def labels(engine: Engine, name: str) -> dict[str, str]:
    """The labels of a local image; a RequestError when it is absent."""
    done = ask(engine.command, "image", "inspect", "--format", "{{json .Config.Labels}}", name)
    if done.returncode:
        stage = name.rpartition(":")[2]
        raise RequestError(f"image {name} is not on this machine; run make image STAGE={stage} (or load it)")
    return json.loads(done.stdout) or {}


def check_code(name: str, found: Mapping[str, str]) -> None:
    """An image carries its own copy of the code; another state of it than this checkout's is refused."""
    if found.get("omr.code") != code_id():
        raise RequestError(
            f"image {name} holds another state of the code than this checkout; run make image (takes seconds)"
        )


def runs_models_code(script: str, args: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a stage isolates a model's code by bubblewrap: an evaluation of tir, unless SANDBOX=none.

    An evaluation of genselect looks what the sandbox of the solutions was.
    """
    modes = argument("MODE", args, environ) or "cot"
    runs_code = {"tir", "genselect"} & {word.strip() for word in modes.split(",")}
    return Path(script).name == "eval.py" and bool(runs_code) and argument("SANDBOX", args, environ) != "none"


def names(given: Mapping[str, str], environ: Mapping[str, str], mounted: list[Mount]) -> list[str]:
    """The variables that go into the container by name: those that the caller set, and every path, absolute.

    `given` is the caller's environment, `environ` the same with what .env adds.
    What .env says is read there from the file itself, so that no value of it can be seen from outside. A path
    of this machine that the container does not have (a host's CUDA_HOME) stays here.
    """

    def wanted(name: str) -> bool:
        known = name in settings.SETTINGS or name in settings.FOREIGN_NAMES
        if name in paths(environ):
            return True
        if not known and (not name.startswith(settings.FOREIGN) or name.startswith(LOCAL)):
            return False
        value = given.get(name, "")
        return name in given and (known or not value.startswith("/") or visible(value, mounted))

    candidates = {*given, *paths(environ)} - {"PYTHON"}
    return sorted(name for name in candidates if wanted(name))


def _mount(mount: Mount) -> list[str]:
    """--mount takes CSV: a path with a comma or a quote is quoted for it."""
    fields = [f"source={mount.source}", f"target={mount.target}"]
    quoted = ['"' + f.replace('"', '""') + '"' if set(f) & set(',"\n') else f for f in fields]
    return ["--mount", ",".join(["type=bind", *quoted, *([] if mount.writable else ["readonly"])])]


def _user(engine: Engine) -> list[str]:
    """Files in the workspace belong to the caller, whatever kind of engine it is."""
    if engine.rootless:
        # Rootless docker maps the container's root to the caller; podman can keep the id.
        groups = ["--group-add=keep-groups"] if shutil.which("crun") else []
        return ["--userns=keep-id", *groups] if engine.podman else []
    others = [g for g in sorted(os.getgroups()) if g != os.getgid()]
    return ["--user", f"{os.getuid()}:{os.getgid()}", *(f"--group-add={g}" for g in others)]


@dataclass(frozen=True)
class Start:
    """A container to start: what runs in it, and what it is given of this machine."""

    image: str
    command: list[str]
    mounts: list[Mount]
    names: list[str]  # variables that go in, by name
    gpus: bool = False  # all of them, where the engine can
    terminal: bool = False
    sandbox: bool = False  # bubblewrap runs in it
    title: str | None = None  # the container's name


def argv(engine: Engine, start: Start) -> list[str]:
    """The engine's whole command line."""
    # The host's network and IPC as NeMo-RL, NCCL and Ray ask, and where there are GPUs no limit on locked
    # memory and a large stack; a rootless engine cannot raise limits and keeps the caller's.
    gpus = start.gpus and bool(engine.gpus)
    limits = ["--ulimit", "memlock=-1", "--ulimit", "stack=67108864"] if gpus and not engine.rootless else []
    selinux = ["--security-opt", "label=disable"] if Path("/sys/fs/selinux/enforce").exists() else []
    return [
        *(engine.command, "run", "--rm", *(["--name", start.title] if start.title else [])),
        # A real process 1, so that signals reach the stage; podman's lives in a package of its own.
        *(["--init"] if not engine.podman or shutil.which("catatonit") else []),
        *(["--interactive", "--tty"] if start.terminal else []),
        *("--network=host", "--ipc=host", "--pids-limit=-1", *limits),
        *("--security-opt", "no-new-privileges", *selinux),
        *(FOR_BUBBLEWRAP if start.sandbox else ()),
        *(("--security-opt", "apparmor=unconfined") if start.sandbox and APPARMOR.exists() else ()),
        *_user(engine),
        *(engine.gpus if gpus else ()),
        *(word for mount in start.mounts for word in _mount(mount)),
        *(word for name in start.names for word in ("--env", name)),
        *(start.image, *start.command),
    ]


def main(tier: str, *command: str) -> int:
    """Become the container that runs a script of bin/ with its arguments, or as `shell` any command."""
    given = dict(os.environ)
    settings.load()  # takes WSL's NAME out of the environment too
    given = {name: value for name, value in given.items() if name in os.environ}
    env_file = settings.env_file()
    environ = {**given, **paths(os.environ), "OMR_ENV_FILE": str(env_file.absolute())}
    start = _start(tier, command, given)
    engine = detect()
    if settings.on("DRY_RUN"):
        print("would run: " + shlex.join(argv(engine, start)), file=sys.stderr)
        return 0
    check_code(start.image, labels(engine, start.image))
    writable(Path(environ["WORKSPACE"]))
    for name in OUTPUTS:
        Path(environ[name]).mkdir(parents=True, exist_ok=True)
    if start.gpus and engine.note:
        print(engine.note, file=sys.stderr)
    sys.stdout.flush()
    os.execve(engine.command, argv(engine, start), environ)


def _start(tier: str, command: Sequence[str], given: Mapping[str, str]) -> Start:
    """The container for a stage; `given` is the environment without what .env adds to it."""
    script, args = command[0], list(command[1:])
    env_file = settings.env_file()
    mounted = mounts(os.environ, env_file if env_file.is_file() else None)
    return Start(
        image(stage_of(tier, script, args, os.environ)),
        list(command) if tier == "shell" else [PYTHON, f"{HOME}/{script}", *args],
        mounted,
        [*names(given, os.environ, mounted), *(["OMR_ENV_FILE"] if env_file.is_file() else [])],
        gpus=tier != "data",
        sandbox=tier != "shell" and runs_models_code(script, args, os.environ),
        terminal=sys.stdin.isatty() and sys.stdout.isatty(),
        title=f"omr-{Path(script).stem}-{os.getpid()}-{secrets.token_hex(2)}",
    )


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        line = f"error: {error.filename}: {error.strerror}; look at this file, then run again"
        print(line, file=sys.stderr)
        sys.exit(1)
