"""What a site's Slurm lets this user have: partitions, nodes and their GPUs, accounts, qualities of service.

Read from scontrol, sinfo and sacctmgr. Seconds; None: no limit.
"""

import os
import pwd
import re
import shutil
from dataclasses import dataclass, replace

from omr.cluster import job_environment, slurm
from omr.cluster.jobs import Job
from omr.errors import OmrError
from omr.settings import ROOT

# States (sinfo's short words) of nodes that no job starts on until somebody has mended them.
BROKEN = ("down", "drain", "drng", "fail", "failg", "err", "unk", "inval", "maint")


@dataclass(frozen=True)
class Partition:
    """A partition, as `scontrol show partition` has it."""

    name: str
    state: str  # UP, or DOWN, DRAIN, INACTIVE
    default: bool
    nodes: int
    max_nodes: int | None  # of a job
    max_time: float | None
    default_time: float | None  # of a job that names none; None: max_time
    accounts: tuple[str, ...]  # that may use it; empty: all
    denied_accounts: tuple[str, ...]
    qos: tuple[str, ...]  # that may be used in it; empty: all
    denied_qos: tuple[str, ...]


def partitions() -> dict[str, Partition]:
    """Every partition by name, hidden ones included."""
    lines = slurm.call(["scontrol", "--all", "--oneliner", "show", "partition"]).splitlines()
    found = [_partition(dict(re.findall(r"(\w+)=(\S*)", line))) for line in lines if "PartitionName=" in line]
    return {each.name: each for each in found}


def _partition(facts: dict[str, str]) -> Partition:
    most = facts.get("MaxNodes", "")
    default_time = facts.get("DefaultTime", "NONE")
    return Partition(
        facts["PartitionName"],
        facts.get("State", "UP"),
        facts.get("Default") == "YES",
        int(facts.get("TotalNodes") or 0),
        int(most) if most.isdigit() else None,
        slurm.limit(facts.get("MaxTime")),
        slurm.limit(default_time),
        _names(facts.get("AllowAccounts")),
        _names(facts.get("DenyAccounts")),
        _names(facts.get("AllowQos")),
        _names(facts.get("DenyQos")),
    )


def _names(text: str | None) -> tuple[str, ...]:
    """`a,b` as names; ALL and nothing are empty."""
    return () if text in (None, "", "ALL", "(null)") else tuple(text.split(","))


@dataclass(frozen=True)
class Node:
    """A node of a partition."""

    name: str
    state: str  # sinfo's short word
    gpus: int

    @property
    def broken(self) -> bool:
        """Whether no job starts on it; `*` behind the state says that it does not answer."""
        return self.state.startswith(BROKEN) or self.state.endswith("*")


def nodes(partition: str) -> list[Node]:
    """The nodes of a partition."""
    lines = slurm.call(["sinfo", "-h", "-N", "-p", partition, "-o", "%N|%t|%G"]).splitlines()
    rows = [line.split("|", 2) for line in lines if line.count("|") >= 2]
    return [Node(name, state, gpus_of(gres)) for name, state, gres in rows]


def gpus_of(gres: str) -> int:
    """The GPUs of a node's generic resources: `gpu:h100:8(S:0-1),nvme:1` has 8."""
    bare = re.sub(r"\([^)]*\)", "", gres)
    counts = re.findall(r"(?:^|,)gpu(?::[^:,]+)??:(\d+)(?=,|$)", bare)
    return sum(map(int, counts))


@dataclass(frozen=True)
class Limits:
    """What an association or a quality of service allows a job, and its user."""

    max_time: float | None
    nodes: int | None  # of a job
    gpus: int | None  # of a job
    submitted: int | None  # jobs of the user at a time, waiting ones included


@dataclass(frozen=True)
class Association:
    """A user's right to an account, in one partition or (None) in all."""

    account: str
    partition: str | None
    qos: tuple[str, ...]
    limits: Limits


def associations() -> list[Association] | None:
    """This user's associations; None where the cluster keeps no accounting, or it does not answer."""
    user = pwd.getpwuid(os.getuid()).pw_name
    columns = "Account,Partition,QOS,MaxWall,MaxTRES,MaxSubmit"
    rows = _sacctmgr("assoc", columns, "where", f"user={user}")
    if rows is None:
        return None
    return [Association(row[0], row[1] or None, _names(row[2]), _limits(*row[3:])) for row in rows]


def qualities() -> dict[str, Limits] | None:
    """Every quality of service by name; None where the cluster keeps no accounting."""
    rows = _sacctmgr("qos", "Name,MaxWall,MaxTRES,MaxSubmitPU")
    return None if rows is None else {row[0]: _limits(*row[1:]) for row in rows}


def _sacctmgr(what: str, columns: str, *where: str) -> list[list[str]] | None:
    """Rows of a table of the accounting."""
    if not shutil.which("sacctmgr"):
        return None
    try:
        out = slurm.call(["sacctmgr", "-n", "-P", "show", what, *where, f"format={columns}"])
    except OmrError:
        return None
    width = columns.count(",") + 1
    return [row for line in out.splitlines() if len(row := line.split("|")) == width]


def _limits(time: str, tres: str, submitted: str) -> Limits:
    """From the words of sacctmgr: `1-00:00:00`, `cpu=512,gres/gpu=64,node=8`, `20`."""
    counts = dict(re.findall(r"([\w/]+)=(\d+)", tres))
    gpus, most = counts.get("gres/gpu"), counts.get("node")
    return Limits(
        slurm.limit(time),
        int(most) if most else None,
        int(gpus) if gpus else None,
        int(submitted) if submitted.isdigit() else None,
    )


def enforced() -> str:
    """What of the accounting Slurm holds jobs to: `associations,limits,qos`; `none` for nothing."""
    found = re.search(
        r"^AccountingStorageEnforce\s*=\s*(\S+)", slurm.call(["scontrol", "show", "config"]), re.M
    )
    return found[1] if found else "none"


def try_submission(job: Job) -> str:
    """Slurm's word on a job that is not submitted: when it might start; an OmrError with why it cannot."""
    # The run's own copy of the code is made when it is submitted; the checkout's scripts are the same.
    job = replace(job, after=(), env={**job.env, "OMR_ROOT": str(ROOT)})
    command = job.sbatch_command({})
    command.insert(1, "--test-only")
    said = slurm.call(command, env=job_environment.environment(job), stderr=True)
    return (said.strip().splitlines() or [""])[-1].removeprefix("sbatch: ")


def written(seconds: float) -> str:
    """A time limit as Slurm writes it: `1-12:00:00`, `4:00:00`."""
    days, rest = divmod(int(seconds), 86_400)
    hours, minutes = divmod(rest // 60, 60)
    return (
        f"{days}-{hours:02}:{minutes:02}:{rest % 60:02}" if days else f"{hours}:{minutes:02}:{rest % 60:02}"
    )
