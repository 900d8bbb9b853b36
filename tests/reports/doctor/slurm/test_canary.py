"""ASK=1: slurm/probe.sh on a node that is played by this machine, and each thing that it can find."""

import pytest

from omr.reports.doctor.slurm import canary, placement

from ..kit import held, row, stub

# Runs the command behind srun's own options, as the one node of the job would.
SRUN = """#!/bin/bash
echo "$*" >>'{folder}/srun.log'
while [[ $1 == --* ]]; do shift; done
{before}
SLURMD_NODENAME=n1 "$@"
"""


@pytest.fixture
def ask(site, monkeypatch):
    def asked(before="", **words):
        stub(site.folder, "srun", SRUN.format(folder=site.folder, before=before))
        request = site.asked("data", dataset="tiny", **words)
        return canary.checks(request, placement.of(request)[0])

    return asked


def test_a_node_that_is_fit(ask, site):
    found = ask()
    held(row(found, "shared workspace"), "ok", "n1 reads and writes it")
    held(row(found, "node's clock"), "ok", "n1 is within")
    assert "--nodes=1 --ntasks=1 --time=5" in (site.folder / "srun.log").read_text()
    assert not list(site.root.glob(".doctor-*"))


DATE = """date() {{ /usr/bin/date -d '{}' "$@"; }}; export -f date"""


@pytest.mark.parametrize(
    ("before", "name", "state", "said", "advice"),
    [
        (DATE.format("20 seconds ago"), "node's clock", "warn", "n1 is 20 s behind", "timedatectl"),
        (DATE.format("1 hour"), "node's clock", "fix", "ahead of this machine", "SBATCH_EXCLUDE=n1"),
        ('rm -r "$2"', "compute node", "fix", "does not see", "set WORKSPACE"),
        (
            'rm "$2/question"; mkdir "$2/answer"; echo "$3" >"$2/question"',
            "compute node",
            "fix",
            "cannot write",
            "set WORKSPACE",
        ),
        (
            "echo 'srun: error: Unable to allocate resources: Invalid account' >&2; exit 1",
            "compute node",
            "fix",
            "Invalid account",
            "set WORKSPACE",
        ),
        ("exit 3", "compute node", "fix", "srun ended with 3", "set WORKSPACE"),
    ],
)
def test_a_node_that_is_not(ask, before, name, state, said, advice):
    held(row(ask(before), name), state, said, advice)


@pytest.mark.slow
def test_what_a_node_writes_is_not_seen_here(ask, monkeypatch):
    monkeypatch.setattr(canary, "SEEN", 0.5)
    before = 'cp -r "$2" "$2.copy"; set -- "$1" "$2.copy" "$3"'
    held(row(ask(before), "shared workspace"), "fix", "what n1 writes is not seen", "set WORKSPACE")


@pytest.mark.slow
def test_no_node_comes_free(ask, monkeypatch):
    monkeypatch.setattr(canary, "PATIENCE", 0.5)
    held(row(ask("exec /usr/bin/sleep 60"), "compute node"), "warn", "no node came free", "squeue --start")


def test_srun_is_not_here(ask, site):
    ask()
    (site.folder / "srun").unlink()
    request = site.asked("data", dataset="tiny")
    site.set(PATH=str(site.folder))
    held(
        row(canary.checks(request, placement.of(request)[0]), "compute node"),
        "fix",
        "srun: No such file",
        "set",
    )


@pytest.mark.parametrize(
    ("before", "state"), [("", "ok"), ("[[ $* == true ]] && { echo bad image >&2; exit 1; }", "fix")]
)
def test_the_image_on_a_node(ask, site, tmp_path, before, state):
    image = tmp_path / "omr.sqsh"
    image.write_bytes(b"hsqs")
    site.set(CONTAINER=str(image))
    (tmp_path / "env").write_text("")
    found = ask(before)
    held(row(found, "container"), state, str(image), "" if state == "ok" else "make sqsh")
    assert f"--container-image={image}" in (site.folder / "srun.log").read_text()


@pytest.mark.parametrize(
    ("kind", "state"),
    [("nfs4", "ok"), ("lustre", "ok"), ("fuse.weka", "ok"), ("ext4", "warn"), ("tmpfs", "warn")],
)
def test_where_the_workspace_lies(tmp_path, kind, state):
    table = f"/dev/sda1 / ext4 rw 0 0\nx {tmp_path} {kind} rw 0 0\nproc /proc proc rw 0 0\n"
    held(canary.shared(tmp_path / "w", table), state, f"on {kind}", "" if state == "ok" else "ASK=1")
