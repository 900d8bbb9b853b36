"""What Slurm's own words say of a site."""

import pytest

from omr.cluster import slurm
from omr.reports.doctor.slurm import limits
from omr.reports.doctor.slurm.limits import Limits


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("gpu:8", 8),
        ("gpu:h100:8", 8),
        ("gpu:h100:8(S:0-1)", 8),
        ("gpu:a100:4(S:0,2),gpu:h100:2(S:1)", 6),
        ("nvme:1,gpu:a100_80gb:4", 4),
        ("shard:h100:32,gpu:h100:8", 8),
        ("(null)", 0),
        ("", 0),
        ("gpu", 0),
    ],
)
def test_gpus_of_a_node(gres, gpus):
    assert limits.gpus_of(gres) == gpus


@pytest.mark.parametrize(
    ("state", "broken"),
    [("idle", False), ("mix", False), ("alloc", False), ("plnd", False), ("idle~", False), ("resv", False)]
    + [
        (word, True)
        for word in ("down", "down*", "drain", "drng", "drained", "fail", "idle*", "maint", "unk*")
    ],
)
def test_a_broken_node(state, broken):
    assert limits.Node("n", state, 8).broken is broken


def test_partitions(monkeypatch):
    text = (
        "PartitionName=a AllowAccounts=ALL AllowQos=normal,long Default=YES DefaultTime=00:10:00 MaxNodes=4"
        " MaxTime=1-00:00:00 State=UP TotalNodes=8 TRES=cpu=3,gres/gpu=6\n"
        "PartitionName=b AllowAccounts=x,y DenyQos=long Default=NO DefaultTime=NONE MaxNodes=UNLIMITED"
        " MaxTime=UNLIMITED State=DOWN TotalNodes=2\n"
    )
    monkeypatch.setattr(slurm, "call", lambda command: text)
    a, b = limits.partitions().values()
    assert (a.name, a.default, a.max_nodes, a.max_time, a.default_time) == ("a", True, 4, 86_400, 600)
    assert (a.accounts, a.qos, a.denied_qos, a.nodes, a.state) == ((), ("normal", "long"), (), 8, "UP")
    assert (b.max_nodes, b.max_time, b.default_time, b.accounts) == (None, None, None, ("x", "y"))
    assert (b.default, b.denied_qos, b.state) == (False, ("long",), "DOWN")


def test_associations(monkeypatch):
    monkeypatch.setattr(limits.shutil, "which", lambda name: name)
    text = "team||normal,long|1-00:00:00|cpu=512,gres/gpu=64,node=8|20\nother|main|normal||| \n"
    monkeypatch.setattr(slurm, "call", lambda command: text)
    first, second = limits.associations()
    assert first.limits == Limits(86_400, 8, 64, 20) and first.qos == ("normal", "long")
    assert second.limits == Limits(None, None, None, None) and second.partition == "main"


def test_no_accounting(monkeypatch):
    def refuse(command):
        raise slurm.OmrError("sacctmgr failed: You are not running a supported accounting_storage plugin")

    monkeypatch.setattr(limits.shutil, "which", lambda name: name)
    monkeypatch.setattr(slurm, "call", refuse)
    assert limits.associations() is None and limits.qualities() is None
    monkeypatch.setattr(limits.shutil, "which", lambda name: None)
    assert limits.associations() is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(600, "0:10:00"), (14_400, "4:00:00"), (129_600, "1-12:00:00"), (45, "0:00:45")]
)
def test_a_time_limit_is_written_as_slurm_reads_it(seconds, text):
    assert limits.written(seconds) == text and slurm.limit(text) == seconds
