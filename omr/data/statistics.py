"""The token lengths of an SFT file, as `make data-report` leaves them beside it: <name>.lengths.json."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from omr import records
from omr.files import read_json, write_json

PERCENTILES = ("5", "50", "95", "100")


@dataclass(frozen=True)
class SplitLengths:
    """The rows of one split, scaled to all of them where a sample was counted; a margin is half a 95%
    interval, 0 where every row was counted."""

    rows: int
    counted: int  # rows whose tokens were counted
    tokens: int = 0
    margin: int = 0  # of `tokens`
    percentiles: dict[str, int] = field(default_factory=dict)  # of PERCENTILES -> tokens of a row
    too_long: int = 0  # rows over `Lengths.longest`
    too_long_margin: int = 0
    histogram: list[int] = field(default_factory=list)  # counted rows between the edges of `Lengths`


@dataclass(frozen=True)
class Lengths:
    """What was measured of an SFT file; <name>.lengths.json beside it has the same fields."""

    data: str  # sha256 of the file
    stats: str  # full or sample
    longest: int  # tokens that a row may have in training
    rows: int
    duplicates: int  # rows whose bytes occurred before
    edges: list[int]  # of the histograms' bins, in tokens
    splits: dict[str, SplitLengths]

    @property
    def tokens(self) -> int:
        """Tokens of the whole file."""
        return sum(split.tokens for split in self.splits.values())

    @property
    def mean(self) -> float:
        """Tokens of a row."""
        return self.tokens / self.rows if self.rows else 0.0

    @property
    def margin(self) -> int:
        """Half the 95% interval of `tokens`: the splits' samples are independent."""
        return round(sum(split.margin**2 for split in self.splits.values()) ** 0.5)

    @property
    def too_long(self) -> int:
        """Rows over `longest`, of all splits."""
        return sum(split.too_long for split in self.splits.values())


def path_of(data: Path) -> Path:
    """Where the lengths of an SFT file are written."""
    return data.with_suffix(".lengths.json")


def write(data: Path, made: Lengths) -> None:
    """Write the lengths beside the file."""
    write_json(path_of(data), asdict(made))


def read(data: Path) -> Lengths | None:
    """The lengths beside an SFT file, None where it was not measured yet; damage is an OmrError.

    They are of the file whose sha256 is their `data`: it may have been made anew since.
    """
    path = path_of(data)
    if not path.exists():
        return None
    with records.checked(path, "make data-report FORCE=1"):
        return records.of(Lengths, read_json(path))
