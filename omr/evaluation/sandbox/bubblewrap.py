"""The command line of bubblewrap that isolates a model's code, and whether it works here.

The code sees the system's programs and libraries, the Python that runs this with its packages, all read-only,
and an empty temporary folder; no network, no other process, no variable of the environment. bwrap(1) explains
the options.
"""

import dataclasses
import itertools
import json
import os
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from omr import settings
from omr.errors import RequestError
from omr.evaluation.sandbox.limits import Limits

PROGRAM = "bwrap"
WORKER = Path(__file__).with_name("worker.py")
INSIDE = "/run/worker.py"  # where the sandbox has it
SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin")
OF_ETC = ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")
# The benchmarks' expected answers are among its files.
HIDDEN_PACKAGES = ("nemo_skills",)
FIRST_UID = 2_000_000_000  # above those that systems give to users, or map for containers
NAMESPACES = ("ipc", "pid", "net", "uts", "cgroup-try")
# A user's bubblewrap makes a namespace of users, in which the kernel counts processes apart, and forbids a
# further one in it where it can. Root's needs none: worker.py becomes another user, since the kernel does not
# limit the number of root's processes. Where root has to go the user's way, its capabilities stay outside.
USER = ("--unshare-user", "--uid", "1000", "--gid", "1000", "--cap-drop", "ALL")
AS_USER = ((*USER, "--disable-userns"), USER)
AS_ROOT = ("--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")
# What root may write in /proc even without capabilities.
OF_PROC = ("/proc/sys", "/proc/irq", "/proc/bus", "/proc/sysrq-trigger")
_uids = itertools.count(os.getpid() % 100_000 * 1_000)


def options(limits: Limits, ways: Sequence[tuple[str, ...]] = ()) -> tuple[str, ...]:
    """How this user can isolate here; a RequestError that says why where nothing works.

    Each way is tried with the very command line that an evaluation uses. `ways`: those alone.
    """
    reason = ""
    for way in ways or (*((AS_ROOT,) if os.geteuid() == 0 else ()), *AS_USER):
        try:
            line = command(way, limits)
            done = subprocess.run(
                line, env=environment(), input=b"", capture_output=True, timeout=120, start_new_session=True
            )
        except FileNotFoundError:
            raise RequestError(
                "bubblewrap (bwrap) is not installed, and a model's code runs in nothing less;"
                " install the package bubblewrap, or set SANDBOX=none to run it unprotected"
            ) from None
        except subprocess.TimeoutExpired:
            reason = "it did not start within 120 s"
            continue
        if b'"ready"' in done.stdout:
            return way
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit {done.returncode}"
    raise RequestError(
        f"a model's code cannot be isolated here ({reason}); let bubblewrap make user namespaces"
        " (docs/evaluation.md), or set SANDBOX=none to run it unprotected"
    )


def command(way: tuple[str, ...], limits: Limits) -> list[str]:
    """The whole command line of one sandbox."""
    uid = FIRST_UID + next(_uids) % 100_000_000 if way == AS_ROOT else None
    return [
        *(PROGRAM, *way, *(f"--unshare-{name}" for name in NAMESPACES)),
        *("--as-pid-1", "--die-with-parent", "--new-session"),
        *_system(),
        *("--proc", "/proc", *(word for name in OF_PROC for word in ("--ro-bind-try", name, name))),
        *("--dev", "/dev", *_folder("/dev/shm", limits), *_folder("/tmp", limits)),
        *_python(),  # it may lie below /tmp
        *("--ro-bind", str(WORKER), INSIDE, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"),
        *(str(interpreter()), "-P", INSIDE, arguments(limits, uid)),
    ]


def environment() -> dict[str, str]:
    """The environment of bubblewrap and of all in it: nothing of the caller's."""
    return {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "TMPDIR": "/tmp",
        "LANG": "C.UTF-8",
        **python_environment(),
    }


def python_environment() -> dict[str, str]:
    """What makes the bare interpreter see this environment's packages, and give the same output each time."""
    return {
        "PYTHONPATH": os.pathsep.join(map(str, packages())),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",  # of the order of sets
        # A thread a core would meet the limit of processes.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def arguments(limits: Limits, uid: int | None = None) -> str:
    """worker.py's one argument."""
    return json.dumps({"uid": uid, "limits": dataclasses.asdict(limits)})


def interpreter() -> Path:
    """The interpreter itself: a virtual environment's is a link to it, through folders that are not seen."""
    return Path(sys.executable).resolve()


def packages() -> list[Path]:
    """The folders of packages that this interpreter uses, a virtual environment's first."""
    return [folder for folder in map(Path, site.getsitepackages()) if folder.is_dir()]


def _system() -> Iterator[str]:
    """The system's own folders, with what of ours lies in them covered."""
    for name in SYSTEM:
        if Path(name).is_symlink():
            yield from ("--symlink", str(Path(name).readlink()), name)
        elif Path(name).is_dir():
            yield from ("--ro-bind", name, name)
    for name in OF_ETC:
        yield from ("--ro-bind-try", name, name)
    ours = (settings.ROOT, Path(settings.get("WORKSPACE")).absolute(), Path.home())
    for folder in ours:
        if str(folder) not in SYSTEM and _is_of_the_system(folder) and folder.is_dir():
            yield from _covered(folder)


def _python() -> Iterator[str]:
    """The interpreter and its packages, wherever they are: these folders alone, none above them."""
    base = interpreter().parents[1]
    libraries = [base / name for name in ("lib", "lib64") if (base / name).is_dir()]
    found = dict.fromkeys([interpreter(), *libraries, Path(sysconfig.get_path("stdlib")), *packages()])
    above = {parent for path in found for parent in path.parents if not _is_of_the_system(parent)}
    for folder in sorted(above - {Path("/")}):  # made for root alone, if they are not made here
        yield from ("--perms", "0755", "--dir", str(folder))
    for path in found:
        yield from ("--ro-bind", str(path), str(path))
    for folder in packages():
        for name in HIDDEN_PACKAGES:
            if (folder / name).is_dir():
                yield from _covered(folder / name)


def _is_of_the_system(path: Path) -> bool:
    return any(path.is_relative_to(name) for name in SYSTEM)


def _covered(folder: Path) -> Iterator[str]:
    """An empty folder in the place of another."""
    yield from ("--size", "4096", "--tmpfs", str(folder), "--remount-ro", str(folder))


def _folder(name: str, limits: Limits) -> Iterator[str]:
    """A folder in memory that anybody may write, of limited size."""
    yield from ("--perms", "1777", "--size", str(limits.file_megabytes * 1_000_000), "--tmpfs", name)
