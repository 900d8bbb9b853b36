"""Records on disk as typed values: JSON and YAML of bounded size, each value of the kind that it should be.

A record may be damaged, of an older version, or written by somebody else: whatever it holds, its reader gets
what it asks for or one line of error.
"""

import dataclasses
import functools
import math
import os
import stat
import types
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from omr.errors import OmrError, shown

MOST_BYTES = 64 << 20  # of a record; the largest, a tokenizer.json, has some 10 MB
MOST_VALUES = 1_000_000  # of a YAML file, each counted where it is named again: `&a [*b, *b]` doubles
Kind = TypeVar("Kind")


class Odd(ValueError):
    """A value that is not of its kind; says where it stands and what it is."""


def read_text(path: Path) -> str:
    """A record's text. A ValueError for what is no file, has over MOST_BYTES, or is no UTF-8."""
    # A pipe in a file's place would wait for a writer for ever, and a device never ends.
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("no plain file")
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as handle:
        data = handle.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"over {MOST_BYTES >> 20} MiB")
    return data.decode("utf-8")


def load_yaml(text: str) -> Any:
    """The value of a YAML text, by its safe tags alone; a ValueError for what is none, or has no end."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, OverflowError, TypeError, AttributeError, IndexError) as error:
        # Beside its own errors the library lets those of Python through, for `!!timestamp x` and the like.
        raise ValueError(f"no YAML: {shown(' '.join(str(error).split()))}") from None
    left, count = [value], 0
    while left:
        one = left.pop()
        count += 1
        if count > MOST_VALUES:
            raise ValueError("it names its own values again and again")
        left += [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list) else []
    return value


def inside(name: str) -> str:
    """The name of a file of a folder or below it; Odd for one that leads out of it."""
    parts = name.split("/")
    if "\0" in name or not name.isprintable() or ".." in parts or "" in parts or max(map(len, parts)) > 255:
        raise Odd(f"{name!r} is no file of its folder")
    return name


def read_yaml(path: Path, remedy: str) -> dict[str, Any]:
    """The table of a YAML file, its keys texts; an OmrError names the file, and `remedy` what to do."""
    with checked(path, remedy):
        return of(dict[str, Any], load_yaml(read_text(path)))


@contextmanager
def checked(path: Path, remedy: str) -> Iterator[None]:
    """Turn what goes wrong with a record's content into an OmrError that names its file; `remedy` ends it."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        told = f"has no {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__
        raise OmrError(f"{path}: is damaged ({shown(told)}); {remedy}") from None


def of(kind: type[Kind], value: Any, where: str = "it") -> Kind:
    """A value of JSON or YAML as a `kind`: a dataclass, a TypedDict, or what their fields are made of.

    Lists become tuples where that is the kind, a whole number a float, a text a Path; nothing else is
    converted. Odd for another value, for a key that the kind does not have, and for one that it lacks.
    """
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _one_of(parts, value, where)
    if dataclasses.is_dataclass(kind):
        return kind(**_fields(kind, value, where))
    if typing.is_typeddict(kind):
        return _fields(kind, value, where)
    if origin is dict and _is(value, dict, where, "a table"):
        return {of(parts[0], key, where): of(parts[1], one, f"{where}.{key}") for key, one in value.items()}
    if origin in (list, tuple) and _is(value, list, where, "a list"):
        kinds = parts[:1] * len(value) if origin is list or parts[1:] == (...,) else parts
        if len(kinds) != len(value):
            raise Odd(f"{where} has {len(value)} values of {len(kinds)}")
        return origin(
            of(one, item, f"{where}.{n}") for n, (one, item) in enumerate(zip(kinds, value, strict=True))
        )
    return _plain(kind, value, where)


def _plain(kind: type, value: Any, where: str) -> Any:
    """A text, a number, true or false, or nothing. A Path is no part of a text that ends at its NUL."""
    if kind is float and type(value) is int and abs(value) < 2**63:
        value = float(value)
    if kind in (str, Path) and isinstance(value, str):
        value.encode()  # half of a surrogate pair is a ValueError
        if kind is Path and "\0" in value:
            raise Odd(f"{where} has a NUL")
        return kind(value)
    if (type(value) is not kind) or (kind is float and not math.isfinite(value)):
        raise Odd(f"{where} is {value!r}, no {kind.__name__}")
    return value


def _one_of(kinds: tuple[type, ...], value: Any, where: str) -> Any:
    """The first of the kinds that the value is."""
    fault = Odd(f"{where} is {value!r}")
    for kind in kinds:
        try:
            return of(kind, value, where)
        except Odd as odd:
            fault = odd
    raise fault


def _fields(kind: type, value: Any, where: str) -> dict[str, Any]:
    """The fields of a dataclass or a TypedDict, each of its own kind."""
    _is(value, dict, where, "a table")
    kinds, needed = _kinds(kind)
    if extra := [key for key in value if key not in kinds]:
        raise Odd(f"{where} has {extra[0]!r}, which is unknown")
    if missing := [key for key in needed if key not in value]:
        raise Odd(f"{where} has no {missing[0]}")
    return {key: of(kinds[key], one, f"{where}.{key}") for key, one in value.items()}


@functools.cache
def _kinds(kind: type) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The kind of each field, and the fields without a default."""
    if typing.is_typeddict(kind):
        return typing.get_type_hints(kind), tuple(kind.__required_keys__)
    none = dataclasses.MISSING
    fields = [each for each in dataclasses.fields(kind) if each.init]
    needed = [each.name for each in fields if each.default is none and each.default_factory is none]
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields}, tuple(needed)


def _is(value: Any, kind: type, where: str, called: str) -> bool:
    if not isinstance(value, kind):
        raise Odd(f"{where} is {value!r}, not {called}")
    return True
