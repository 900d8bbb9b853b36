"""A run's metrics as they grow: only what was added since the last look is read."""

import json
from collections.abc import Sequence
from pathlib import Path


class Follower:
    """The steps' numbers of metrics.jsonl, each step once. A file that was replaced is read anew."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bytes_read = 0  # of all looks together
        self._rows: dict[int, dict] = {}
        self._file, self._offset, self._rest = 0, 0, b""  # inode, bytes read of it, an unfinished line

    def look(self) -> Sequence[dict]:
        """All rows so far, in the order of their steps; a line that is not whole waits for the next look."""
        try:
            stat = self.path.stat()
            if stat.st_ino != self._file or stat.st_size < self._offset:
                self._rows, self._file, self._offset, self._rest = {}, stat.st_ino, 0, b""
            if stat.st_size > self._offset:
                with self.path.open("rb") as file:
                    file.seek(self._offset)
                    self._take(file.read())
        except OSError:
            pass  # not there yet, or being replaced: the next look
        return [self._rows[step] for step in sorted(self._rows)]

    def _take(self, data: bytes) -> None:
        self._offset += len(data)
        self.bytes_read += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            try:
                row = json.loads(line)
                step = int(row["step"])
            except (ValueError, KeyError, TypeError):
                continue
            self._rows[step] = {**self._rows.get(step, {}), **row}
