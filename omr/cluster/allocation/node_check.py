"""Are the nodes of this allocation fit? Each is asked, before an engine starts on them (slurm/canary.sh)."""

import os
import re
import secrets
import subprocess
from pathlib import Path

from omr.errors import OmrError
from omr.training import preflight
from omr.workspace import RunFolder

PATIENCE = 300  # seconds that all nodes together have to answer


class UnfitNodes(OmrError):
    """Some nodes are not fit, or do not answer; on others the run could train. `names` are those known."""

    def __init__(self, line: str, names: tuple[str, ...] = ()) -> None:
        super().__init__(line)
        self.names = names


def check_nodes(folder: RunFolder) -> None:
    """Every node sees the run's folder, the image, the mounts and its GPUs.

    UnfitNodes where only some do not: those nodes are broken. An OmrError where none does: the request is.
    """
    if "SLURM_JOB_NUM_NODES" not in os.environ:
        return
    count, token = int(os.environ["SLURM_JOB_NUM_NODES"]), secrets.token_hex(8)
    canary = preflight.canary(folder.root, token)
    script = Path(os.environ["OMR_ROOT"], "slurm", "canary.sh")
    # Every node answers, also after one has failed.
    step = ["srun", f"--nodes={count}", "--ntasks-per-node=1", "--kill-on-bad-exit=0"]
    step += ["bash", str(script), str(canary), token]
    try:
        done = subprocess.run(step, capture_output=True, text=True, errors="replace", timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UnfitNodes(f"the {count} nodes did not answer in {PATIENCE} s") from None
    if done.returncode:
        raise_complaints(done.stderr, count)


def raise_complaints(stderr: str, count: int) -> None:
    """Raise what the complaints of `count` nodes amount to; `stderr` is what all of them wrote."""
    complaints = dict(re.findall(r"^error: node ([^:\s]+): (.+)$", stderr, re.MULTILINE))
    if not complaints:
        raise UnfitNodes((stderr.strip().splitlines() or ["the nodes do not answer"])[0])
    name, why = next(iter(complaints.items()))
    more = f" ({len(complaints)} of {count} nodes complain)" if len(complaints) > 1 else ""
    if len(complaints) >= count:
        raise OmrError(f"node {name}: {why}{more}")
    raise UnfitNodes(f"node {name}: {why}{more}", tuple(complaints))
