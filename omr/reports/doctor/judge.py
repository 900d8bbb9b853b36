"""Every row of the doctor: of the machine in general, and of a request (FOR=) before it is asked for."""

from pathlib import Path

from omr import recipe, settings
from omr.cluster import job_environment
from omr.containers.checks import OK, Check, fix, of_error, ok, warn
from omr.errors import OmrError
from omr.reports.doctor import containers, hub, inputs, machine, room, session, sizes, versions
from omr.reports.doctor.machine import look
from omr.reports.doctor.request import StageRequest
from omr.reports.doctor.slurm import checks as slurm


def of_machine(root: Path, runner: str | None) -> list[Check]:
    """The machine in general; what the given RUNNER needs is to be fixed where it is not there, what another
    one needs is only absent. `root` is the workspace."""
    return [
        *machine.size(),
        room.writing(root),
        *session.checks(root),
        *(machine.gnu(name) for name in ("shuf", "sed", "make")),
        machine.tool("flock", "install util-linux"),
        versions.environment(),
        versions.has_prompts(),
        machine.gpu(),
        machine.tool(
            *("docker", "start the Docker engine", "info", "--format", "{{.ServerVersion}}"),
            needed=runner == "docker",
        ),
        machine.tool("sinfo", "run on a login node of the cluster", needed=runner == "slurm"),
        *([containers.pyxis(bool(settings.get("CONTAINER")))] if runner == "slurm" else []),
        machine.sandbox(),
        machine.secret("HF_TOKEN", "only private or gated repositories need it"),
        machine.secret("WANDB_API_KEY", "training logs to W&B with it alone"),
    ]


def of_request(request: StageRequest) -> list[Check]:
    """Everything that would stop a request or waste it; one row where nobody knows yet where it would run."""
    try:
        runner = request.runner
    except OmrError as error:
        found, _, choices = str(error).partition(": ")
        return [*session.checks(request.workspace.root), fix("runner", found, choices)]
    return [
        ok("request", title(request, runner)),
        *([of_error("data", request.refusal)] if request.refusal else []),
        *session.checks(request.workspace.root),
        *room.room(request.workspace.root, sizes.of(request)),
        *look("memory", room.memory, request, runner),
        *_software(request, runner),
        *look("inputs", inputs.checks, request),
        *look("hub", hub.checks, request),
        *_secrets(runner),
        *([session.notification()] if request.target in ("train", "pipeline") else []),
    ]


def title(request: StageRequest, runner: str) -> str:
    """What is judged, in words."""
    runs = ", ".join(train.run.title for train in request.trains)
    files = ", ".join(path.name for path in (*(d.output for d in request.data), request.reads) if path)
    return f"{request.target} {runs or files} on {runner}".replace("  ", " ")


def _software(request: StageRequest, runner: str) -> list[Check]:
    """What the stage runs in: this machine's environment, an image, or Slurm's jobs."""
    real = bool(request.run and request.run.model.gpus)
    on_gpus = real and (request.trains_a_model or request.target in ("eval", "serve", "ask"))
    found: list[Check] = []
    if runner == "docker" and request.tier != "cli":
        return containers.docker(request, on_gpus)
    if runner == "slurm":
        found += [
            *look("image", containers.slurm, request),
            *look("slurm", slurm.checks, request, otherwise="run scontrol ping"),
        ]
        if settings.get("CONTAINER"):
            return found
    else:
        found += [machine.gpu(needed=True)] if on_gpus else []
    tier = "train" if request.trains_a_model or request.evaluates else request.tier
    found += look("locks", versions.locks, tier)
    found += [machine.gnu("shuf")] if request.data or request.target == "demo" else []
    found += [machine.gnu("sed")] if request.target in ("model", "pipeline", "demo") else []
    found += [machine.tool("flock", "install util-linux")]
    prompts = look("nemo-skills", versions.prompts) if _asks_nemo_skills(request) else []
    found += prompts
    if request.evaluates and request.run and all(check.state == OK for check in prompts):
        found += look("problems", inputs.problems, request)
    if request.evaluates and request.run:
        modes = recipe.asked_modes(settings.get("MODE"), request.run.model.corpus)
        isolates = "tir" in modes and settings.get("SANDBOX") != "none"
        found += [machine.sandbox(needed=True)] if isolates and runner != "slurm" else []
    return found


def _asks_nemo_skills(request: StageRequest) -> bool:
    """Whether prompts or problems come out of nemo-skills."""
    formats = any(data.corpus.prompt_folder is None for data in request.data)
    evaluated = recipe.of_model(request.run.model) if request.evaluates and request.run else None
    return formats or bool(evaluated and not evaluated.evaluation.own)


def _secrets(runner: str) -> list[Check]:
    """Secrets that jobs would not have: they read them from .env."""
    lost = job_environment.exported_secrets() if runner == "slurm" else []
    if lost:
        said = f"{', '.join(lost)} is set here, and jobs read .env alone"
        return [warn("secrets", said, f"put {lost[0]} into {settings.env_file()}")]
    named = settings.secrets()
    return [ok("secrets", f"{', '.join(named)} set" if named else "none set, none needed but for W&B")]
