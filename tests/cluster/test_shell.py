"""The commands that slurm/lib.sh builds on a node: golden, with a container and without."""

import os
import subprocess

import pytest

from omr.settings import ROOT

NODE = {
    "OMR_ROOT": "/omr",
    "WORKSPACE": "/shared/w s",
    "RUN_DIR": "/shared/w s/runs/7b/round1",
    "NEMO_RL": "/opt/nemo-rl",
    "GPUS": "8",
    "SLURM_JOB_ID": "1234",
    "SLURM_JOB_NUM_NODES": "64",
    "SLURM_CPUS_ON_NODE": "96",
    "SLURMD_NODENAME": "gpu-7",
    "CONTAINER_ENV": "HF_TOKEN,WANDB_API_KEY,OMR_DEADLINE",
    "CONTAINER_MOUNTS": "/omr:/omr,/shared/w s:/shared/w s,/raw:/raw:ro",
}
STEP = [
    *("srun", "--nodes=64", "--ntasks-per-node=1", "--kill-on-bad-exit=1", "--cpu-bind=none"),
    *("--cpus-per-task=96", "--gpus-per-node=8"),
]
PYXIS = [
    "--container-image=/images/omr.sqsh",
    "--container-mounts=/omr:/omr,/shared/w s:/shared/w s,/raw:/raw:ro",
    *("--no-container-mount-home", "--container-writable"),
]
NAMES = "--container-env=HF_TOKEN,WANDB_API_KEY,OMR_DEADLINE"
DRIVER = ["uv", "run", "--no-sync", "python", "/omr/omr/training/nemo_rl/driver.py", "--config"]


@pytest.fixture
def built(tmp_path):
    """The words of STEP and COMMAND after some calls of lib.sh."""
    tools = {
        "scontrol": 'echo "NodeName=gpu-7 Arch=x NodeAddr=${NODE_ADDR:-gpu-7} NodeHostName=gpu-7 Version=22"',
        "getent": 'echo "${ADDRESS:-10.0.0.7}       STREAM gpu-7"',
        "hostname": 'if [[ ${1:-} == -I ]]; then echo "10.9.9.9 172.17.0.1 "; else echo gpu-7; fi',
    }
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def run(calls, **env):
        words = """printf '%s\\0' "${STEP[@]}" "${COMMAND[@]}" """
        script = f"set -euo pipefail; source {ROOT}/slurm/lib.sh; {calls}; {words}"
        environ = {**NODE, **env, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        done = subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split("\0")[:-1]

    return run


def test_the_driver_is_where_the_command_says():
    assert (ROOT / DRIVER[4].removeprefix("/omr/")).exists()


def test_nemo_rl_in_a_container(built):
    ray = ["/opt/omr/docker/entry.sh", "/omr/slurm/ray.sh", "10.0.0.7", str(20000 + 1234 * 7 % 4000)]
    place = "--container-workdir=/opt/nemo-rl"
    config = "/shared/w s/runs/7b/round1/nemo_rl.yaml"
    wanted = [*STEP, *PYXIS, place, NAMES, *ray, *DRIVER, config]
    assert built("omr::nemo_rl; omr::step", CONTAINER="/images/omr.sqsh") == wanted


def test_nemo_rl_without_a_container(built):
    words = built("omr::nemo_rl; omr::step", SLURM_RESTART_COUNT="2")
    assert words[: len(STEP)] == STEP and not any("container" in word for word in words)
    # Another attempt has another port: what the last one left behind is not mistaken for it.
    assert words[len(STEP) + 2] == str(20000 + (1234 * 7 + 2) % 4000)


@pytest.mark.parametrize(
    ("named", "resolved", "address"),
    [
        ("gpu-7", "10.0.0.7", "10.0.0.7"),
        ("10.0.0.8", "10.0.0.8", "10.0.0.8"),
        # /etc/hosts of Debian and Ubuntu gives a machine's own name a loopback address.
        ("gpu-7", "127.0.1.1", "10.9.9.9"),
    ],
)
def test_the_address_is_one_that_others_reach(built, named, resolved, address):
    words = built('STEP=(); COMMAND=("$(omr::address)")', NODE_ADDR=named, ADDRESS=resolved)
    assert words == [address]


def test_one_box_engine(built):
    one = {"SLURM_JOB_NUM_NODES": "1", "GPUS": "0"}
    words = built("omr::trl; omr::step", **one)
    assert words[-5:] == ["env", "RUNNER=host", "/omr/docker/run", "train", "bin/train.py"]
    several = built("omr::trl; omr::step", **{**one, "SLURM_JOB_NUM_NODES": "2"})
    assert several[-4] == "/omr/slurm/torchrun.sh" and several[-1] == "/omr/bin/train.py"
    gpus = built("omr::trl; omr::step", SLURM_JOB_NUM_NODES="1")
    assert gpus[-4] == "/omr/slurm/torchrun.sh" and "--gpus-per-node=8" in gpus


def test_a_stage_runs_on_one_node_in_the_image_s_own_environment(built):
    plain = built("omr::stage data bin/average.py", GPUS="0")
    assert plain[1] == "--nodes=1" and plain[-4:] == [
        "RUNNER=host",
        "/omr/docker/run",
        "data",
        "bin/average.py",
    ]
    inside = built("omr::stage data bin/average.py", GPUS="0", CONTAINER="nvcr.io#team/omr:train")
    # A script that submits by RUNNER=slurm would submit itself again.
    door = ["/opt/omr/docker/entry.sh", "env", "RUNNER=host"]
    assert (
        inside[-5:] == [*door, "/opt/omr/venv/bin/python", "/omr/bin/average.py"]
        and "--container-image=nvcr.io#team/omr:train" in inside
    )


@pytest.fixture
def ray(tmp_path):
    """Start one node's slurm/ray.sh, with a `ray` that ends at once."""
    (tmp_path / "ray").write_text("#!/bin/sh\nexit 0\n")
    (tmp_path / "ray").chmod(0o755)

    def start(job, node, **env):
        environ = {
            **{"GPUS": "0", "SLURM_JOB_ID": str(job), "SLURM_JOB_NUM_NODES": "2", "SLURM_NODEID": str(node)},
            **{"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token"), "RAY_TMPDIR": str(tmp_path)},
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            **env,
        }
        words = [ROOT / "slurm" / "ray.sh", "127.0.0.1", "1", "true"]
        return subprocess.Popen(words, env=environ, stderr=subprocess.PIPE, text=True)

    return start


@pytest.mark.slow
def test_nodes_with_one_temporary_folder_end_apart(ray, tmp_path):
    """A task that ends first takes the folder away, which is no fault of the one that begins meanwhile."""
    for job in range(25):
        for task in [ray(job, node) for node in (1, 0)]:
            assert task.wait(30) == 0, task.stderr.read()
    assert not list(tmp_path.glob("omr-ray-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_temporary_folder_of_another_user_is_refused(ray, tmp_path):
    folder = tmp_path / "omr-ray-7-0"
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    task = ray(7, 0)
    assert task.wait(30) == 1 and "belongs to another user" in task.stderr.read()
    assert folder.exists()
