"""One bucket in GNU shuf's order, and the file that all of them become.

shuf draws its order from the number of lines and the random source alone. So it is asked to shuffle the
lines' numbers, and each line goes from the scratch to its place in one copy: the bytes are those that
`shuf --random-source` makes of the bucket's lines (tests/data/test_mixing.py).
"""

import hashlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from omr import files
from omr.data import direct_io, scratch
from omr.errors import OmrError

if TYPE_CHECKING:
    import numpy as np

PART = "output.part"


class Mixed:
    """The output as it grows, and which buckets are in it, empty ones too: a file with a line for each."""

    def __init__(self, work: Path, empty: set[int], size: int) -> None:
        self.path = work / "mixed"
        lines = self.path.read_bytes().split(b"\n") if self.path.exists() else []
        self.done = set(empty)
        if (work / PART).exists():
            # A last line without its newline was cut; a crash of the machine may have left zeros.
            self.done |= {int(line) for line in lines[:-1] if line.isdigit()}
        files.write_text(self.path, "".join(f"{bucket}\n" for bucket in sorted(self.done)))
        self.file = direct_io.File(work / PART, os.O_RDWR | os.O_CREAT)
        os.ftruncate(self.file.plain, size)
        self.written, self.unsettled = [], 0  # buckets, bytes

    def add(self, bucket: int, text: memoryview, place: int) -> None:
        """Write a bucket to its place."""
        self.file.write(text, place)
        self.written.append(bucket)
        self.unsettled += len(text)
        if self.unsettled >= scratch.BUCKET // 2:
            self.settle()

    def settle(self) -> None:
        """Let what was written count: it is on the disk, and so is the list of it."""
        self.file.sync()
        with self.path.open("a") as handle:
            handle.write("".join(f"{bucket}\n" for bucket in self.written))
            handle.flush()
            os.fsync(handle.fileno())
        self.done |= set(self.written)
        self.written, self.unsettled = [], 0

    def close(self) -> None:
        """Give the file back."""
        self.file.close()


class Room:
    """Memory for any bucket of a reader, and for a segment of it on its way."""

    def __init__(self, reader: scratch.Reader) -> None:
        self.text = direct_io.memory(int(reader.raw.max()) + direct_io.BLOCK)
        self.window = direct_io.memory(reader.segment + 2 * direct_io.BLOCK)

    def fill(self, reader: scratch.Reader, seed: int, bucket: int) -> memoryview:
        """The bucket's text, shuffled; its order depends on (seed, bucket, lines) alone."""
        import numpy as np

        start = reader.starts[bucket]
        room = self.text[start - direct_io.below(start) :][: int(reader.raw[bucket])]
        lengths = np.concatenate([of for _, _, of in reader.segments(bucket)]).astype(np.int64)
        drawn = order(len(lengths), seed, bucket)
        ends = np.empty_like(lengths)
        ends[drawn] = np.cumsum(lengths[drawn])
        places = iter(zip((ends - lengths).tolist(), ends.tolist(), lengths.tolist(), strict=True))
        for text in reader.texts(bucket, self.window):
            at = 0
            while at < len(text):
                begin, end, length = next(places)
                room[begin:end] = text[at : at + length]
                at += length
        return room


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
