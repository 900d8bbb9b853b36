"""Ray itself on two nodes with addresses of their own, through slurm/ray.sh: one cluster, a token, a driver
that sees both, a dashboard that nobody reaches, and what a killed attempt leaves is no matter to the next.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from omr.settings import ROOT

from . import cluster
from .cluster import Cluster, wait

BIN = ROOT / "build/ray-venv/bin"  # docker/venv ray
NET = "10.213.7"
HEAD = f"{NET}.11"
TOKEN = "0123456789abcdef" * 4
AGENT = 52365  # Ray's HTTP port on every node
ENDED = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")
DRIVER = """
import os, ray, sys, time
ray.init(address="auto")
where = [n for n in ray.nodes() if n["Alive"]]
@ray.remote(num_cpus=1)
def address():
    return ray.util.get_node_ip_address()
places = [{f"node:{n['NodeManagerAddress']}": 0.1} for n in where]
seen = ray.get([address.options(resources=place).remote() for place in places])
print("driver sees", sorted(seen), flush=True)
time.sleep(float(sys.argv[1]))
"""
# What anybody on the network may try: ask the head for its nodes.
STRANGER = """
import sys
from ray._raylet import GcsClient
print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)), "nodes")
"""


class Apart(Cluster):
    """Each node in a network, mount and process namespace of its own: two `ray stop` do not meet."""

    def __init__(self, root: Path, nodes: int) -> None:
        super().__init__(root, nodes=nodes, cpus=2, slurmd_timeout=60)
        self.shared = root / "t"
        conf = root / "slurm.conf"
        text = conf.read_text().replace("SlurmctldHost=localhost", f"SlurmctldHost=localhost({NET}.1)")
        conf.write_text(text.replace("NodeAddr=127.0.0.1", f"NodeAddr={NET}.[11-{10 + nodes}]"))

    def build(self) -> None:
        commands = ["link add omrbr0 type bridge", f"addr add {NET}.1/24 dev omrbr0", "link set omrbr0 up"]
        for i, name in enumerate(self.nodes, 11):
            space = f"omr-{name}"
            commands += [
                f"netns add {space}",
                f"link add omrv{i} type veth peer name eth0 netns {space}",
                f"link set omrv{i} master omrbr0 up",
                f"-n {space} addr add {NET}.{i}/24 dev eth0",
                f"-n {space} link set eth0 up",
                f"-n {space} link set lo up",
            ]
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True, capture_output=True)

    def demolish(self) -> None:
        for name in self.nodes:
            subprocess.run(["ip", "netns", "del", f"omr-{name}"], capture_output=True)
        subprocess.run(["ip", "link", "del", "omrbr0"], capture_output=True)

    def start_node(self, name: str) -> None:
        inside = ["nsenter", f"--net=/run/netns/omr-{name}"]
        inside += ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"]
        # A /tmp of its own, as far as Ray is concerned.
        private = self.root / f"private.{name}"
        for folder in (private, self.shared):
            folder.mkdir(exist_ok=True)
        # No exec: the shell is the first process there and reaps what Ray's daemons leave, as an init does.
        bind = f"mount --bind {private} {self.shared} && slurmd -D -N {name}; exit"
        self._spawn(name, *inside, "bash", "-c", bind)

    def stop(self) -> None:
        for name in self.nodes:
            self.daemons[name].kill()  # unshare takes no SIGTERM; with it goes all that runs in there
        super().stop()


@pytest.fixture
def apart():
    """A two-node cluster with networks of its own; skipped with a reason where it cannot be."""
    if lack := cluster.missing():
        pytest.skip(lack)
    if not (BIN / "ray").exists():
        pytest.skip("Ray is not installed; docker/venv ray installs it")
    if not shutil.which("ip"):
        pytest.skip("ip is not installed (Debian: iproute2)")
    with tempfile.TemporaryDirectory(prefix="omr-ray-", ignore_cleanup_errors=True) as folder:
        made = Apart(Path(folder) / "s", 2)
        try:
            made.demolish()  # of a test that was killed
            made.build()
        except subprocess.CalledProcessError as error:
            made.demolish()
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        try:
            made.start()
            yield made
        finally:
            made.stop()
            made.demolish()


def begin(apart, tmp_path, name, seconds):
    """Two nodes, one srun of slurm/ray.sh as slurm/lib.sh builds it; id and output."""
    driver, token = tmp_path / "driver.py", tmp_path / f"token-{name}"
    driver.write_text(DRIVER)
    token.touch(mode=0o600)
    token.write_text(TOKEN)
    out, script = tmp_path / f"{name}.log", tmp_path / f"{name}.sh"
    # Short waits: a node that has lost its head for good waits a minute by itself. Less than `ray stop` takes
    # would end the driver's own side of it.
    script.write_text(
        f"""#!/usr/bin/env bash
set -euo pipefail
export GPUS=0 OMR_ROOT={ROOT} RAY_AUTH_TOKEN_PATH={token} PATH={BIN}:$PATH RAY_TMPDIR={apart.shared}
export RAY_gcs_rpc_server_reconnect_timeout_s=15 RAY_enable_worker_prestart=0
source {ROOT}/slurm/lib.sh
omr::step
"${{STEP[@]}}" {ROOT}/slurm/ray.sh "$(omr::address)" "$(omr::port 20000)" python {driver} {seconds}
"""
    )
    words = ["--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=2", "--time=8", f"--output={out}"]
    return apart.call("sbatch", "--parsable", *words, str(script)).strip(), out


def said(out):
    """What an attempt wrote so far."""
    return out.read_text(errors="replace") if out.exists() else ""


def state(apart, job):
    return apart.call("squeue", "-h", "-t", "all", "-j", job, "-o", "%T").strip()


def ask(job, **env):
    """A stranger's question to the head of a job, from outside the cluster; what came of it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    command = [BIN / "python", "-c", STRANGER, f"{HEAD}:{20_000 + 7 * int(job)}"]
    done = subprocess.run(command, env={**clean, **env}, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_two_nodes_one_cluster_and_another_after_it_was_killed(apart, tmp_path):
    both = f"driver sees ['{NET}.11', '{NET}.12']"
    job, out = begin(apart, tmp_path, "first", 300)
    wait(lambda: both in said(out), 150, f"no driver that sees both nodes: {out}")

    assert "Authentication token is missing or incorrect" in ask(job)
    wrong = ask(job, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="f" * 64)
    assert "Authentication token is missing or incorrect" in wrong
    assert "2 nodes" in ask(job, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=TOKEN)
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(f"http://{HEAD}:8265/", timeout=10)  # the dashboard
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://{HEAD}:{AGENT}/", timeout=10)

    for word in (signal.SIGSTOP, signal.SIGKILL):  # all stop first: nobody is left to clean up
        for process in sorted(apart.of_job(job)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, word)
    wait(lambda: state(apart, job) in ENDED, 60, "the first attempt did not end")
    left = sorted(apart.root.glob("private.*/omr-ray-*"))
    assert left  # of both nodes, unless one was quick enough to clean up

    job, out = begin(apart, tmp_path, "second", 0)
    wait(lambda: state(apart, job) in ENDED, 200, f"the second attempt did not end: {out}")
    assert both in said(out) and state(apart, job) == "COMPLETED", said(out)
    assert sorted(apart.root.glob("private.*/omr-ray-*")) == left
