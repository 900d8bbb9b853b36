"""What a login session brings along: clock, time zone, locale, umask, and who may read .env."""

import locale
import os
import shlex
import shutil
import tempfile
import time
import zoneinfo
from datetime import datetime
from pathlib import Path

from omr import settings
from omr.containers.checks import Check, fix, of_error, ok, warn
from omr.errors import OmrError
from omr.reports.doctor.machine import output
from omr.run import notify
from omr.training import preflight

SKEW, BAD_SKEW = 5.0, 60.0  # seconds: worth a word; what a deadline's shortest margin does not hold


def checks(root: Path) -> list[Check]:
    """All of them; `root` is the workspace."""
    synchronized = output("timedatectl", "show", "--property=NTPSynchronized", "--value")
    return [
        clock(file_clock(root), time.time(), synchronized),
        zone(os.environ.get("TZ")),
        language(),
        umask(),
        env_file(),
    ]


def file_clock(root: Path) -> float | None:
    """The time (seconds since the epoch) by the file system of the workspace; None while it is not there."""
    try:
        with tempfile.NamedTemporaryFile(dir=root, prefix=".clock-") as file:
            return Path(file.name).stat().st_mtime
    except OSError:
        return None


def clock(of_files: float | None, here: float, synchronized: str | None) -> Check:
    """This machine's clock beside that of the workspace's file system.

    `synchronized` is what timedatectl says of it: yes, no, or None where it does not answer.
    """
    skew = abs(of_files - here) if of_files is not None else 0.0
    if skew > SKEW:
        found = f"the workspace's file system is {skew:.0f} s apart from this machine"
        state = fix if skew > BAD_SKEW else warn
        return state("clock", found, "run timedatectl set-ntp true, on the file server too")
    if synchronized == "no":
        return warn("clock", "kept by no time server", "run timedatectl set-ntp true")
    said = "by a time server" if synchronized == "yes" else "nobody says whether a time server keeps it"
    return ok("clock", f"{datetime.fromtimestamp(here):%Y-%m-%d %H:%M:%S}, {said}")


def zone(name: str | None) -> Check:
    """The time zone of logs and of DEADLINE; the C library takes a TZ that it does not know for UTC."""
    if name and name[0] not in ":/" and name.replace("_", "").replace("/", "").isalpha():
        try:
            zoneinfo.ZoneInfo(name)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            advice = "unset TZ, or set it to a name of timedatectl list-timezones"
            return warn("time zone", f"TZ={name} is none, so that times are UTC", advice)
    return ok("time zone", f"{datetime.now().astimezone():%Z, UTC%z}")


def language() -> Check:
    """The locale that the environment names is installed, and its letters are UTF-8's."""
    named = os.environ.get("LC_ALL") or os.environ.get("LC_CTYPE") or os.environ.get("LANG") or "C"
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, "" if named != "C" else "C")
    except locale.Error:
        return warn("locale", f"{named} is not installed", "export LC_ALL=C.UTF-8")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    if named not in ("C", "POSIX") and "utf" not in named.lower():
        return warn("locale", f"{named} writes no UTF-8 in other programs", "export LC_ALL=C.UTF-8")
    return ok("locale", named)


def umask() -> Check:
    """What new files let whom do."""
    mask = os.umask(0o022)
    os.umask(mask)
    found = f"{mask:03o}"
    if mask & 0o700:
        return fix("umask", f"{found} keeps you from your own files", "run umask 022")
    if not mask & 0o002:
        return warn("umask", f"{found} lets everybody write the files that are made", "run umask 022")
    return ok("umask", found)


def env_file() -> Check:
    """A .env with secrets is its owner's alone."""
    path = settings.env_file()
    if not path.exists():
        return ok(".env", "none; .env.example explains what it may say")
    try:
        preflight.secrets_file()
    except OmrError as error:
        return of_error(".env", error)
    return ok(".env", str(path))


def notification() -> Check:
    """Whether NOTIFY could be told when a run ends; its value is a secret, and no row shows it."""
    value = os.environ.get("NOTIFY")
    if not value:
        return ok("NOTIFY", "not set: nobody is told when a run ends")
    if value.startswith(("http://", "https://")):
        if notify.is_safe(value):
            return ok("NOTIFY", "an address")
        return warn("NOTIFY", "an address that anybody between can read along", "write it with https://")
    try:
        program = next(iter(shlex.split(value)), "")
    except ValueError:
        return warn("NOTIFY", "a command whose quotes are not closed", f"correct it in {settings.env_file()}")
    if shutil.which(program) is None:
        return warn("NOTIFY", "a command that is not here", f"correct its path in {settings.env_file()}")
    return ok("NOTIFY", "a command")
