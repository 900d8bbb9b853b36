"""A table of a recipe file, whose values are taken by name and kind; a wrong one is a Fault at its place."""

import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from omr.errors import listing, nearest, shown

Path = tuple[str, ...]  # the names of the tables down to a key
KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", list: "a list"}


class Fault(Exception):
    """What is wrong at a key of a recipe, and what to write instead."""

    def __init__(self, path: Sequence[str], what: str) -> None:
        super().__init__(what)
        self.path = tuple(path)


class Table:
    """A table of the file, at its path; it has no key beside `known`."""

    def __init__(self, path: Path, values: Any, known: Collection[str] | None) -> None:
        if not isinstance(values, dict):
            raise Fault(path, f"is {_kind(values)}; write a table of {listing(known or ['names'], 'and')}")
        self.path, self.values = path, values
        for key in values if known is not None else ():
            if key not in known:
                raise Fault((*path, key), f"is unknown{nearest(key, known) or f'; choose {listing(known)}'}")

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def fault(self, key: str, what: str) -> Fault:
        """What is wrong with a key's value."""
        return Fault((*self.path, key), what)

    def _take(self, key: str, kind: type, default: Any) -> Any:
        if key not in self.values:
            if default is not ...:
                return default
            raise Fault(self.path, f"has no {key}; add {key} = … ({KINDS[kind]})")
        value = self.values[key]
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise self.fault(key, f"is {_kind(value)}; write {KINDS[kind]}")
        return value

    def text(self, key: str, default: Any = ..., form: str | None = None, like: str = "") -> str:
        """A text that is not empty, of the regular expression `form`, which `like` shows."""
        value = self._take(key, str, default)
        if isinstance(value, str) and key in self.values:
            self._check_text(key, value)
            if form and not re.fullmatch(form, value):
                raise self.fault(key, f"is {shown(value)!r}; write {like}")
        return value

    def _check_text(self, key: str, value: str) -> None:
        if not value.strip():
            raise self.fault(key, "is empty; write a text, or leave it out")
        if not value.isprintable():
            raise self.fault(key, f"has a character that cannot be seen ({value!a}); type it again")

    def choice(self, key: str, choices: Collection[str], default: Any = ...) -> str:
        """One of some words."""
        value = self.text(key, default)
        if value is not None and value not in choices:
            raise self.fault(key, f"is {shown(value)!r}{nearest(value, choices)}; choose {listing(choices)}")
        return value

    def whole(self, key: str, least: int = 1, default: Any = ...) -> int:
        """A whole number from `least` up."""
        value = self._take(key, int, default)
        if value is not None and value < least:
            raise self.fault(key, f"is {value}; write a whole number from {least} up")
        return value

    def number(
        self, key: str, above: float | None = 0, most: float | None = None, default: Any = ...
    ) -> float:
        """A number above `above`, and at most `most`."""
        value = self._take(key, float, default)
        if value is None or value is default:
            return value
        low = above is not None and not value > above
        if low or (most is not None and not value <= most) or value != value or value in (INF, -INF):
            limits = [f"above {above:g}"] * (above is not None) + [f"at most {most:g}"] * (most is not None)
            raise self.fault(key, f"is {value:g}; write a number {' and '.join(limits) or 'that is finite'}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """true or false."""
        return self._take(key, bool, default)

    def texts(self, key: str, choices: Collection[str] | None = None, default: Any = ...) -> tuple[str, ...]:
        """A list of texts, each once, and one of `choices` where there are some."""
        values = self._take(key, list, default)
        for value in values:
            if type(value) is not str:
                raise self.fault(key, f"has {_kind(value)} in its list; write texts alone")
            if values.count(value) > 1:
                raise self.fault(key, f"has {shown(value)!r} twice; keep one")
            if choices is not None and value not in choices:
                raise self.fault(
                    key, f"has {shown(value)!r}{nearest(value, choices)}; choose {listing(choices)}"
                )
        return tuple(values)

    def wholes(self, key: str, default: Any = ...) -> tuple[int, ...]:
        """A list of whole numbers from 1 up."""
        values = self._take(key, list, default)
        if bad := [value for value in values if type(value) is not int or value < 1]:
            raise self.fault(key, f"has {bad[0]!r} in its list; write whole numbers from 1 up")
        return tuple(values)

    def table(self, key: str, known: Collection[str] | None, default: Any = ...) -> "Table":
        """A table within this one."""
        if key not in self.values:
            if default is not ...:
                return Table((*self.path, key), default, known)
            raise Fault(self.path, f"has no table {key}; add {'.'.join((*self.path, key))}")
        return Table((*self.path, key), self.values[key], known)

    def tables(self, known: Collection[str]) -> "Iterator[tuple[str, Table]]":
        """The tables within this one, by their names."""
        for name in self.values:
            yield name, self.table(name, known)


INF = float("inf")


def _kind(value: Any) -> str:
    """What a value is, in TOML's words."""
    kinds = {**KINDS, bool: str(value).lower(), dict: "a table"}
    if type(value) in (int, float):
        return f"{value}, a number"
    return kinds.get(type(value), f"a {type(value).__name__}")


def line_of(text: str, path: Sequence[str]) -> int:
    """The number of the line at which a key stands, or the table that it is missing from.

    It is the first line after which the file's beginning, read by itself, has the key: so the reader of TOML
    is asked, and its grammar stands nowhere twice. A beginning that ends within a value is none.
    """
    lines = text.splitlines(keepends=True)
    found, start = 1, 0
    for depth in range(1, len(path) + 1):
        whole = start
        for number in range(start, len(lines)):
            try:
                values = tomllib.loads("".join(lines[: number + 1]))
            except tomllib.TOMLDecodeError:
                continue
            if _has(values, path[:depth]):
                while lines[whole].strip() == "" or lines[whole].lstrip().startswith("#"):
                    whole += 1
                found, start = whole + 1, number
                break
            whole = number + 1
        else:
            break
    return found


def _has(values: Any, path: Sequence[str]) -> bool:
    for key in path:
        if isinstance(values, list):
            if not key.isdigit() or int(key) >= len(values):
                return False
            values = values[int(key)]
        elif isinstance(values, dict) and key in values:
            values = values[key]
        else:
            return False
    return True
