"""One bucket into its place in the output, in GNU shuf's order: what a process of the mix does.

shuf draws its order from the number of lines and the random source alone. So it is asked to shuffle the
lines' numbers, and the lines go from the scratch to their places in one copy: the bytes are those that
`shuf --random-source` makes of the bucket's lines (tests/test_mix.py).
"""

import functools
import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from omr import buckets, files
from omr.errors import OmrError
from omr.crew import give_back

if TYPE_CHECKING:
    import numpy as np

PART = "output.part"


class Mixed:
    """The buckets that are in the output, empty ones included: a file with a line for each."""

    def __init__(self, work: Path, empty: set[int]) -> None:
        self.path = work / "mixed"
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        self.done = set(empty)
        if (work / PART).exists():
            # A last line without its newline was cut; a crash of the machine may have left zeros.
            self.done |= {int(line) for line in lines[:-1] if line.isdigit()}
        files.write_text(self.path, "".join(f"{bucket}\n" for bucket in sorted(self.done)))

    def add(self, found: list[int], sync: bool) -> None:
        """These buckets are in the output; `sync` where that is to outlast a crash of the machine."""
        with self.path.open("a") as handle:
            handle.write("".join(f"{bucket}\n" for bucket in found))
            handle.flush()
            if sync:
                os.fsync(handle.fileno())
        self.done |= set(found)


@functools.lru_cache(maxsize=1)
def _reader(work: Path, names: tuple[str, ...], turn: int) -> buckets.Reader:
    """The index of all shards, read once a process and turn: a shard may have been made again since."""
    return buckets.Reader(work, names)


@functools.lru_cache(maxsize=1)
def _room(size: int) -> memoryview:
    """Memory for the largest bucket, the same for every bucket of a process."""
    give_back()
    return memoryview(bytearray(size))


def bucket(work: Path, names: tuple[str, ...], seed: int, turn: int, number: int) -> None:
    """Shuffle one bucket into the output; its order depends on (seed, bucket, lines) alone."""
    reader = _reader(work, names, turn)
    lines = _room(int(reader.raw.max()))[: int(reader.raw[number])]
    ends = reader.read(number, lines)
    places = order(len(ends), seed, number).tolist()
    starts, ends = [0, *ends[:-1].tolist()], ends.tolist()
    handle = os.open(work / PART, os.O_WRONLY)
    try:
        files.write_at(handle, [lines[starts[n] : ends[n]] for n in places], reader.starts[number])
    finally:
        os.close(handle)


def order(count: int, seed: int, number: int) -> "np.ndarray":
    """The order in which shuf puts the `count` lines of a bucket, as numbers from 0."""
    import numpy as np

    # shuf draws at most 4 bytes for a line, and now and then some again.
    random = hashlib.shake_256(f"{seed} {number}".encode()).digest(16 * count + 1024)
    command = ["shuf", f"--input-range=0-{count - 1}", "--random-source=/dev/stdin"]
    done = subprocess.run(command, input=random, capture_output=True)
    drawn = np.array(done.stdout.split(), np.int64)
    if done.returncode or len(drawn) != count:
        said = done.stderr.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise OmrError(f"shuf failed ({said}); mend it and run again to go on")
    return drawn

