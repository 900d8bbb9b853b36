"""The settings of a command and of this machine: command line, then environment, then .env, then default.

`table.SETTINGS` has a row for each, `setting` says what one is. `python -m omr.settings exec COMMAND…`
becomes COMMAND with .env in its environment, for docker/entry.sh.
"""

import io
import os
import socket
from collections.abc import MutableMapping
from pathlib import Path

from omr.errors import RequestError, nearest
from omr.settings.setting import ON
from omr.settings.table import FOREIGN, FOREIGN_NAMES, SETTINGS

ROOT = Path(__file__).resolve().parents[2]
IMAGE_ENV = Path("/opt/omr/image.env")  # written by the Dockerfile; the code may stand elsewhere, mounted


def env_file(environ: MutableMapping[str, str] = os.environ) -> Path:
    """The file of machine facts: .env of the repository, or what OMR_ENV_FILE names."""
    return Path(environ.get("OMR_ENV_FILE") or ROOT / ".env")


def venv() -> Path:
    """The Python environment of the stages: .venv of the repository, or what OMR_VENV names."""
    return Path(os.environ.get("OMR_VENV") or ROOT / ".venv").absolute()


def read(path: Path) -> dict[str, str]:
    """Parse a .env file with python-dotenv's grammar, nothing interpolated.

    Its parser rather than its `dotenv_values`, which passes over what is wrong and knows no line numbers:
    a line that does not parse, a key without a value, a key set twice or unknown, a value that its setting
    cannot have: a RequestError that names file and line.
    """
    from dotenv.parser import parse_stream

    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}; make it readable or remove it") from None
    for binding in parse_stream(io.StringIO(text)):
        # The parser counts blank lines before a binding as part of it.
        string = binding.original.string
        line = binding.original.line + string[: len(string) - len(string.lstrip())].count("\n")
        where = f"{path}:{line}"
        if binding.error or (binding.key is not None and binding.value is None):
            raise RequestError(f"{where}: is not NAME=value; quote a value with spaces or #, comment with #")
        if binding.key is None:
            continue
        known = binding.key in SETTINGS or binding.key in FOREIGN_NAMES or binding.key.startswith(FOREIGN)
        if not known:
            raise RequestError(
                f"{where}: {binding.key} is no setting{nearest(binding.key.upper(), SETTINGS)};"
                " .env.example has them all"
            )
        if binding.key in values:
            first = lines[binding.key]
            raise RequestError(f"{where}: {binding.key} is set already in line {first}; keep one")
        if "\0" in binding.value:
            raise RequestError(f"{where}: the value of {binding.key} has a NUL byte; remove it")
        if binding.value and binding.key in SETTINGS:
            SETTINGS[binding.key].check(binding.value, f"{where}: ")
        values[binding.key], lines[binding.key] = binding.value, line
    return values


def load(environ: MutableMapping[str, str] = os.environ) -> None:
    """Put what .env says into the environment where the caller has not said otherwise.

    In a container a value that is merely the image's own ENV does not count as set: .env wins over it.
    """
    if "WSL_DISTRO_NAME" in environ and environ.get("NAME") == socket.gethostname():
        del environ["NAME"]  # WSL sets it to the host's name; it names no run
    path = env_file(environ)
    if path.exists():
        own = image_environment()
        for name, value in read(path).items():
            if name not in environ or environ[name] == own.get(name):
                environ[name] = value


def image_environment() -> dict[str, str]:
    """The ENV of the image that this code runs in, as its build wrote it down; empty on a host."""
    lines = IMAGE_ENV.read_text().splitlines() if IMAGE_ENV.exists() else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def get(name: str) -> str | None:
    """A setting's value after `load`: what is set, else its default; empty counts as unset.

    A RequestError for a value that the setting cannot have.
    """
    value = os.environ.get(name)
    if value:
        SETTINGS[name].check(value)
    return value or SETTINGS[name].default


def on(name: str) -> bool:
    """Whether a switch such as VERIFY is on, by the words that click takes for one; unset is off.

    Any other word is a RequestError.
    """
    return (get(name) or "0").strip().lower() in ON


def spellings(name: str) -> list[str]:
    """The options of a script that set a documented setting: `--dry_run` and `--dry-run`."""
    word = name.lower()
    return list(dict.fromkeys([f"--{word}", f"--{word.replace('_', '-')}"]))


def number(name: str) -> int | None:
    """The value of a number such as NODES, None where it is unset; a RequestError for what is none."""
    value = get(name)
    return None if value is None else SETTINGS[name].number(value)


def paths(role: str) -> list[str]:
    """Names of the settings that hold a path of this role: input or output."""
    return [s.name for s in SETTINGS.values() if s.path == role]


def secrets() -> list[str]:
    """Names of the secrets that are set; values travel by name alone."""
    return [s.name for s in SETTINGS.values() if s.secret and os.environ.get(s.name)]


def is_secret(name: str) -> bool:
    """Whether a variable's value stays out of argv, scripts and logs; foreign ones are known by name."""
    setting = SETTINGS.get(name)
    if setting is not None:
        return setting.secret
    return any(word in name.upper() for word in ("TOKEN", "KEY", "SECRET", "PASSWORD"))


def pins() -> dict[str, str]:
    """docker/pins.env: versions and revisions that are not recipe numbers."""
    lines = (ROOT / "docker" / "pins.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
