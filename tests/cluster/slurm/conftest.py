"""One Slurm for the session, and a small site around it: a workspace, our scripts, and what they left."""

import json
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from omr.settings import ROOT
from omr.workspace import RunFolder

from . import cluster
from .cluster import Cluster, wait

# Only the torch of one of two cores at a time can be quick: three jobs at once, the others wait in the queue,
# where no limit runs.
NODES = 3


@pytest.fixture(scope="session")
def slurm():
    """The cluster; skipped with a reason where it cannot be."""
    if lack := cluster.missing():
        pytest.skip(lack)
    # Below /tmp: Slurm's paths are short, and pytest's own folders may be private to one user.
    with tempfile.TemporaryDirectory(prefix="omr-slurm-", ignore_cleanup_errors=True) as folder:
        running = Cluster(Path(folder) / "s", nodes=NODES, cpus=1)
        running.start()
        try:
            yield running
        finally:
            running.stop()


class Site:
    """A workspace, the environment that a user of the cluster has, and our scripts in it."""

    def __init__(self, running: Cluster, root: Path, **words: str) -> None:
        self.slurm, self.root = running, root
        root.mkdir(parents=True, exist_ok=True)
        self.env = {
            **{k: v for k, v in running.env.items() if not k.startswith(("PYTEST_", "COV_"))},
            "WORKSPACE": str(root),
            "OMR_ENV_FILE": str(root / "env"),
            "RUNNER": "slurm",
            **words,
        }

    def run(self, script: str, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess:
        """`docker/run`'s python on a script of bin/, as make would."""
        command = [sys.executable, str(ROOT / script), *words]
        done = subprocess.run(
            command, env={**self.env, **env}, capture_output=True, text=True, timeout=300, cwd=ROOT
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
            assert "Traceback" not in done.stderr
        return done

    def folder(self, name: str | None, model: str = "micro", round_: str = "round1") -> RunFolder:
        return RunFolder(self.root / "runs" / model / (f"{round_}-{name}" if name else round_))

    def train(self, name: str, links: int = 2, check: bool = True, **env: str) -> dict[str, str]:
        """Submit a chain; returns key -> id."""
        words = ("--model", "micro", "--name", name, "--num_training_jobs", str(links))
        self.run("bin/train.py", *words, check=check, **env)
        return self.ids(name)

    def ids(self, name: str) -> dict[str, str]:
        listed = json.loads(self.folder(name).jobs_json.read_text())["jobs"]
        return {job["key"]: job["id"] for job in listed}

    def state(self, job: str) -> str:
        """State of a job, or of the most alive of an array's tasks; empty once Slurm has forgotten it."""
        words = self.slurm.call("squeue", "-h", "-r", "-t", "all", "-j", job, "-o", "%T", check=False).split()
        alive = [w for w in words if w in ("PENDING", "RUNNING", "COMPLETING")]
        return (alive or words or [""])[0]

    def ended(self, name: str) -> bool:
        return all(self.state(i) not in ("PENDING", "RUNNING", "COMPLETING") for i in self.ids(name).values())

    def finish(self, name: str, seconds: float = 600) -> dict[str, str]:
        """Wait for the whole chain; key -> last state."""
        wait(lambda: self.ended(name), seconds, f"chain {name} did not end: {self.story(name)}", step=0.5)
        return {key: self.state(i) for key, i in self.ids(name).items()}

    def story(self, name: str) -> str:
        path = self.folder(name).event_log
        return path.read_text() if path.exists() else ""

    def logs(self, name: str) -> str:
        """The end of every log, for a failure's message."""
        there = sorted(self.folder(name).logs.glob("*.log"))
        return "".join(f"\n== {path.name}\n{path.read_text(errors='replace')[-800:]}" for path in there)

    def reached(self, name: str, step: int, seconds: float = 600) -> None:
        """Wait until a checkpoint of this step stands."""
        path = self.folder(name).checkpoint(step)
        wait(path.exists, seconds, f"{path} did not come: {self.story(name)}", step=0.05)

    def running(self, name: str, key: str, seconds: float = 600) -> str:
        """Wait until a job runs; its id."""
        job = self.ids(name)[key]
        wait(lambda: self.state(job) == "RUNNING", seconds, f"{key} of {name} did not start")
        return job

    def node(self, job: str) -> str:
        return self.slurm.call("squeue", "-h", "-j", job, "-o", "%N").strip()

    def hurry(self, job: str, seconds: float = 60) -> None:
        """A requeued job waits two minutes by Slurm's own rule; these tests do not."""

        def due() -> bool:
            reason = self.slurm.call("squeue", "-h", "-j", job, "-o", "%T %r", check=False).strip()
            if reason == "PENDING BeginTime":
                self.slurm.call("scontrol", "update", f"jobid={job}", "starttime=now", check=False)
            return reason.startswith("RUNNING")

        wait(due, seconds, f"job {job} did not start again")


@pytest.fixture(scope="session")
def site(slurm):
    """The tiny corpus and the micro base in a workspace of the test cluster."""
    root = slurm.root / "site"
    made = Site(slurm, root)
    made.run("bin/data.py", "--dataset", "tiny", RUNNER="host")
    made.run("bin/model.py", "--model", "micro", RUNNER="host")
    return made


class Campaign:
    """Chains under fault that live side by side: each is begun at once, and waited for by its own test."""

    def __init__(self, drivers: dict, site: Site) -> None:
        self.results: dict[str, object] = {}
        self.threads = {}
        for name, driver in drivers.items():
            # Daemons: where a test fails, the others are not waited for.
            thread = threading.Thread(target=self._drive, args=(name, driver, site), daemon=True)
            self.threads[name] = thread
            thread.start()

    def _drive(self, name: str, driver: object, site: Site) -> None:
        try:
            self.results[name] = driver(site)
        except BaseException as error:
            self.results[name] = error

    def result(self, name: str) -> object:
        self.threads[name].join()
        if isinstance(self.results[name], BaseException):
            raise self.results[name]
        return self.results[name]


@pytest.fixture(scope="session")
def campaign(request, site):
    """Begin the driver of every selected test that has one (`drive_<name>` for `test_<name>`)."""
    drivers = {}
    for item in request.session.items:
        name = item.name.removeprefix("test_")
        if "campaign" in getattr(item, "fixturenames", ()) and hasattr(item.module, f"drive_{name}"):
            drivers[name] = getattr(item.module, f"drive_{name}")
    return Campaign(drivers, site)


@pytest.fixture(scope="session")
def reference(site):
    """sha256 of the final weights of an undisturbed run on this machine."""
    site.run("bin/train.py", "--model", "micro", "--name", "reference", RUNNER="host")
    return weights(site, "reference")


def weights(site: Site, name: str) -> str:
    """The final weights' hash, from the manifest that the average wrote."""
    path = site.folder(name).final / "manifest.json"
    assert path.exists(), f"no final model: {site.story(name)}{site.logs(name)}"
    listed = json.loads(path.read_text())["files"]
    return listed["model.safetensors"]["sha256"]


def pytest_collection_modifyitems(items):
    here = Path(__file__).parent
    for item in items:
        if here in Path(item.path).parents:
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.slurm)
