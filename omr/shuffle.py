"""One bucket through GNU shuf into its place in the output: what a process of the mix does."""

import contextlib
import functools
import hashlib
import os
import subprocess
from pathlib import Path

from omr import buckets, files
from omr.errors import OmrError
from omr.shards import die_with_parent

PART = "output.part"
PIPE = 1 << 20  # bytes in the pipe to shuf


class Mixed:
    """The buckets that are in the output: a file with a line for each, of this boot of this machine.

    A crash of the machine may have lost what was written and not yet synced; then all are mixed again.
    """

    def __init__(self, work: Path) -> None:
        self.path = work / "mixed"
        name = files.boot()
        lines = self.path.read_text().split("\n") if self.path.exists() else [""]
        self.done: set[int] = set()
        if name and lines[0] == name and (work / PART).exists():
            self.done = {int(line) for line in lines[1:-1]}  # a last line without its newline was cut
        else:
            (work / PART).unlink(missing_ok=True)
        files.write_text(self.path, "\n".join([str(name), *map(str, sorted(self.done)), ""]))

    def add(self, bucket: int) -> None:
        """This bucket is in the output."""
        with self.path.open("a") as handle:
            handle.write(f"{bucket}\n")


@functools.lru_cache(maxsize=1)
def _reader(work: Path, names: tuple[str, ...], turn: int) -> buckets.Reader:
    """The index of all shards, read once a process and turn: a shard may have been made again since."""
    return buckets.Reader(work, names)


def bucket(work: Path, names: tuple[str, ...], seed: int, turn: int, number: int) -> None:
    """Shuffle one bucket into the output; its order depends on (seed, bucket, lines) alone."""
    reader = _reader(work, names, turn)
    count, place, end = int(reader.rows[number]), reader.starts[number], reader.starts[number + 1]
    source = work / f"random-{number}"
    # shuf draws at most 4 bytes for a line, and now and then some again.
    source.write_bytes(hashlib.shake_256(f"{seed} {number}".encode()).digest(16 * count + 1024))
    handle = os.open(work / PART, os.O_WRONLY)
    try:
        os.lseek(handle, place, os.SEEK_SET)
        said = _shuf(source, handle, reader, number)
        if said or os.lseek(handle, 0, os.SEEK_CUR) != end:
            raise OmrError(f"shuf failed ({said or 'it wrote too little'}); mend it and run again to go on")
    finally:
        os.close(handle)
        source.unlink(missing_ok=True)


def _shuf(source: Path, handle: int, reader: buckets.Reader, number: int) -> str:
    """Run it; returns what it complained of."""
    parent = os.getpid()

    def tie() -> None:  # a shuf whose feeder was killed would write half a bucket
        die_with_parent(parent)

    command = ["shuf", f"--random-source={source}"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=handle, stderr=pipe, preexec_fn=tie, pipesize=PIPE, bufsize=0
    ) as shuf:
        try:
            with contextlib.suppress(BrokenPipeError):  # shuf says why
                reader.feed(number, shuf.stdin)
                shuf.stdin.close()
            said = shuf.stderr.read().decode(errors="replace").strip()
        except BaseException:
            shuf.kill()
            raise
    return said or (f"exit code {shuf.returncode}" if shuf.returncode else "")
