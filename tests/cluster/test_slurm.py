"""Slurm's answers as they are read: ends, arrays, views that would hide jobs, a controller that is away."""

import os
from datetime import datetime

import pytest

from omr.cluster import slurm
from omr.errors import OmrError

LIVE = ("RUNNING", "PENDING")
END = datetime(2026, 1, 31, 18, 0, 0)


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a shell script in a Slurm command's place; it may write to $SEEN."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    (tmp_path / "seen").touch()

    def put(name, script):
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
        return tmp_path / "seen"

    return put


def test_the_end_is_what_slurm_says_now(tool):
    """SLURM_JOB_END_TIME is from the start: a preemption and a changed limit are not in it."""
    tool("squeue", f"echo {END.isoformat()}")
    assert slurm.end_time("7", {"SLURM_JOB_END_TIME": "99"}) == END.timestamp()


@pytest.mark.parametrize("text", ["N/A", "NONE", "Unknown", ""])
def test_an_allocation_without_an_end(tool, text):
    tool("squeue", f"echo {text}")
    assert slurm.end_time("7", {}) is None


def test_the_end_while_the_controller_is_away(tool):
    tool("squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    assert slurm.end_time("7", {"SLURM_JOB_END_TIME": "99"}, tries=1) == 99
    with pytest.raises(OmrError, match="Unable to contact"):
        slurm.end_time("7", {}, tries=1)


def test_a_controller_that_hangs_is_not_waited_for(tool):
    tool("squeue", "exec sleep 30")
    assert slurm.end_time("7", {"SLURM_JOB_END_TIME": "99"}, tries=1, patience=0.3) == 99


def test_the_user_s_own_view_of_the_queue_hides_nothing(tool, monkeypatch):
    for name in ("SQUEUE_PARTITION", "SQUEUE_FORMAT", "SACCT_FORMAT", "SLURM_TIME_FORMAT"):
        monkeypatch.setenv(name, "mine")
    seen = tool("squeue", 'env | grep -E "^(SQUEUE|SACCT|SLURM_TIME)" > "$SEEN"; true')
    assert slurm.queue() == [] and seen.read_text() == ""


def test_a_refused_submission_says_why_in_a_line(tool):
    tool(
        "sbatch",
        "echo 'sbatch: error: a' >&2; echo 'sbatch: error: Batch job submission failed: no' >&2; exit 1",
    )
    with pytest.raises(OmrError, match=r"^sbatch failed: Batch job submission failed: no$"):
        slurm.sbatch(["sbatch", "x"], dict(os.environ))


@pytest.mark.parametrize(
    ("said", "job"),
    [
        ("145", "145"),
        ("145;main", "145"),
        ("Welcome to the cluster\n\n145", "145"),
        ("8 GPUs are free\n145;main\n", "145"),
        ("Submitted batch job 145 on cluster main", None),
        ("Welcome", None),
        ("", None),
    ],
)
def test_the_id_of_a_job(tool, said, job):
    """Whatever a site's wrapper around sbatch prints before it; never a text that is none."""
    tool("sbatch", f"printf '%s' '{said}'")
    if job:
        assert slurm.sbatch(["sbatch", "x"], dict(os.environ)) == job
    else:
        with pytest.raises(slurm.NoJobId, match=r"^sbatch answered .*, which is no job id"):
            slurm.sbatch(["sbatch", "x"], dict(os.environ))


def test_an_id_with_its_cluster(tool):
    tool("sbatch", "echo '12;west'")
    assert slurm.sbatch(["sbatch", "x"], dict(os.environ)) == "12"


@pytest.mark.parametrize(
    ("states", "told"),
    [
        ("COMPLETED COMPLETED", "COMPLETED"),
        ("COMPLETED FAILED", "FAILED"),
        ("FAILED COMPLETED", "FAILED"),
        ("FAILED PENDING", "PENDING"),
        ("PENDING RUNNING FAILED", "RUNNING"),
    ],
)
def test_one_state_for_an_array(tool, states, told):
    """From the queue, and from accounting once the controller has forgotten it."""
    rows = [f"9_{i}|{state}|None|c|/run||" for i, state in enumerate(states.split())]
    tool("squeue", "echo '" + "\n".join(rows) + "'")
    assert slurm.jobs(["9"])["9"].state == told
    rows = [f"9_{i}|{state}|c|None|0:0|n1" for i, state in enumerate(states.split()) if state not in LIVE]
    tool("squeue", "true")
    tool("sacct", "echo '" + "\n".join(rows) + "'")
    # What accounting still calls alive, it has only not heard of.
    assert slurm.jobs(["9"])["9"].state == (told if told not in LIVE else "FAILED")


def test_held_jobs_are_released_in_one_call(tool):
    seen = tool("scontrol", 'echo "$@" >> "$SEEN"')
    slurm.release(["8", "9"])
    assert seen.read_text() == "release 8 9\n"
    tool("scontrol", "echo 'Invalid job id specified for job 9' >&2; exit 1")
    with pytest.raises(OmrError, match="scontrol failed: Invalid job id specified for job 9"):
        slurm.release(["8", "9"])


@pytest.mark.parametrize(
    ("state", "reason", "held"),
    [
        ("PENDING", "JobHeldUser", True),
        ("PENDING", "JobHeldAdmin", False),
        ("PENDING", "Dependency", False),
        ("CANCELLED", "JobHeldUser", False),
    ],
)
def test_a_job_that_its_user_holds(state, reason, held):
    assert slurm.Queued("7", state, reason, "omr").held is held


def test_nodes_to_do_without(tool):
    seen = tool("scontrol", 'echo "$@" >> "$SEEN"; exit 1')
    slurm.exclude(["8", "9"], ["n3", "n4"], {"SBATCH_EXCLUDE": "old[1-2]"})
    wanted = "update JobId={} ExcNodeList=old[1-2],n3,n4\n"
    assert seen.read_text() == wanted.format(8) + wanted.format(9)


@pytest.mark.parametrize(
    ("answer", "active"),
    [
        ("echo RUNNING", True),
        ("echo COMPLETING", True),
        ("echo PENDING", False),
        ("echo COMPLETED", False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
    ],
)
@pytest.mark.slow
def test_who_holds_nodes(tool, answer, active):
    tool("squeue", answer)
    assert slurm.is_active("7") is active


@pytest.mark.parametrize(
    ("bad", "environ", "enough"),
    [
        (["n1"], {}, True),
        (["n1", "n2"], {}, False),  # n3 and n4 are left, and n4 does not answer
        (["n4"], {}, True),
        (["n1"], {"SLURM_JOB_NUM_NODES": "3"}, False),
        (["n1"], {"SLURM_JOB_RESERVATION": "ours"}, False),
        (["n1"], {"SBATCH_NODELIST": "n1"}, False),
        (["n1"], {"SLURM_JOB_PARTITION": ""}, False),
    ],
)
def test_a_chain_is_not_made_to_wait_for_ever(tool, bad, environ, enough):
    tool("sinfo", "printf '%s\\n' 'n1 alloc' 'n2 mix' 'n3 idle' 'n4 idle*' 'n5 drain' 'n6 down'")
    given = {"SLURM_JOB_PARTITION": "gpu", "SLURM_JOB_NUM_NODES": "2", **environ}
    assert slurm.can_do_without(bad, given) is enough


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30", 1800),
        ("30:30", 1830),
        ("4:00:00", 14_400),
        ("1-0", 86_400),
        ("1-12:30", 131_400),
        ("2-0:0:5", 172_805),
        ("36:00:00", 129_600),
        ("2-12", 216_000),
        ("90:30", 5430),
        ("0", None),  # no limit, in sbatch
        ("UNLIMITED", None),
        ("infinite", None),
        ("-1", None),
        (None, None),
    ],
)
def test_time_limits(text, seconds):
    assert slurm.limit(text) == seconds


def test_array_and_accounting(monkeypatch):
    """The most telling task stands for an array; accounting fills in what the controller forgot."""
    rows = [
        slurm.Queued("9_0", "COMPLETED", "", "c"),
        slurm.Queued("9_2", "COMPLETED", "", "c"),
        slurm.Queued("10_0", "FAILED", "x", "c"),
        slurm.Queued("10_1", "RUNNING", "", "c"),
        slurm.Queued("10_2", "PENDING", "", "c"),
        slurm.Queued("11", "COMPLETED", "", "t"),
    ]
    told = [
        slurm.Queued("7", "TIMEOUT", "", "t"),
        slurm.Queued("8", "RUNNING", "", "t"),  # accounting missed its end
        slurm.Queued("9_0", "PENDING", "", "c"),  # and is behind here
        slurm.Queued("9_1", "FAILED", "exit code 1", "c"),
    ]
    asked = []
    monkeypatch.setattr(slurm, "queue", lambda: rows)
    monkeypatch.setattr(slurm, "history", lambda ids: asked.extend(ids) or told)
    found = slurm.jobs(["7", "8", "9", "10", "11"])
    assert {i: row.state for i, row in found.items()} == {
        "7": "TIMEOUT",
        "9": "FAILED",
        "10": "RUNNING",
        "11": "COMPLETED",
    }
    assert asked == ["7", "8", "9"]
    monkeypatch.setattr(slurm, "queue", lambda: rows[:1] + rows[5:])
    monkeypatch.setattr(slurm, "history", lambda ids: [])
    assert {i: row.state for i, row in slurm.jobs(["9"]).items()} == {"9": "COMPLETED"}
