"""Lists of rows: `split<tab>shard<tab>row` a line, the row's number in its shard from 0.

A row's place in the published corpus is the same for every SEED, LIMIT and round, so that a list stays good.
"""

import errno
import re
import stat
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from omr.errors import RequestError, listing, shown
from omr.files import sha256, write_text

HEAD = "# split\tshard\trow (from 0)\n"


@dataclass(frozen=True)
class Rows:
    """A list: its rows by shard, and its hash."""

    path: Path
    sha256: str
    shards: dict[str, dict[str, list[int]]]  # split -> shard -> rows in order

    def of(self, split: str, shard: str) -> list[int]:
        """The rows of a shard."""
        return self.shards.get(split, {}).get(shard, [])

    def check(self, counts: Mapping[str, Mapping[str, int]], splits: Collection[str]) -> None:
        """A RequestError for a row that the corpus does not have; `counts` is split -> shard -> rows.

        Of the corpus's other `splits` rows are not looked at.
        """
        if unknown := [split for split in self.shards if split not in splits]:
            raise RequestError(
                f"{self.path}: {shown(unknown[0])} is no split; write {listing(splits)} before a shard"
            )
        for split, known in counts.items():
            for shard, rows in self.shards.get(split, {}).items():
                if (there := known.get(shard)) is None:
                    raise RequestError(
                        f"{self.path}: {shown(shard)} is no shard of {split}; was it of another corpus?"
                    )
                if rows[-1] >= there:
                    raise RequestError(
                        f"{self.path}: {shard} has {there:,} rows, the list names row {rows[-1]}"
                    )


def write(path: Path, rows: Iterable[tuple[str, str, int]]) -> None:
    """Write a list, in order."""
    write_text(path, HEAD + "".join(f"{split}\t{shard}\t{row}\n" for split, shard, row in sorted(rows)))


def read(path: Path) -> Rows:
    """Read a list; lists may be put together, and a line that begins with # is none."""
    found: defaultdict[str, defaultdict[str, set[int]]] = defaultdict(lambda: defaultdict(set))
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would wait for a writer, and a device never ends
            raise OSError(errno.EINVAL, "no plain file")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is no text"
        raise RequestError(f"DROP={path}: {why}; name a list of rows") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        words = line.split()
        if len(words) != 3 or not re.fullmatch(r"[0-9]{1,18}", words[2]):
            raise RequestError(
                f"{path}:{number}: {shown(line)} is no row; write split, shard and the number of a row"
            )
        found[words[0]][words[1]].add(int(words[2]))
    shards = {split: {s: sorted(rows) for s, rows in each.items()} for split, each in found.items()}
    return Rows(path, sha256(path), shards)
