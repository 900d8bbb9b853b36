"""`make status` where the cluster keeps accounting: a real slurmdbd over a real MariaDB, and a controller
that forgets ended jobs within a minute. What is shown of them then comes from sacct alone.
"""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from omr import recipe
from omr.workspace import Workspace

from . import cluster
from .cluster import Cluster, wait
from .conftest import Site

PROGRAMS = ("slurmdbd", "sacct", "sacctmgr", "mariadbd", "mariadb-install-db", "my_print_defaults")
PACKAGES = "slurmdbd mariadb-server-core mariadb-client-core"
DBD = """\
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
DbdHost=localhost
DbdPort={port}
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
"""
RUN = recipe.run("micro", 1, name="told")


class Accounted(Cluster):
    """A cluster that writes its jobs down, and whose controller keeps an ended one for two seconds."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, nodes=2, cpus=4)
        port = self.spare_port
        conf = root / "slurm.conf"
        text = conf.read_text().replace(
            "AccountingStorageType=accounting_storage/none",
            f"AccountingStorageType=accounting_storage/slurmdbd\nAccountingStorageHost=localhost\n"
            f"AccountingStoragePort={port}\nAccountingStoragePass={root}/munge.socket",
        )
        conf.write_text(text.replace("MinJobAge=600", "MinJobAge=2"))
        (root / "slurmdbd.conf").touch(mode=0o600)  # slurmdbd insists
        (root / "slurmdbd.conf").write_text(DBD.format(root=root, port=port))
        # The database has no port: slurmdbd's client finds its socket by this name.
        self.socket = root / "db.socket"
        self.env["MYSQL_UNIX_PORT"] = str(self.socket)

    def start_controller(self) -> None:
        if "mariadbd" not in self.daemons:
            self.start_accounting()
        super().start_controller()

    def start_accounting(self) -> None:
        data = self.root / "db"
        words = ["--no-defaults", f"--datadir={data}", "--user=root"]
        made = subprocess.run(["mariadb-install-db", *words], capture_output=True, text=True, timeout=120)
        assert made.returncode == 0, made.stdout + made.stderr
        own = ["--skip-networking", f"--socket={self.socket}", f"--pid-file={self.root}/db.pid"]
        self._spawn("mariadbd", "mariadbd", *words, *own)
        wait(self.socket.exists, 30, f"MariaDB did not start; see {self.root}/mariadbd.out")
        self.start_slurmdbd()
        self.call("sacctmgr", "--immediate", "--quiet", "add", "cluster", "test")

    def start_slurmdbd(self) -> None:
        self._spawn("slurmdbd", "slurmdbd", "-D")
        asked = ("sacctmgr", "--noheader", "list", "cluster")
        wait(lambda: self._answers(*asked), 60, f"slurmdbd did not start; see {self.root}/slurmdbd.log", 0.5)

    def _answers(self, *command: str) -> bool:
        return subprocess.run(command, env=self.env, capture_output=True, timeout=60).returncode == 0


@pytest.fixture(scope="module")
def site():
    """The cluster and a workspace; skipped with a reason where they cannot be."""
    if lack := cluster.missing():
        pytest.skip(lack)
    if absent := [name for name in PROGRAMS if not shutil.which(name)]:
        pytest.skip(f"{', '.join(absent)} not installed (Debian: {PACKAGES})")
    with tempfile.TemporaryDirectory(prefix="omr-acct-", ignore_cleanup_errors=True) as folder:
        running = Accounted(Path(folder) / "s")
        try:
            running.start()
            yield Site(running, Path(folder) / "w")
        finally:
            running.stop()


def submit(site, key, body, *words):
    """A job with this body; its entry in jobs.json."""
    command = ["sbatch", "--parsable", f"--job-name=omr-{key}", "--output=/dev/null", "--time=5", *words]
    return {"key": key, "id": site.slurm.call(*command, f"--wrap={body}").strip()}


def shown(site):
    """key -> (state, note) of what `make status` says."""
    said = site.run("bin/status.py", "--model", RUN.model.name, "--name", RUN.name, "--json").stdout
    return {row["key"]: (row["state"], row["note"]) for row in json.loads(said)[0]["rows"]}


def forgotten(site, ids):
    """Does the controller remember none of them?"""
    known = site.slurm.call("squeue", "-h", "-t", "all", "-o", "%A").split()
    return not set(ids) & set(known)


def test_what_the_controller_forgot_is_told_by_accounting(site):
    good = submit(site, "train-1", "true")
    bad = submit(site, "train-2", "exit 3", f"--dependency=afterany:{good['id']}")
    late = submit(site, "train-3", "sleep 300")
    ended = submit(site, "train-4", "sleep 300")
    array = submit(site, "convert", "exit $((SLURM_ARRAY_TASK_ID == 1))", "--array=0-2")
    never = submit(site, "average", "true", f"--dependency=afterok:{array['id']}")
    waiting = submit(site, "eval", "true", f"--dependency=afterok:{never['id']}")
    jobs = [good, bad, late, ended, array, never, waiting]
    folder = Workspace(site.root).run(RUN)
    folder.root.mkdir(parents=True)
    folder.jobs_json.write_text(json.dumps({"chain": "c", "submitted": "now", "jobs": jobs}))

    for job in (late, ended):
        wait(lambda job=job: site.state(job["id"]) == "RUNNING", 60, "the job did not start")
    site.slurm.call("scancel", ended["id"])
    # A limit is counted in minutes; its end may be moved.
    site.slurm.call("scontrol", "update", f"jobid={late['id']}", "endtime=now+1")
    reason = ("squeue", "-h", "-j", never["id"], "-o", "%r")
    unmet = "DependencyNeverSatisfied"  # Slurm finds that out in its own time
    wait(lambda: site.slurm.call(*reason).strip() == unmet, 60, "the average job did not wait in vain")
    site.slurm.call("scancel", never["id"], waiting["id"])
    ids = [job["id"] for job in jobs]
    wait(lambda: forgotten(site, ids), 150, "the controller did not forget", 1)

    told = {
        "train-1": ("COMPLETED", ""),
        "train-2": ("FAILED", "exit code 3"),
        "train-3": ("TIMEOUT", ""),
        "train-4": ("CANCELLED", ""),
        "convert": ("FAILED", "exit code 1"),
        "eval": ("CANCELLED", "Dependency"),
    }
    found = shown(site)
    # The database may have heard of the reason before Slurm found out that it never ends.
    assert found.pop("average") in [("CANCELLED", "Dependency"), ("CANCELLED", "DependencyNeverSatisfied")]
    assert found == told
    # Without its answer what the run left behind is all that is known, which is nothing here.
    site.slurm.kill("slurmdbd")
    try:
        assert set(shown(site).values()) == {("ENDED", "")}
    finally:
        site.slurm.start_slurmdbd()


def test_the_doctor_knows_accounts_and_qualities_of_service(site):
    """As sacctmgr really writes them."""

    def rows(**environ):
        words = {"FOR": "data", "DATASET": "tiny", "JSON": "1", "ACCOUNT": "team", "QOS": "normal"}
        done = site.run("bin/doctor.py", check=False, **{**words, **environ})
        return {each["name"]: (each["state"], each["found"]) for each in json.loads(done.stdout)}

    def add(*words):
        site.slurm.call("sacctmgr", "--immediate", "--quiet", "add", *words)

    add("account", "team")
    add("qos", "short", "MaxWall=0:10:00", "MaxTRESPerJob=node=1", "MaxSubmitJobsPerUser=1")
    add("user", "root", "account=team", "qos=normal,short")
    found = rows()
    assert found["account"] == ("ok", "team") and found["qos"] == ("ok", "normal")
    assert found["limits"] == ("ok", "account team and QOS normal allows 1 jobs of this size")
    assert rows(ACCOUNT="taem")["account"][1].startswith("ACCOUNT=taem is none of yours (")
    assert rows(QOS="shrot")["qos"] == ("fix", "there is no QOS=shrot (did you mean short?)")
    assert rows(QOS="short", TIME="30")["limits"] == ("fix", "QOS short allows 0:10:00")
    assert rows(QOS="short", SHARDS="4")["limits"] == (
        "fix",
        "QOS short allows 1 jobs at a time, these are 6",
    )
