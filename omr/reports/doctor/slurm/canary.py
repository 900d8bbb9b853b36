"""ASK=1: a job of a minute on one compute node: it sees the workspace, writes there, and shows its clock."""

import contextlib
import re
import secrets
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omr import settings
from omr.cluster import job_environment
from omr.containers.checks import Check, fix, ok, warn
from omr.reports.doctor.request import StageRequest
from omr.reports.doctor.session import BAD_SKEW, SKEW
from omr.reports.doctor.slurm.placement import Placement

PATIENCE = 300  # seconds that a node has to come free and answer
SEEN = 60  # seconds until what a node wrote has to be seen here: caches of network file systems
# File systems that other machines see too (filesystems(5), and those of clusters).
SHARED = re.compile(r"nfs\d?|lustre|gpfs|beegfs|ceph|cifs|smb3|wekafs|pvfs2|panfs|afs|9p|virtiofs|fuse\..*")


def kind_of(folder: Path, table: str | None = None) -> str:
    """The kind of the file system that a folder lies on, by /proc/mounts; empty where nothing says."""
    if table is None:
        source = Path("/proc/mounts")
        table = source.read_text() if source.exists() else ""
    rows = [line.split() for line in table.splitlines()]
    places = [(Path(row[1].replace("\\040", " ")), row[2]) for row in rows if len(row) > 2]
    around = [(len(place.parts), kind) for place, kind in places if folder.resolve().is_relative_to(place)]
    return max(around, default=(0, ""))[1]


def shared(root: Path, table: str | None = None) -> Check:
    """Whether the compute nodes may see the workspace, as far as this machine can tell."""
    kind = kind_of(root, table)
    if SHARED.fullmatch(kind):
        return ok("shared workspace", f"on {kind}")
    said = f"{root} is on {kind or 'an unknown file system'}, which may be this machine's own"
    return warn(
        "shared workspace", said, "ASK=1 has a compute node look; else set WORKSPACE on a shared disk"
    )


@dataclass(frozen=True)
class Answer:
    """What came of the job."""

    node: str = ""
    skew: float = 0.0  # seconds that the node's clock is ahead of this one's
    written: bool = False  # what it wrote is seen here
    complaint: str = ""
    late: bool = False  # no node came free in time


def checks(request: StageRequest, place: Placement) -> list[Check]:
    """The rows of a job on one node; in the image too, where CONTAINER names one."""
    site = job_environment.site(request.workspace, request.train)
    step = ["srun", *site.placement(gpu=place.gpus > 0), "--nodes=1", "--ntasks=1", "--time=5"]
    step += ["--job-name=omr-doctor", *(["--gpus-per-node=1"] if place.gpus else [])]
    request.workspace.root.mkdir(parents=True, exist_ok=True)
    environ = {**site.settings, "GPUS": "1" if place.gpus else "0"}
    names = {name: value for name, value in environ.items() if name in ("GPUS", "CONTAINER", "MOUNTS")}
    answer = _ask(step, request.workspace.root, {**job_environment.plain(), **names})
    found = rows(answer)
    if answer.node and settings.get("CONTAINER"):
        found.append(_in_container(step, site.settings["CONTAINER_MOUNTS"]))
    return found


def _ask(step: Sequence[str], root: Path, environ: dict[str, str]) -> Answer:
    """Send the job, and time its answer as it comes."""
    token = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=root) as name:
        folder = Path(name)
        (folder / "question").write_text(token + "\n")
        command = [*step, str(settings.ROOT / "slurm" / "probe.sh"), str(folder), token]
        try:
            child = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=environ,
            )
        except OSError as error:
            return Answer(complaint=f"srun: {error.strerror}")
        patience = threading.Timer(PATIENCE, child.terminate)
        patience.start()
        lines, said, skew = [], None, 0.0
        for line in child.stdout:  # as they come: the end of a job may take its time
            lines.append(line.strip())
            if found := re.fullmatch(r"node (\S+) (\d+\.\d+)", lines[-1]):
                said, skew = found[1], float(found[2]) - time.time()
        code, late = child.wait(), not patience.is_alive()
        patience.cancel()
        if said and not code:
            return Answer(said, skew, _comes(folder / "answer", token))
        if late:
            return Answer(late=True)
        complaints = [line for line in lines if "error: " in line] or [*lines, f"srun ended with {code}"]
        return Answer(complaint=complaints[0].removeprefix("srun: ").removeprefix("error: "))


def _comes(path: Path, token: str) -> bool:
    """Whether the node's file is seen here in time."""
    end = time.monotonic() + SEEN
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if path.read_text().strip() == token:
                return True
        time.sleep(0.2)
    return False


def rows(answer: Answer) -> list[Check]:
    """What the answer says of the workspace and of the clocks."""
    if answer.late:
        said = f"no node came free in {PATIENCE} s"
        return [warn("compute node", said, "run make doctor ASK=1 again, or see squeue --start")]
    if answer.complaint:
        return [
            fix("compute node", answer.complaint, "set WORKSPACE, CONTAINER and MOUNTS to what all nodes see")
        ]
    node = answer.node
    found = [
        ok("shared workspace", f"{node} reads and writes it")
        if answer.written
        else fix("shared workspace", f"what {node} writes is not seen here", "set WORKSPACE on a shared disk")
    ]
    skew = abs(answer.skew)
    if skew > SKEW:
        state = fix if skew > BAD_SKEW else warn
        said = f"{node} is {skew:.0f} s {'ahead of' if answer.skew > 0 else 'behind'} this machine"
        return [
            *found,
            state("node's clock", said, f"run timedatectl set-ntp true on {node}, or SBATCH_EXCLUDE={node}"),
        ]
    return [*found, ok("node's clock", f"{node} is within {max(skew, 0.1):.1f} s of this machine")]


def _in_container(step: Sequence[str], mounted: str) -> Check:
    """Whether pyxis starts the image on a node."""
    image = settings.get("CONTAINER")
    command = [*step, f"--container-image={image}", f"--container-mounts={mounted}", "true"]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return warn(
            "container", f"{image} did not start in {PATIENCE} s", "set CONTAINER to a .sqsh file: make sqsh"
        )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return fix("container", f"no node starts {image}: {last}", "set CONTAINER; make sqsh writes an image")
    return ok("container", f"a node starts {image}")
