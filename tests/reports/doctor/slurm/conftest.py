"""A site whose Slurm answers as the test has it: scontrol, sinfo, sacctmgr, sbatch and srun on a PATH."""

import os

import pytest

from omr import settings

from ..kit import asked, stub

PARTITION = (
    "PartitionName={name} AllowGroups=ALL AllowAccounts={accounts} AllowQos={qos} AllocNodes=ALL"
    " Default={default} QoS=N/A DefaultTime={default_time} DisableRootJobs=NO GraceTime=0 Hidden=NO"
    " MaxNodes={max_nodes} MaxTime={max_time} MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=n[1-3]"
    " PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE"
    " PreemptMode=OFF State={state} TotalCPUs=3 TotalNodes=3 SelectTypeParameters=NONE JobDefaults=(null)"
    " DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=3,mem=3M,node=3,billing=3,gres/gpu=6"
)
USUAL = {
    "accounts": "ALL",
    "qos": "ALL",
    "default": "NO",
    "default_time": "NONE",
    "max_nodes": "UNLIMITED",
    "max_time": "12:00:00",
    "state": "UP",
}
SCONTROL = """#!/bin/sh
case "$*" in
*"show partition"*) cat '{folder}/partitions' ;;
*"show config"*) echo 'AccountingStorageEnforce = {enforced}' ;;
esac
"""
SINFO = """#!/bin/sh
case "$*" in
--version) echo 'slurm-wlm 22.05.8' ;;
*) cat '{folder}/nodes' ;;
esac
"""
SACCTMGR = """#!/bin/sh
[ -e '{folder}/assoc' ] || {{ echo 'You are not running a supported accounting_storage plugin' >&2; exit 1; }}
case "$*" in
*"show assoc"*) cat '{folder}/assoc' ;;
*"show qos"*) cat '{folder}/qos' ;;
esac
"""
SBATCH = """#!/bin/sh
echo "$*" >>'{folder}/asked'
case "$*" in *--test-only*) ;; *) echo submitted >>'{folder}/submitted' ;; esac
cat '{folder}/verdict' >&2
exit {code}
"""


class Site:
    """What Slurm says; a test changes it, and asks for a request to be judged."""

    def __init__(self, root, monkeypatch):
        self.root, self.folder, self.monkeypatch = root / "w", root / "slurm", monkeypatch
        self.folder.mkdir()
        self.partitions(main={"default": "YES"}, cpu={})
        self.nodes(*[(f"n{i}", "idle", "gpu:h100:8(S:0-1)") for i in range(1, 65)])
        self.accounts(None)
        self.verdict("sbatch: Job 9 to start at 2026-01-31T18:00:00 using 512 processors on nodes n[1-64]")
        self.write(stub_enforced="none")

    def write(self, stub_enforced):
        stub(self.folder, "scontrol", SCONTROL.format(folder=self.folder, enforced=stub_enforced))
        stub(self.folder, "sinfo", SINFO.format(folder=self.folder))
        stub(self.folder, "sacctmgr", SACCTMGR.format(folder=self.folder))

    def partitions(self, **listed):
        lines = [PARTITION.format(name=name, **{**USUAL, **facts}) for name, facts in listed.items()]
        (self.folder / "partitions").write_text("\n".join(lines) + "\n")

    def nodes(self, *listed):
        (self.folder / "nodes").write_text("".join("|".join(row) + "\n" for row in listed))

    def accounts(self, associations, qos=("normal|||",)):
        """Lines of sacctmgr; None: the cluster keeps no accounting."""
        (self.folder / "assoc").unlink(missing_ok=True)
        if associations is not None:
            (self.folder / "assoc").write_text("".join(f"{line}\n" for line in associations))
            (self.folder / "qos").write_text("".join(f"{line}\n" for line in qos))
            self.write(stub_enforced="associations,limits,qos")

    def verdict(self, says, code=0):
        (self.folder / "verdict").write_text(says + "\n")
        stub(self.folder, "sbatch", SBATCH.format(folder=self.folder, code=code))

    def set(self, **words):
        for name, value in words.items():
            self.monkeypatch.setenv(name, value)

    def asked(self, target="train", links=4, **words):
        return asked(target, self.root, links, **words)


@pytest.fixture
def site(tmp_path, monkeypatch):
    for name in (*settings.SETTINGS, *(name for name in os.environ if name.startswith("SBATCH_"))):
        monkeypatch.delenv(name, raising=False)
    made = Site(tmp_path, monkeypatch)
    made.set(RUNNER="slurm", WORKSPACE=str(tmp_path / "w"), OMR_ENV_FILE=str(tmp_path / "env"))
    made.set(PATH=f"{made.folder}:/usr/bin:/bin", HF_HOME=str(tmp_path / "hf"))
    return made
