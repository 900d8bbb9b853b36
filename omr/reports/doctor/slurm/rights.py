"""What Slurm lets this user do: account, quality of service, and the limits of both."""

from omr import settings
from omr.cluster import slurm
from omr.containers.checks import Check, fix, ok, warn
from omr.errors import OmrError, listing, nearest
from omr.reports.doctor.request import StageRequest
from omr.reports.doctor.slurm import limits, placement
from omr.reports.doctor.slurm.limits import Association, Limits, Partition, written
from omr.reports.doctor.slurm.placement import Placement


def checks(request: StageRequest, place: Placement, partition: Partition | None) -> list[Check]:
    """A row each for account and quality of service, and one for every limit that the jobs are over."""
    mine, qualities = limits.associations(), limits.qualities()
    try:
        enforced = limits.enforced()
    except OmrError:
        enforced = "none"
    if mine is None:
        if "associations" in enforced:
            return [warn("account", "sacctmgr does not say which are yours", "see sacctmgr show assoc")]
        return [ok("account", f"{settings.get('ACCOUNT') or 'none'}; Slurm holds nobody to one here")]
    found = [account(mine, partition, "associations" in enforced)]
    found += [quality(mine, qualities or {}, partition)]
    try:
        count = placement.count(placement.jobs(request))
    except OmrError:  # the row of the jobs says so
        return found
    return [*found, *_allowed(request, place, mine, qualities or {}, count)]


def account(mine: list[Association], partition: Partition | None, enforced: bool) -> Check:
    """ACCOUNT is one of this user's, and the partition takes it."""
    given = settings.get("ACCOUNT")
    names = list(dict.fromkeys(each.account for each in mine))
    if not names:
        advice = "ask for an account; sacctmgr show assoc user=$USER shows it then"
        return (
            fix("account", "you have none", advice) if enforced else ok("account", "none, and none is asked")
        )
    where = partition.name if partition else None
    here = [each.account for each in mine if each.partition in (None, where)]
    if given and given not in names:
        said = f"ACCOUNT={given} is none of yours ({', '.join(names)}){nearest(given, names)}"
        return (fix if enforced else warn)("account", said, f"set ACCOUNT={names[0]}")
    if given and given not in here:
        other = f"set ACCOUNT={here[0]}" if here else "set another PARTITION"
        return fix("account", f"ACCOUNT={given} may not use {where}", other)
    if partition and given:
        shut = partition.accounts and given not in partition.accounts
        if shut or given in partition.denied_accounts:
            takes = [name for name in names if name in partition.accounts]
            other = f"set ACCOUNT={takes[0]}" if takes else "set another PARTITION"
            return fix("account", f"{where} takes no jobs of ACCOUNT={given}", other)
    return ok("account", given or f"Slurm's default for you (yours: {', '.join(names)})")


def quality(mine: list[Association], known: dict[str, Limits], partition: Partition | None) -> Check:
    """QOS is there, this user may ask for it, and the partition takes it."""
    given = settings.get("QOS")
    if not given:
        return ok("qos", "Slurm's default for you")
    allowed = list(dict.fromkeys(name for each in _chosen(mine) for name in each.qos))
    for name in given.split(","):
        if name not in known:
            yours = ", ".join(allowed) or ", ".join(known)
            return fix("qos", f"there is no QOS={name}{nearest(name, known)}", f"set QOS to one of {yours}")
        if allowed and name not in allowed:
            return fix("qos", f"QOS={name} is none of yours", f"set QOS={allowed[0]}, or leave it out")
        if partition and ((partition.qos and name not in partition.qos) or name in partition.denied_qos):
            other = f"set QOS={partition.qos[0]}" if partition.qos else "leave QOS out"
            return fix("qos", f"{partition.name} takes no QOS={name}", other)
    return ok("qos", given)


def _chosen(mine: list[Association]) -> list[Association]:
    """The associations that a job would be counted on."""
    given = settings.get("ACCOUNT")
    return [each for each in mine if given in (None, each.account)]


def _allowed(
    request: StageRequest,
    place: Placement,
    mine: list[Association],
    known: dict[str, Limits],
    count: int,
) -> list[Check]:
    """Each limit of the account and the quality of service that the jobs would be over."""
    holders = {f"account {each.account}": each.limits for each in _chosen(mine)[:1]}
    holders |= {
        f"QOS {name}": known[name] for name in (settings.get("QOS") or "").split(",") if name in known
    }
    time, gpus = slurm.limit(settings.get("TIME")), place.nodes * place.gpus
    found = []
    for who, limit in holders.items():
        if limit.max_time and time and time > limit.max_time:
            found.append((f"{who} allows {written(limit.max_time)}", f"set TIME={written(limit.max_time)}"))
        if limit.nodes is not None and place.nodes > limit.nodes:
            found.append((f"{who} allows {limit.nodes} nodes a job", f"set NODES={limit.nodes}"))
        if limit.gpus is not None and gpus > limit.gpus:
            most = max(1, limit.gpus // max(1, place.gpus))
            found.append((f"{who} allows {limit.gpus} GPUs a job, it asks for {gpus}", f"set NODES={most}"))
        if limit.submitted is not None and count > limit.submitted:
            fewer = max(1, request.links - (count - limit.submitted))
            said = f"{who} allows {limit.submitted} jobs at a time, these are {count}"
            found.append((said, f"set NUM_TRAINING_JOBS={fewer}"))
    if not found:
        return [ok("limits", f"{listing(holders, 'and') or 'nothing'} allows {count} jobs of this size")]
    return [fix("limits", said, advice) for said, advice in found]
