"""A real Docker engine of the tests' own, stand-in base images, and a checkout of their own to build from.

The engine needs root and the packages docker.io and debootstrap; where they are missing the tests are
skipped. No registry is asked: the base is a minimal system made by debootstrap from this machine's mirror.
"""

import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import yaml

from omr import settings
from omr.settings import ROOT
from omr.training.nemo_rl import keys

from .helpers import BASE, TRAIN_BASE, Checkout, run

CACHE = ROOT / "build" / "stand-in"  # ignored by git; a fresh clone makes it again
NEEDS = ("dockerd", "docker", "debootstrap", "apt-get")
PYTHON_BASE = "stand-in/python:1"


def pytest_collection_modifyitems(items):
    """All of them share one engine: marked, and in one group of a distributed run."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.docker)
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.xdist_group("docker"))


@pytest.fixture(scope="session")
def engine(tmp_path_factory):
    """DOCKER_HOST of an engine of our own, with nothing in it."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    absent = [name for name in NEEDS if shutil.which(name, path=path) is None]
    if os.geteuid() != 0 or absent:
        pytest.skip(f"needs root and {', '.join(absent) or 'its packages'} (packages docker.io, debootstrap)")
    folder = tmp_path_factory.mktemp("engine")
    address = f"unix://{folder}/socket"
    (folder / "data").mkdir()
    if memory_free() > 8 << 30:
        # Images of the tests' size are written and thrown away several times faster in memory.
        run("mount", "-t", "tmpfs", "-o", "size=6g", "tmpfs", folder / "data")
    line = ["dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none", f"--host={address}"]
    line += [f"--data-root={folder}/data", f"--exec-root={folder}/exec", f"--pidfile={folder}/pid"]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(line, stdout=log, stderr=log, env={**os.environ, "PATH": path})
    environ = {**os.environ, "DOCKER_HOST": address}
    for _ in range(120):
        if run("docker", "version", check=False, env=environ).returncode == 0:
            break
        if server.poll() is not None:
            last = (folder / "log").read_text().strip().splitlines()[-1:]
            pytest.skip(f"no Docker engine can run here: {last}")
        time.sleep(0.5)
    yield address
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(60)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
    mounts = [
        line.split()[1] for line in Path("/proc/mounts").read_text().splitlines() if str(folder) in line
    ]
    for mount in reversed(mounts):
        run("umount", "--lazy", mount, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def memory_free():
    """Bytes that new programs can have."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))


def archives():
    """This machine's package archives: (codename, address), the release's own first."""
    text = run("apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)").stdout
    found = dict.fromkeys(tuple(line.split()) for line in text.splitlines() if len(line.split()) == 2)
    return sorted(found, key=lambda row: "-" in row[0])


@pytest.fixture(scope="session")
def base(engine, tmp_path_factory):
    """A minimal system under the name BASE: what a small base image from a registry would be."""
    codename, address = archives()[0]
    file = CACHE / f"{codename}.tar"
    if not file.exists():
        folder = tmp_path_factory.mktemp("debootstrap")
        run("debootstrap", "--variant=minbase", codename, folder, address)
        run("chroot", folder, "apt-get", "clean")
        # The archive is reached as this machine reaches it.
        wanted = ("Acquire::http", "Acquire::https", "Acquire::Check")
        lines = [line for line in run("apt-config", "dump").stdout.splitlines() if line.startswith(wanted)]
        (folder / "etc/apt/apt.conf.d/90site").write_text("\n".join(lines) + "\n")
        CACHE.mkdir(parents=True, exist_ok=True)
        with tarfile.open(file.with_suffix(".tmp"), "w") as archive:
            archive.add(folder, arcname=".")
        file.with_suffix(".tmp").rename(file)
        shutil.rmtree(folder, ignore_errors=True)
    run("docker", "import", file, BASE, env={**os.environ, "DOCKER_HOST": engine})
    return BASE


@pytest.fixture(scope="session")
def checkout(engine, tmp_path_factory):
    """The repository's files, committed, so that the images carry a revision."""
    root = tmp_path_factory.mktemp("checkout") / "repository"
    root.mkdir()
    names = run(
        "git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z"
    ).stdout.split("\0")
    for name in filter(None, names):
        if (ROOT / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name, follow_symlinks=False)
    git = ("git", "-C", root, "-c", "user.name=test", "-c", "user.email=test@localhost")
    run("git", "init", "--quiet", root)
    run(*git, "add", "--all")
    run(*git, "commit", "--quiet", "--message", "all of it")
    return Checkout(root, engine, tmp_path_factory.mktemp("hf"))


@pytest.fixture(scope="session")
def tools(checkout, base):
    """The tools image, built from nothing; what `make image` said, and how long it took."""
    begin = time.monotonic()
    done = checkout.make("image", "STAGE=tools")
    done.seconds = time.monotonic() - begin
    return done


@pytest.fixture(scope="session")
def nemo_rl_base(checkout, tools, tmp_path_factory):
    """A stand-in of the NeMo-RL image: its folders, a real uv in root's closed home, our keys."""
    folder = tmp_path_factory.mktemp("nemo-rl")
    run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        f"uv=={settings.pins()['UV_VERSION']}",
        "-d",
        folder,
    )
    with zipfile.ZipFile(next(folder.glob("uv-*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith("scripts/uv"))
        (folder / "uv").write_bytes(wheel.read(name))
    example = {}
    for key in keys.known_keys():
        *sections, last = key.rstrip("?").removesuffix(".*").split(".")
        inner = example
        for section in sections:
            inner = inner.setdefault(section, {})
        inner.setdefault(last, {} if key.endswith(".*") else None)
    files = {
        "examples/configs/sft.yaml": yaml.safe_dump(example),
        "nemo_rl/package_info.py": "MAJOR = {}\nMINOR = {}\nPATCH = {}\n".format(
            *settings.pins()["NEMO_RL_VERSION"].removeprefix("v").split(".")
        ),
        "pyproject.toml": '[project]\nname = "stand-in"\nversion = "0"\nrequires-python = ">=3.11"\n',
        "examples/run_sft.py": "import sys; print('run_sft', *sys.argv[1:])\n",
        "examples/converters/convert_megatron_to_hf.py": "",
    }
    for name, text in files.items():
        (folder / "nemo-rl" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "nemo-rl" / name).write_text(text)
    (folder / "ray").write_text("#!/bin/sh\necho usage: ray symmetric-run, of the stand-in\n")
    (folder / "Dockerfile").write_text(f"""\
FROM {PYTHON_BASE}
COPY uv /root/.local/bin/
COPY nemo-rl /opt/nemo-rl/
ENV UV_PROJECT_ENVIRONMENT=/opt/nemo_rl_venv NEMO_RL_VENV_DIR=/opt/ray_venvs RAY_USAGE_STATS_ENABLED=0 \\
    PATH=/opt/nemo_rl_venv/bin:/root/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
RUN python3 -m venv --without-pip /opt/nemo_rl_venv; python3 -m venv --without-pip /opt/ray_venvs/worker; \\
    chmod 755 /root/.local/bin/uv; chmod 700 /root
COPY --chown=0:0 ray /opt/nemo_rl_venv/bin/
RUN chmod 755 /opt/nemo_rl_venv/bin/ray
WORKDIR /opt/nemo-rl
""")
    part = checkout.root / "build" / "Dockerfile.tools"
    common = ("build", "--network=host", "--quiet")
    arguments = ("--build-arg", f"TOOLS_BASE={BASE}", "--file", part)
    (checkout.root / "build" / "site").mkdir(exist_ok=True)
    checkout.docker(*common, *arguments, "--target", "python", "--tag", PYTHON_BASE, checkout.root)
    checkout.docker(*common, "--tag", TRAIN_BASE, folder)
    return TRAIN_BASE
