"""The image that a stage would run in: there, of the pinned base, and with this checkout's code."""

import os
from pathlib import Path

from omr import settings
from omr.containers import image, run
from omr.containers.checks import Check, fix, ok, warn
from omr.containers.choose import stage_of
from omr.containers.mounts import mounts
from omr.containers.run import Engine
from omr.reports.doctor.machine import look, output
from omr.reports.doctor.request import StageRequest
from omr.run.nemo_rl_version import nemo_rl_folder
from omr.training import preflight

SQUASHFS = b"hsqs"  # how every .sqsh file begins


def docker(request: StageRequest, gpus: bool) -> list[Check]:
    """RUNNER=docker: the engine, its image, and the paths that the container would see."""
    found = look("mounts", _mounts)
    try:
        engine = run.detect()
    except run.RequestError:
        return [*found, *look("engine", run.detect)]
    found.append(ok("engine", f"{Path(engine.command).name}{', rootless' if engine.rootless else ''}"))
    if gpus and not engine.gpus:
        found.append(fix("engine's GPUs", "it gives a container none", "install nvidia-container-toolkit"))
    stage = stage_of(request.tier, f"bin/{request.target}.py", (), os.environ)
    return [*found, *look("image", _image, engine, stage)]


def _mounts() -> Check:
    """Every path of the settings is there."""
    listed = mounts(os.environ)
    return ok("mounts", ", ".join(mount.target for mount in listed))


def _image(engine: Engine, stage: str) -> list[Check]:
    """The image is there, of this code, and its base has the pinned digest."""
    name = image.image(stage)
    found = run.labels(engine, name)
    run.check_code(name, found)
    said = image.verdict(stage, found)
    rows = [ok("image", f"{name}, with the code of this checkout")]
    if said.endswith("as pinned"):
        return [*rows, ok("image's base", said)]
    advice = f"unset {stage.upper()}_BASE and run make image, or check its digest yourself"
    return [*rows, warn("image's base", said, advice)]


def pyxis(wanted: bool) -> Check:
    """Whether srun can start containers."""
    if "--container-image" in (output("srun", "--help") or ""):
        return ok("pyxis", "srun knows --container-image")
    advice = "unset CONTAINER: jobs then use the host's venv"
    if wanted:
        return fix("pyxis", "srun knows no --container-image", advice)
    return ok("pyxis", "not there, and CONTAINER is not set")


def slurm(request: StageRequest) -> list[Check]:
    """RUNNER=slurm: what CONTAINER names, or where NeMo-RL is without it."""
    container = settings.get("CONTAINER")
    if container:
        return [*look("image", sqsh, container), *look("mounts", _mounts), pyxis(True)]
    nemo_rl = request.trains_a_model and request.train is not None and request.train.engine == "nemo-rl"
    home = Path(nemo_rl_folder())
    if nemo_rl and not home.exists():
        said = f"CONTAINER is not set, and there is no {home} here"
        return [warn("image", said, "set CONTAINER to an image (make sqsh writes one), or NEMO_RL")]
    return [ok("image", "none; jobs run in this machine's environment")]


def sqsh(container: str) -> Check:
    """CONTAINER is a whole .sqsh file, or a reference that each node has to fetch."""
    preflight.image(container)
    if not container.startswith(("/", ".", "~")):
        said = f"{container}: every node fetches it from its registry"
        return warn("image", said, "make sqsh imports it once; set CONTAINER to that file")
    path = Path(container).expanduser()
    try:
        with path.open("rb") as file:
            begins = file.read(len(SQUASHFS))
    except OSError as error:
        return fix("image", f"{path}: {error.strerror}", "set CONTAINER to an image that you may read")
    if begins != SQUASHFS:
        return fix("image", f"{path} is no squashfs image", f"rm {path}; make sqsh writes it anew")
    return ok("image", f"{path}; the code is this checkout's, mounted")
