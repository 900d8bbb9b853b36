"""NeMo-RL's keys: which there are, which is meant where one is wrong, and what OVERRIDES says in them."""

import contextlib
import functools
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omr import records
from omr.errors import RequestError, nearest, shown
from omr.run.nemo_rl_version import PINNED_VERSION, NemoRlVersion

Value = Any  # a number, a text, true or false, null, a list
Values = dict[str, Any]  # a configuration as YAML gives it: sections are dictionaries


def flatten(values: Values, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every (`a.b.c`, value); an empty section is a value."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@functools.cache
def known_keys(version: NemoRlVersion = PINNED_VERSION) -> tuple[str, ...]:
    """A NeMo-RL's keys: those of its example, and those that only its code names (`a.b?`)."""
    lines = Path(__file__).with_name(version.keys).read_text().split("\n")
    return tuple(line for line in lines if line and not line.startswith("#"))


def check(values: Values) -> None:
    """A RequestError for the first key that the pinned NeMo-RL does not have, with the nearest one."""
    _check_names(key for key, _ in flatten(values))


def _check_names(names: Iterable[str]) -> None:
    known = [key.rstrip("?") for key in known_keys()]
    exact, open_ended = set(known), tuple(key[:-1] for key in known if key.endswith(".*"))
    for name in names:
        if name in ("defaults", "data._override_") or name in exact or name.startswith(open_ended):
            continue
        if any(key.startswith(name + ".") for key in known):
            raise RequestError(f"NeMo-RL key {shown(name)} is a section; name a key inside it")
        raise RequestError(
            f"{shown(name)} is no key of NeMo-RL{_close(name, known)};"
            " omr/training/nemo_rl/keys.txt lists them all"
        )


def _close(name: str, known: list[str]) -> str:
    """The nearest key: by the whole path, else the one with the same last word."""
    ends = [key for key in known if key.rsplit(".", 1)[-1] == name.rsplit(".", 1)[-1]]
    section = [key for key in ends if key.startswith("policy.megatron_cfg.")] or ends
    return f" (did you mean {section[0]}?)" if section else nearest(name, known)


def parse_overrides(line: str | None) -> list[tuple[str, Any]]:
    """`a.b=1 c.d=x` -> keys and values, as YAML reads them; Hydra's `++` before a key is accepted."""
    try:
        words = shlex.split(line or "")
    except ValueError as error:
        raise RequestError(
            f"OVERRIDES={shown(line or '')} cannot be read ({error}); quote values with spaces"
        ) from None
    found = []
    for word in words:
        key, equals, value = word.lstrip("+").partition("=")
        if not equals or not key or key.startswith("~"):
            raise RequestError(
                f"OVERRIDES: {shown(word)} is not key=value; write a.b=c, several apart by spaces"
            )
        _check_names([key])
        try:
            parsed = records.load_yaml(value) if value else None
        except ValueError:
            raise RequestError(f"OVERRIDES: the value of {shown(word)} is not YAML; quote it") from None
        if isinstance(parsed, str):
            with contextlib.suppress(ValueError):
                parsed = float(parsed)  # YAML 1.1 takes 1e-4 for text
        found.append((key, parsed))
    return found


def get(values: Values, key: str) -> Any:
    """The value at `a.b.c`; a KeyError where there is none."""
    for name in key.split("."):
        values = values[name]
    return values


def put(values: Values, key: str, value: Any) -> None:
    """Set the value at `a.b.c`; a RequestError where `a` or `a.b` has a plain value."""
    *sections, last = key.split(".")
    for name in sections:
        values = values.setdefault(name, {})
        if not isinstance(values, dict):
            raise RequestError(
                f"OVERRIDES: {key} cannot be set, because {name} has a plain value in this run"
            )
    values[last] = value


def unknown_here(values: Values, example: Values) -> list[str]:
    """Keys of `values` that neither an image's own example has nor the code-only part of our list."""
    have = {key for key, _ in flatten(example)}
    code_only = {key.rstrip("?") for key in known_keys() if key.endswith("?")}
    open_ended = tuple(key[:-1] for key in code_only if key.endswith(".*"))
    extra = ("defaults", "data._override_", "data.train", "data.validation", "data.default", *code_only)
    names = (key for key, _ in flatten(values) if not key.startswith(open_ended))
    return [key for key in names if key not in have and key not in extra]
