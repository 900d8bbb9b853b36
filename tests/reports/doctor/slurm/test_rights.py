"""Account, quality of service, and the limits of both."""

import pytest

from ..kit import held, row
from .test_checks import judged

MINE = ["team||normal,long||||"]  # account, partition, QOS, time, TRES, jobs
KNOWN = ["normal|||", "long|7-00:00:00|gres/gpu=512,node=64|", "secret|||"]


def test_a_cluster_that_keeps_no_accounting(site):
    held(row(judged(site), "account"), "ok", "Slurm holds nobody to one here")
    site.write(stub_enforced="associations")
    held(row(judged(site), "account"), "warn", "does not say which are yours", "sacctmgr show assoc")


@pytest.mark.parametrize(
    ("mine", "facts", "account", "state", "said", "advice"),
    [
        (MINE, {}, None, "ok", "Slurm's default for you (yours: team)", ""),
        (MINE, {}, "team", "ok", "team", ""),
        (MINE, {}, "taem", "fix", "none of yours (team) (did you mean team?)", "set ACCOUNT=team"),
        ([], {}, None, "fix", "you have none", "sacctmgr show assoc"),
        (["team|other|normal|||", "b||normal|||"], {}, "team", "fix", "may not use main", "set ACCOUNT=b"),
        (
            [*MINE, "b||normal|||"],
            {"accounts": "b,c"},
            "team",
            "fix",
            "main takes no jobs of",
            "set ACCOUNT=b",
        ),
        (MINE, {"accounts": "c"}, "team", "fix", "main takes no jobs of", "set another PARTITION"),
    ],
)
def test_account(site, mine, facts, account, state, said, advice):
    mine = [line.rstrip("|") + "|" * (5 - line.rstrip("|").count("|")) for line in mine]
    site.accounts(mine, KNOWN)
    site.partitions(main={"default": "YES", **facts})
    if account:
        site.set(ACCOUNT=account)
    held(row(judged(site), "account"), state, said, advice)


@pytest.mark.parametrize(
    ("facts", "qos", "state", "said", "advice"),
    [
        ({}, None, "ok", "Slurm's default for you", ""),
        ({}, "long", "ok", "long", ""),
        ({}, "lnog", "fix", "there is no QOS=lnog (did you mean long?)", "one of normal, long"),
        ({}, "secret", "fix", "QOS=secret is none of yours", "set QOS=normal"),
        ({"qos": "normal"}, "long", "fix", "main takes no QOS=long", "set QOS=normal"),
    ],
)
def test_quality_of_service(site, facts, qos, state, said, advice):
    site.accounts(["team||normal,long|||"], KNOWN)
    site.partitions(main={"default": "YES", **facts})
    if qos:
        site.set(QOS=qos)
    held(row(judged(site), "qos"), state, said, advice)


@pytest.mark.parametrize(
    ("mine", "qos", "words", "state", "said", "advice"),
    [
        ("team||normal|||", "normal|||", {}, "ok", "allows 204 jobs of this size", ""),
        ("team||normal|2:00:00||", "normal|||", {"TIME": "4:00:00"}, "fix", "allows 2:00:00", "TIME=2:00:00"),
        ("team||normal||node=8|", "normal|||", {}, "fix", "allows 8 nodes a job", "set NODES=8"),
        ("team||normal||gres/gpu=32|", "normal|||", {}, "fix", "32 GPUs a job, it asks for 512", "NODES=4"),
        ("team||normal|||100", "normal|||", {}, "fix", "100 jobs at a time, these are 204", "JOBS=94"),
        ("team||normal|||", "normal|1:00:00||", {"TIME": "4:00:00"}, "fix", "QOS normal", "TIME=1:00:00"),
        ("team||normal|||", "normal||node=2|", {}, "fix", "QOS normal allows 2 nodes", "set NODES=2"),
        ("team||normal|||", "normal|||20", {}, "fix", "QOS normal allows 20 jobs", "NUM_TRAINING_JOBS=14"),
    ],
)
def test_limits(site, mine, qos, words, state, said, advice):
    site.accounts([mine], [qos])
    site.set(ACCOUNT="team", QOS="normal", **words)
    held(row(judged(site, links=198), "limits"), state, said, advice)
