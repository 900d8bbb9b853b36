"""Ray itself on two nodes with addresses of their own, through slurm/ray.sh: one cluster, a token, a driver
that sees both, and nothing left for the next attempt to trip over.

Ray is no part of this toolkit's environments; RAY_BIN names the folder of a `ray` of the image's version:
    python3 -m venv /tmp/ray && /tmp/ray/bin/pip install ray==2.54.0 && RAY_BIN=/tmp/ray/bin make test
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from omr.settings import ROOT

from . import cluster
from .cluster import Cluster, wait

NET = "10.213.7"
DRIVER = """
import os, ray
try:
    ray.init(address="auto", include_dashboard=False)
    where = [n for n in ray.nodes() if n["Alive"]]
    @ray.remote(num_cpus=1)
    def address():
        return ray.util.get_node_ip_address()
    places = [{f"node:{n['NodeManagerAddress']}": 0.1} for n in where]
    seen = {ray.get(address.options(resources=place).remote()) for place in places}
    print("driver sees", sorted(seen), flush=True)
    print("token", os.environ["RAY_AUTH_MODE"], flush=True)
finally:
    ray.shutdown()
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
        bind = f"mount --bind {private} {self.shared} && exec slurmd -D -N {name}"
        self._spawn(name, *inside, "bash", "-c", bind)


@pytest.fixture
def apart():
    """A two-node cluster with networks of its own; skipped with a reason where it cannot be."""
    if lack := cluster.missing():
        pytest.skip(lack)
    if not os.environ.get("RAY_BIN"):
        pytest.skip("RAY_BIN names no folder with a ray; this test's docstring makes one")
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


def state(apart, number):
    return apart.call("squeue", "-h", "-t", "all", "-j", number, "-o", "%T").strip()


def job(apart, tmp_path, name):
    """Two nodes, one srun of slurm/ray.sh as slurm/lib.sh builds it; its output."""
    (tmp_path / "driver.py").write_text(DRIVER)
    token = tmp_path / f"token-{name}"
    token.touch(mode=0o600)
    token.write_text("0123456789abcdef" * 4)
    out, script = tmp_path / f"{name}.log", tmp_path / f"{name}.sh"
    script.write_text(
        f"""#!/usr/bin/env bash
set -euo pipefail
export GPUS=0 OMR_ROOT={ROOT} WORKSPACE={tmp_path} RAY_AUTH_TOKEN_PATH={token}
export PATH={os.environ["RAY_BIN"]}:$PATH RAY_TMPDIR={apart.shared}
source {ROOT}/slurm/lib.sh
omr::step
"${{STEP[@]}}" {ROOT}/slurm/ray.sh "$(omr::address)" "$(omr::port 20000)" python {tmp_path}/driver.py
"""
    )
    words = [
        "--nodes=2",
        "--ntasks-per-node=1",
        "--cpus-per-task=2",
        "--time=8",
        f"--output={out}",
        str(script),
    ]
    number = apart.call("sbatch", "--parsable", *words, str(script)).strip()
    done = ("COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "NODE_FAIL")
    wait(
        lambda: apart.call("squeue", "-h", "-t", "all", "-j", number, "-o", "%T").strip() in done,
        500,
        name,
        1,
    )
    return out.read_text()


def test_two_nodes_one_cluster_twice(apart, tmp_path):
    for name in ("first", "second"):
        said = job(apart, tmp_path, name)
        assert f"driver sees ['{NET}.11', '{NET}.12']" in said, said
        assert "token token" in said
    assert not list(apart.root.glob("private.*/omr-ray-*"))
