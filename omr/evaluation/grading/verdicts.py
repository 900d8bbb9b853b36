"""Answers graded while others still come; verdicts are kept, and given again to the same pair."""

import contextlib
import json
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Self

from omr.evaluation.grading import rules
from omr.evaluation.grading.pool import Grader
from omr.evaluation.grading.rules import Outcome, Verdict


class Verdicts:
    """The verdicts of an evaluation's folder, in verdicts-….jsonl; a context manager, which ends the grading.

    A part of an evaluation has a file of its own, as for answers.
    """

    def __init__(self, folder: Path, part: str = "0-of-1") -> None:
        self._path, self._identity = folder / f"verdicts-{part}.jsonl", rules.identity()
        self._known = dict(
            row for path in sorted(folder.glob("verdicts-*.jsonl")) for row in self._read(path)
        )
        self._lock = threading.Lock()
        self._grader = Grader()
        self._asked: dict[tuple[str, str], Future[Verdict]] = {}

    def of(self, given: str | None, expected: str) -> Verdict:
        """The verdict on what stands in an answer's box; waits for it where it is not there yet."""
        pair = (expected, given or "")
        if given is not None and pair in self._known:
            return self._known[pair]
        return self.begin(given, expected).result()

    def begin(self, given: str | None, expected: str) -> "Future[Verdict]":
        """Have a pair graded, without waiting for it."""
        pair = (expected, given or "")
        if given is not None and pair in self._known:
            done: Future[Verdict] = Future()
            done.set_result(self._known[pair])
            return done
        future = self._grader.submit(given, expected)
        if given is not None and pair not in self._asked:
            self._asked[pair] = future
            future.add_done_callback(lambda graded: self._keep(pair, graded))
        return future

    def wait(self) -> None:
        """Return when all that was begun is graded; an OmrError where grading fails."""
        for future in list(self._asked.values()):
            future.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._grader.close()

    def _keep(self, pair: tuple[str, str], graded: "Future[Verdict]") -> None:
        """Add a verdict to the file."""
        if graded.cancelled() or graded.exception():
            return
        verdict = graded.result()
        row = {"expected": pair[0], "given": pair[1], **_words(verdict), "grader": self._identity}
        with self._lock, self._path.open("a", encoding="utf-8", errors="replace") as out:
            out.write(f"{json.dumps(row, ensure_ascii=False)}\n")

    def _read(self, path: Path) -> list[tuple[tuple[str, str], Verdict]]:
        """The kept verdicts of this very grader; lines that are not whole are passed over."""
        found = []
        for line in path.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
                row = json.loads(line)
                if row["grader"] == self._identity:
                    verdict = Verdict(Outcome(row["published"]), Outcome(row["strict"]))
                    found.append(((row["expected"], row["given"]), verdict))
        return found


def _words(verdict: Verdict) -> dict[str, str]:
    return {"published": str(verdict.published), "strict": str(verdict.strict)}
