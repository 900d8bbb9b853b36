"""Slurm, asked before anything is queued: would it take these jobs, start them, and let them get anywhere?"""

from omr import settings
from omr.cluster import plan, slurm
from omr.cluster.allocation.deadline import learned_margin
from omr.containers.checks import Check, fix, of_error, ok, warn
from omr.errors import OmrError, nearest
from omr.reports.doctor.machine import first_line, look, output
from omr.reports.doctor.request import StageRequest
from omr.reports.doctor.slurm import canary, limits, placement, rights
from omr.reports.doctor.slurm.limits import Partition, written
from omr.reports.doctor.slurm.placement import Placement

ENOUGH = 0.5  # share of a job that should be left to train in
ALIVE = "run scontrol ping"


def checks(request: StageRequest) -> list[Check]:
    """Every row; where Slurm does not answer, that is the only one."""
    try:
        slurm.need()
        table = limits.partitions()
    except OmrError as error:
        return [of_error("slurm", error, ALIVE)]
    found = [ok("slurm", first_line(output("sinfo", "--version")))]
    places = placement.of(request)
    for place in places:
        found += _partition(place, table)
    largest = max(places, key=lambda place: place.nodes * max(1, place.gpus))
    used = _used(largest, table)
    found += [
        *([time_limit(request, used, largest)] if used else []),
        *look("account", rights.checks, request, largest, used, otherwise=ALIVE),
        *_submission(request),
        *(canary.checks(request, largest) if request.ask else [canary.shared(request.workspace.root)]),
    ]
    return found


def _used(place: Placement, table: dict[str, Partition]) -> Partition | None:
    """The first of the partitions that there is."""
    default = [each.name for each in table.values() if each.default]
    return next((table[name] for name in place.partitions or default if name in table), None)


def _partition(place: Placement, table: dict[str, Partition]) -> list[Check]:
    """Whether the partitions are there and up, and have as many nodes with as many GPUs."""
    row = place.setting.lower().replace("_", " ")
    default = [each.name for each in table.values() if each.default]
    names = place.partitions or tuple(default)
    shown = ", ".join(f"{p.name}{' (default)' if p.default else ''}" for p in table.values())
    if not names:
        return [fix(row, "none is set, and Slurm has no default", f"set {place.setting} to one of {shown}")]
    if unknown := [name for name in names if name not in table]:
        close = nearest(unknown[0], table)
        return [fix(row, f"there is no {unknown[0]}{close}", f"set {place.setting} to one of {shown}")]
    down = [name for name in names if table[name].state != "UP"]
    if len(down) == len(names):
        up = [each.name for each in table.values() if each.state == "UP"]
        other = f"set {place.setting}={up[0]}" if up else "wait, and look again with sinfo"
        return [fix(row, f"{names[0]} is {table[down[0]].state.lower()}", other)]
    found = ok(row, f"{', '.join(names)}{'' if place.partitions else ', the default'}")
    up = [table[name] for name in names if name not in down]
    return [found, *look("nodes", nodes, place, up, otherwise=ALIVE)]


def nodes(place: Placement, wanted: list[Partition]) -> Check:
    """As many nodes with as many GPUs as a job asks for, in one of the partitions, and not broken ones."""
    best: Check | None = None
    row = "cpu nodes" if place.plain else "nodes"
    size = f"{place.nodes} of {place.gpus} GPUs" if place.gpus else f"{place.nodes}"
    for partition in wanted:
        there = limits.nodes(partition.name)
        fit = [node for node in there if node.gpus >= place.gpus]
        healthy = [node for node in fit if not node.broken]
        most = partition.max_nodes
        said = f"{len(fit)} of {partition.name}'s {len(there)} have {place.gpus} GPUs, {len(healthy)} are fit"
        if len(fit) < place.nodes:
            gpus = max((node.gpus for node in there), default=0)
            advice = f"set NODES={len(fit)}" if fit else f"set GPUS={gpus} or another {place.setting}"
            check = fix(row, f"a job asks for {size}; {said}", advice)
        elif most is not None and place.nodes > most:
            check = fix(row, f"a job asks for {size}; {partition.name} allows {most}", f"set NODES={most}")
        elif len(healthy) < place.nodes:
            advice = f"set NODES={len(healthy)}, or ask for the rest: sinfo -R" if healthy else "see sinfo -R"
            check = warn(row, f"a job asks for {size} and would wait; {said}", advice)
        else:
            return ok(row, f"{size} asked for; {said}")
        if best is None or best.state == "fix":
            best = check
    return best


def time_limit(request: StageRequest, partition: Partition, place: Placement) -> Check:
    """TIME, or what the partition gives without it: allowed, and long enough to train in."""
    given = settings.get("TIME")
    default = partition.default_time or partition.max_time
    limit = slurm.limit(given) if given else default
    most = partition.max_time
    if given and most is not None and (limit is None or limit > most):
        said = f"TIME={given} is over the {written(most)} of {partition.name}"
        return fix("time limit", said, f"set TIME={written(most)}")
    shown = f"TIME={given}" if given else f"{written(limit)}, {partition.name}'s" if limit else "none"
    if limit is None or not request.train or not request.trains_a_model:
        return ok("time limit", shown)
    start = plan.START if place.gpus else 0
    margin = settings.number("MARGIN")
    left = limit - start - (learned_margin(None, limit) if margin is None else margin)
    longer = placement.hours_needed(request.run) if most is None else written(most)
    said = f"{shown}: starting and saving leave {max(0, left) / 60:.0f} minutes to train in"
    if left <= 0:
        return fix("time limit", said, f"set TIME={longer}")
    if left < ENOUGH * limit:
        return warn("time limit", said, f"set TIME={longer}")
    needed = plan.numbers(request.train, request.workspace, limit).links
    if needed and needed > request.links:
        said = f"{shown}: {request.links} jobs of it train about {request.links / needed:.0%} of the run"
        return warn("time limit", said, f"set NUM_TRAINING_JOBS={needed}")
    return ok("time limit", shown)


def _submission(request: StageRequest) -> list[Check]:
    """Slurm's own verdict on each kind of job, by sbatch --test-only."""
    try:
        kinds = placement.kinds(placement.jobs(request))
    except OmrError as error:
        return [of_error("jobs", error)]
    said = []
    for job in kinds:
        try:
            said.append(f"{job.key}: {limits.try_submission(job)}")
        except OmrError as error:
            why = f"{job.key}: {error}"
            return [
                fix("jobs", why, "set ACCOUNT, PARTITION, QOS, TIME, NODES or GPUS; make plan shows the job")
            ]
    return [ok("jobs", said[0] if said else "none to submit")]
