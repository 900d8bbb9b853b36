"""NOTIFY: a person's own command or webhook is told once when a run ends; whatever it does, no run is harmed.

The value is a secret: whoever has a webhook's address may write there. It is never printed, and no shell
reads it.
"""

import ipaddress
import json
import os
import re
import shlex
import signal
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from http.client import HTTPMessage
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from omr import settings
from omr.errors import OmrError
from omr.run.events import log_event
from omr.workspace import RunFolder

PATIENCE = 10.0  # seconds that a command or a server has


def tell(folder: RunFolder, title: str, text: str, where: Path, ending: str | None = None) -> None:
    """Tell NOTIFY, if it is set, a title, one line, and the path to look at.

    Of several calls with the same `ending` (a chain's name) only the first tells, whichever process makes it.
    What goes wrong is a line of the run's event log.
    """
    value = os.environ.get("NOTIFY")
    if not value or (ending and not _first(folder.root / f".told-{ending}")):
        return
    try:
        fault = _send(value, title, text, str(where))
    except Exception as error:  # a notifier may fail in any way, and the run has ended well all the same
        fault = type(error).__name__
    if fault:
        log_event(folder, f"NOTIFY was not told that {title}: {fault}")


def _first(marker: Path) -> bool:
    """Whether nobody has made this file before; where it cannot be made, rather told twice than never."""
    try:
        os.close(os.open(marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def _send(value: str, title: str, text: str, where: str) -> str | None:
    """Why it was not told; None if it was."""
    if value.startswith(("http://", "https://")):
        return _post(value, {"title": title, "text": text, "path": where})
    return _run(value, {"OMR_TITLE": title, "OMR_TEXT": text, "OMR_PATH": where})


def _run(command: str, words: dict[str, str]) -> str | None:
    """Run the command with the words behind it and in its environment; its exit code is its own matter."""
    try:
        argv = [*shlex.split(command), *words.values()]
    except ValueError:
        return "its quotes are not closed; correct it in .env"
    environ = {name: value for name, value in os.environ.items() if not _tells(name, value)}
    beside = settings.env_file().absolute().parent  # where a relative command lies; a job stands elsewhere
    try:
        child = subprocess.Popen(
            argv,
            env=environ | words,
            cwd=beside if beside.is_dir() else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return f"its command does not start ({error.strerror})"
    try:
        child.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # with all that it started
        child.wait()
        return f"its command did not end in {PATIENCE:g} s"
    return None


def _tells(name: str, value: str) -> bool:
    """Whether a variable is a secret, or an address with a password (a package index's, a proxy's)."""
    return settings.is_secret(name) or bool(re.search(r"//[^/@\s]*:[^/@\s]*@", value))


def _post(url: str, words: dict[str, str]) -> str | None:
    """One POST of JSON; a name that is not found, or a server that says nothing, costs PATIENCE at most."""
    if not is_safe(url):
        return "it is no https:// address; correct it in .env"
    faults: list[str | None] = []
    thread = threading.Thread(target=lambda: faults.append(_answer(url, words)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return faults[0] if faults else f"its server did not answer in {PATIENCE:g} s"


def is_safe(url: str) -> bool:
    """Whether nobody between can read along: https, or http to this very machine."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.hostname == "localhost" or ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would lead the message to an address that nobody has written down."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return None


def _answer(url: str, words: dict[str, str]) -> str | None:
    """The answer, as a fault; None for a good one."""
    body, headers = json.dumps(words).encode(), {"Content-Type": "application/json", "User-Agent": "omr"}
    try:
        trusted = ssl.create_default_context()
        if extra := settings.get("CA_BUNDLE"):
            trusted.load_verify_locations(Path(extra).expanduser())
        opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=trusted))
        request = urllib.request.Request(url, body, headers, method="POST")
        with opener.open(request, timeout=2 * PATIENCE):
            return None
    except urllib.error.HTTPError as error:
        return f"its server answered {error.code}"
    except urllib.error.URLError as error:
        reason = error.reason.__class__.__name__ if isinstance(error.reason, Exception) else "no connection"
        return f"its server cannot be reached ({reason})"
    except (OSError, ValueError, OmrError) as error:
        return f"its server cannot be reached ({type(error).__name__})"
