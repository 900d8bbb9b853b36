"""What the value of a setting may look like, form by form, and what is said of any other."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Form:
    """What a text may look like, so that a slip is told where it is read, and not by Slurm or a job."""

    pattern: re.Pattern[str]  # of the whole text
    fault: str  # what is said of any other: what it is not, and what to write


def _form(pattern: str, fault: str, flags: int = re.ASCII) -> Form:
    return Form(re.compile(pattern, flags), fault)


# sbatch(1), --time; its numbers may be of any size.
TIME_LIMIT = _form(
    r"(?P<m>\d+)(:(?P<s>\d+))?|(?P<h>\d+):(?P<hm>\d+):(?P<hms>\d+)"
    r"|(?P<d>\d+)-(?P<dh>\d+)(:(?P<dhm>\d+)(:(?P<dhms>\d+))?)?|(?i:unlimited|infinite)|-1",
    "is no time limit of Slurm's; write 90 (minutes), 4:00:00, 2-12 (days-hours) or UNLIMITED",
)
DECIMAL = _form(r"\d+(\.\d+)?", "is no number; write one like 0.6")
SHARE = _form(r"0?\.\d*[1-9]\d*|1(\.0*)?", "is no share; write a number up to 1, like 0.95")
MEMORY_SIZE = _form(r"(\d+(?:\.\d+)?)([KMGTkmgt]?)", "is no amount of memory; write 512M or 4G")
POINT_IN_TIME = _form(
    r"\d+(\.\d+)?|\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?",
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
URL = _form(r"https?://[^\s/?#]+\S*", "is no address; write it with https:// and without blanks")
REPOSITORY = _form(  # huggingface_hub, validate_repo_id
    r"(?!.*(?:--|\.\.))(?:\w[\w.-]*)/(?:\w[\w.-]{0,94}\w|\w)(?<!\.git)",
    "is no repository of the hub; write owner/name, with letters, digits, '-', '_' and '.'",
)
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
