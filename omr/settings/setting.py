"""What a setting is: its kind, its default, who may have its value, and what a value of it may look like."""

import re
from dataclasses import dataclass
from pathlib import Path

from omr.errors import RequestError, listing

# A switch, on and off: click's own words (click.types.BoolParamType).
ON = ("1", "true", "t", "yes", "y", "on")
OFF = ("", "0", "false", "f", "no", "n", "off")
TYPOGRAPHIC_QUOTES = "“”„‟‘’‚‛«»‹›"
INVISIBLE = "\u00ad\u200b\u200e\u200f\u2060\ufeff"  # what comes along when a value is copied from a page


@dataclass(frozen=True)
class Form:
    """What a text may look like, so that a slip is told where it is read, and not by Slurm or a job."""

    pattern: re.Pattern[str]  # of the whole text
    fault: str  # what is said of any other: what it is not, and what to write


def _form(pattern: str, fault: str, flags: int = re.ASCII) -> Form:
    return Form(re.compile(pattern, flags), fault)


# sbatch(1), --time; its numbers may be large (90 hours, 5000 minutes), but are none of 4,000 digits.
TIME_LIMIT = _form(
    r"(?P<m>N)(:(?P<s>N))?|(?P<h>N):(?P<hm>N):(?P<hms>N)"
    r"|(?P<d>N)-(?P<dh>N)(:(?P<dhm>N)(:(?P<dhms>N))?)?|(?i:unlimited|infinite)|-1".replace("N", r"\d{1,9}"),
    "is no time limit of Slurm's; write 90 (minutes), 4:00:00, 2-12 (days-hours) or UNLIMITED",
)
DECIMAL = _form(r"\d{1,9}(\.\d+)?", "is no number; write one like 0.6")
SHARE = _form(r"0?\.\d*[1-9]\d*|1(\.0*)?", "is no share; write a number up to 1, like 0.95")
MEMORY_SIZE = _form(r"(\d{1,18}(?:\.\d+)?)([KMGTkmgt]?)", "is no amount of memory; write 512M or 4G")
POINT_IN_TIME = _form(
    r"\d{1,18}(\.\d+)?|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?",
    "is no time; give seconds from now, or a time like 2026-01-31T18:00",
)
PLAIN_NAME = _form(r"\w[\w.+@:/-]*", "is no plain name; use letters, digits, '.', '_' and '-'")
PLAIN_NAMES = _form(
    r"\w[\w.+@:/-]*(,\w[\w.+@:/-]*)*",
    "is no name, nor names with commas between; use letters, digits, '.', '_' and '-', without blanks",
)
RUN_NAME = _form(r"\w[\w.-]{0,39}", "is no name; use up to 40 letters, digits, '.', '_' and '-'")
WANDB_PROJECT = _form(
    r"[^/\\#?%:\s][^/\\#?%:\n]{0,127}",
    r"is no project of W&B; use up to 128 letters, without / \ # ? % and :",
    re.UNICODE,
)
# An address is shown and handed on as it is: a password has no place in one.
URL = _form(
    r"https?://[^\s/?#@]+([/?#]\S*)?",
    "is no address; write it with https://, without blanks and without a password",
)
REPOSITORY = _form(r"\w[\w.-]*/\w[\w.-]{0,95}", "is no repository of the hub; write owner/name")
COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
IMAGE_NAME = _form(  # the stage is added as its tag
    rf"(?:[\w.-]+(?::\d+)?/)?{COMPONENT}(?:/{COMPONENT})*",
    "is no image's name; use small letters, digits, '.', '_', '-' and '/', and no tag",
)
IMAGE_REFERENCE = _form(r"\S+", "is no image; write its reference without blanks")
MOUNT = r"\s*/[^:,\n]*(:/[^:,\n]*(:(ro|rw))?)?\s*"
MOUNT_LIST = _form(
    rf"({MOUNT})?(,({MOUNT})?)*", "is not /from:/to or /from:/to:ro; separate several by commas", re.UNICODE
)


def _odd_letter(value: str) -> str | None:
    """What is wrong with a value's letters, of any setting; None if nothing is."""
    if quote := next((end for end in (value[:1], value[-1:]) if end and end in TYPOGRAPHIC_QUOTES), None):
        return f"has a typographic quote ({quote}), which quotes nothing; write ' or \", or none"
    if unseen := next((letter for letter in value if letter in INVISIBLE), None):
        return f"has an invisible character (U+{ord(unseen):04X}); type the value again"
    return None


@dataclass(frozen=True)
class Setting:
    """One documented variable, and everything that the program has to know of it.

    A new one needs its row here and its place in the Makefile's WORDS; a machine fact also in .env.example.
    """

    name: str
    text: str
    default: str | None = None
    machine: bool = False  # a fact about this machine, for .env; the others are given with each command
    secret: bool = False
    kind: str = "text"  # or number (whole), switch
    least: int = 1  # of a number
    choices: tuple[str, ...] = ()  # empty: any text, or those of the recipe's tables
    path: str | None = (
        None  # names a file or folder to read (input) or write below (output): containers see it
    )
    of_run: bool = False  # names or shapes a run: a chain's jobs get it from their request
    for_jobs: bool = True  # False: speaks to one command, and no job is given it
    form: Form | None = None  # what a text may look like; None: anything

    def check(self, value: str, where: str = "") -> None:
        """A RequestError for a value that cannot be; it begins with `where`, and never shows a secret."""
        fault = _odd_letter(value) or self._fault(value)
        if fault:
            hidden = re.sub(r"(//)[^/@]*@", r"\1…@", value)  # a password in an address
            shown = hidden if hidden.isprintable() and len(hidden) <= 100 else f"{ascii(hidden)[:100]}"
            raise RequestError(f"{where}{self.name}{'' if self.secret else f'={shown}'} {fault}")

    def _fault(self, value: str) -> str | None:
        """What is wrong with a value, and what to write instead."""
        if self.path and value.startswith("~"):
            try:
                Path(value).expanduser()
            except RuntimeError:
                return "names the home of nobody here; write the path in full"
        if self.kind == "number":
            return None if self._number(value) is not None else f"is not a whole number from {self.least} up"
        if self.kind == "switch" and value.strip().lower() not in (*ON, *OFF):
            return f"is neither on nor off; set {self.name}=1 or {self.name}=0"
        if self.choices and value not in self.choices:
            return f"is unknown; choose {listing(self.choices)}"
        return self.form.fault if self.form and not self.form.pattern.fullmatch(value) else None

    def number(self, value: str) -> int:
        """The value of a number; a RequestError for anything but a whole number from `least` up."""
        self.check(value)
        return self._number(value)

    def _number(self, value: str) -> int | None:
        try:
            number = int(value)
        except ValueError:
            return None
        return number if number >= self.least else None
