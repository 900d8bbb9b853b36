"""What was found in the rows of a round: counts for each split, as <name>.quality.json has them."""

from dataclasses import asdict, dataclass
from pathlib import Path

from omr import records
from omr.files import Json, read_json, write_json

Z = 1.96  # standard errors in half a 95% interval

# Every finding, which is also the name of its list of rows, and what it means.
FINDINGS = {
    "wrong": "the answer is not the expected one, by the evaluation's grader",
    "no-answer": "no answer: no box that closes, of genselect no judgment",
    "several-answers": "the problem has other expected answers in other rows",
    "loops": "the same words four times in a row, at least 40 words in all",
    "template-tokens": "problem or solution has tokens of a chat template",
    "near-duplicates": "nearly the same solution as an earlier one of the problem",
    "benchmark": "half of the 13-grams of the problem, or of a benchmark's, stand in the other",
}
ALL_ROWS = ("benchmark",)  # looked for in every row also of a sample: it is rare, and cheap to find


@dataclass(frozen=True)
class Share:
    """How many of the rows that were looked at have a finding."""

    rows: int
    of: int  # rows looked at
    problems: int  # of so many problems
    whole: bool  # whether these are all rows of the split

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the share, by Wilson; of all rows it is the share itself.

        A sample takes all rows of a problem, whose findings may go together: it counts as many draws as it
        has problems, as if those of one problem were always all or none.
        """
        if self.whole or not self.of:
            share = self.rows / self.of if self.of else 0.0
            return share, share
        return wilson(self.rows / self.of, self.problems)


def wilson(share: float, n: int) -> tuple[float, float]:
    """The 95% interval of a share that was found in n independent draws (Wilson, 1927)."""
    if n == 0:
        return 0.0, 1.0
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * ((share * (1 - share) + Z**2 / (4 * n)) / n) ** 0.5 / (1 + Z**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True, order=True)
class Overlap:
    """A row beside the problem of the benchmark that it shares most with."""

    split: str
    shard: str
    row: int
    of_row: float  # share of the row's n-grams that the benchmark's problem has
    of_known: float  # share of that problem's that the row has
    problem: str
    known: str


@dataclass(frozen=True)
class Quality:
    """What was measured; `as_json` is its form on disk."""

    data: str  # sha256 of the SFT file
    stats: str  # full or sample
    benchmark: str  # its name and problems, or why none was looked for
    rows_per_second: float  # read, by all workers together
    splits: dict[str, dict[str, Share]]  # split -> finding -> how many
    worst: list[Overlap]


def path_of(data: Path) -> Path:
    """Where the figures of an SFT file are written."""
    return data.with_suffix(".quality.json")


def list_of(data: Path, finding: str) -> Path:
    """The list of rows of a finding."""
    return data.with_suffix(".quality") / f"{finding}.txt"


def write(data: Path, made: Quality) -> None:
    """Write the figures beside the file."""
    write_json(path_of(data), asdict(made))


def read(data: Path) -> Quality | None:
    """What `write` left beside an SFT file, None without it; damage is an OmrError."""
    path = path_of(data)
    if not path.exists():
        return None
    with records.checked(path, "make data-report QUALITY=1 FORCE=1"):
        made = records.of(Quality, read_json(path))
        for split, shares in made.splits.items():
            if shares.keys() != FINDINGS.keys():
                raise records.Odd(f"{split} has other findings")
        return made


def of(data: Path, origin: Json) -> Quality | None:
    """What is there of the file as it is now; `origin` is its manifest."""
    made = read(data)
    return made if made and made.data == origin["sha256"] else None
