"""A real Slurm on this machine: munge, slurmctld and several slurmd, with ports and folders of its own."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
CONF = """\
ClusterName=test
SlurmctldHost=localhost
SlurmctldPort={ctld_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
CredType=cred/munge
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,sched_min_interval=0,bf_interval=2
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/none
MpiDefault=none
SwitchType=switch/none
KillWait=5
MinJobAge=600
SlurmctldTimeout=5
SlurmdTimeout={slurmd_timeout}
ReturnToService=2
MessageTimeout=10
TreeWidth=65533
NodeName=DEFAULT CPUs={cpus} Gres=gpu:2 State=UNKNOWN
NodeName=n[1-{nodes}] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first_port}-{last_port}]
GresTypes=gpu
PartitionName=main Nodes=ALL Default=YES MaxTime=60 DefaultTime=10 State=UP OverSubscribe=NO
"""


def missing() -> str:
    """What this machine lacks for a Slurm, or an empty string."""
    absent = [name for name in PROGRAMS if not shutil.which(name)]
    if absent:
        return f"{', '.join(absent)} not installed (Debian: slurm-wlm munge)"
    return "" if os.geteuid() == 0 else "starting Slurm's daemons needs root"


class Cluster:
    """Started by `start`, ended by `stop`; every daemon is a child of this process, ended by its id."""

    def __init__(self, root: Path, nodes: int = 4, cpus: int = 4, slurmd_timeout: int = 10) -> None:
        self.root, self.nodes = root, [f"n{i + 1}" for i in range(nodes)]
        *ports, self.spare_port = free_ports(nodes + 2)
        self.env = {**os.environ, "SLURM_CONF": str(root / "slurm.conf")}
        self.daemons: dict[str, subprocess.Popen] = {}
        # Counted, not looked at: the GPUs of these nodes are a number.
        (root / "gres.conf").parent.mkdir(parents=True, exist_ok=True)
        for i in range(2):
            (root / f"gpu{i}").touch()
        (root / "gres.conf").write_text(f"Name=gpu File={root}/gpu[0-1]\n")
        for folder in ("state", *(f"spool.{name}" for name in self.nodes)):
            (root / folder).mkdir(parents=True)
        root.chmod(0o755)
        (root / "slurm.conf").write_text(
            CONF.format(
                root=root,
                nodes=nodes,
                host=socket.gethostname().split(".")[0],
                ctld_port=ports[-1],
                first_port=ports[0],
                last_port=ports[nodes - 1],
                cpus=cpus,
                slurmd_timeout=slurmd_timeout,
            )
        )

    def start(self) -> None:
        """All daemons, and wait until every node is idle; nothing is left running where that fails."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        key = self.root / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        paths = {"key-file": key}
        for word in ("socket", "pid-file", "log-file", "seed-file"):
            paths[word] = self.root / f"munge.{word.split('-')[0]}"
        self._spawn("munged", "munged", "--foreground", "--force", *(f"--{w}={p}" for w, p in paths.items()))
        wait(lambda: (self.root / "munge.socket").exists(), 10, "munged did not start")
        self.start_controller()
        for name in self.nodes:
            self.start_node(name)
        wait(lambda: self.states() == {"idle"}, 30, f"nodes did not come up; see {self.root}/*.log")

    def start_controller(self) -> None:
        self._spawn("slurmctld", "slurmctld", "-D")

    def start_node(self, name: str) -> None:
        self._spawn(name, "slurmd", "-D", "-N", name)

    def kill(self, daemon: str) -> None:
        """SIGKILL one daemon: its jobs' scripts go on as orphans."""
        self.daemons[daemon].kill()
        self.daemons[daemon].wait()

    def restart_controller(self) -> None:
        self.daemons["slurmctld"].terminate()
        self.daemons["slurmctld"].wait(20)
        self.start_controller()

    def states(self) -> set[str]:
        """The states of the nodes."""
        return set(self.call("sinfo", "-h", "-o", "%t", check=False).split())

    def call(self, *command: str, check: bool = True) -> str:
        """Output of a Slurm command."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout

    def stop(self) -> None:
        """End jobs, then daemons, then what jobs left behind (orphans of a killed slurmd)."""
        if "slurmctld" in self.daemons:  # else its commands would wait for it
            self.call("scancel", "--quiet", "--user=root", check=False)
            deadline = time.monotonic() + 15
            while self.call("squeue", "-h", check=False).strip() and time.monotonic() < deadline:
                time.sleep(0.2)
        for daemon in reversed(self.daemons.values()):
            if daemon.poll() is None:
                daemon.send_signal(signal.SIGTERM)
        for daemon in self.daemons.values():
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for process in self.ours():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def ours(self, *marks: str) -> list[int]:
        """Processes that run under this cluster's configuration, with these words in their environment."""
        wanted = {f"SLURM_CONF={self.root}/slurm.conf".encode(), *(mark.encode() for mark in marks)}
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                process = int(path.parent.name)
                if process != os.getpid() and wanted <= set(path.read_bytes().split(b"\0")):
                    found.append(process)
        return found

    def of_job(self, job: str, start: int = 0) -> list[int]:
        """The processes of one start of a job: its script, its steps, what runs in them."""
        restart = {f"SLURM_RESTART_COUNT={start}"} if start else set()
        found = self.ours(f"SLURM_JOB_ID={job}", *restart)
        if start:
            return found
        later = {p for p in found for e in [Path(f"/proc/{p}/environ")] if _has(e, b"SLURM_RESTART_COUNT=")}
        return [p for p in found if p not in later]

    def _spawn(self, name: str, *command: str) -> None:
        with (self.root / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                command,
                env=self.env,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )


def _has(path: Path, word: bytes) -> bool:
    with contextlib.suppress(OSError):
        return word in path.read_bytes()
    return False


def free_ports(count: int) -> list[int]:
    """A run of free ports: Slurm wants its nodes' in a row."""
    for first in range(21_000, 30_000, 100):
        sockets = []
        try:
            for port in range(first, first + count):
                handle = socket.socket()
                sockets.append(handle)
                handle.bind(("127.0.0.1", port))
            return list(range(first, first + count))
        except OSError:
            continue
        finally:
            for handle in sockets:
                handle.close()
    raise AssertionError("no free ports")


def wait(condition, seconds: float, what: str, step: float = 0.2):
    """Poll until `condition` gives something true, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(step)
    raise AssertionError(f"{what} (waited {seconds:.0f} s)")
