"""What is installed, held against what the locks pin."""

import sys
from pathlib import Path

from omr import settings
from omr.containers import self_test
from omr.containers.checks import MISSING, OK, Check, absent, ok, warn
from omr.recipe import nemo_skills

TIERS = {"cli": ("cli",), "data": ("cli", "data"), "train": ("cli", "data", "train")}  # docker/venv


def environment() -> Check:
    """Which tiers docker/venv has made."""
    made = [tier for tier in ("cli", "data", "train", "dev") if (settings.venv() / f".{tier}").exists()]
    return Check(
        "environment",
        OK,
        f"{settings.venv()}: {', '.join(made) or 'none yet'}",
        "each stage builds what it needs",
    )


def locks(tier: str) -> list[Check]:
    """A row for each tier that a stage needs: made, and every package in the version of its lock."""
    found = []
    for each in TIERS[tier]:
        if not (settings.venv() / f".{each}").exists() and settings.venv() != Path(sys.prefix):
            said = f"not made yet in {settings.venv()}: the stage makes it, which needs the network"
            found.append(warn(f"{each} lock", said, f"run docker/venv {each}"))
        else:
            found += [_told(each, check) for check in _compare(each)]
    return found


def _compare(tier: str) -> list[Check]:
    """The self-test's own comparison, of this Python's packages."""
    torch = [self_test.torch("train")] if tier == "train" else []
    return [*self_test.packages((tier,)), *torch]


def _told(tier: str, check: Check) -> Check:
    """A difference is worth a word: results may differ from the published ones."""
    if check.state != MISSING:
        return check
    wrong = check.found.split("; ")
    said = "; ".join(wrong[:3]) + (f"; and {len(wrong) - 3} more" if len(wrong) > 3 else "")
    return warn(check.name, said, f"rm {settings.venv()}/.{tier} && docker/venv {tier}")


def prompts() -> Check:
    """nemo-skills, whose prompts the real corpus is formatted with."""
    return ok("nemo-skills", str(nemo_skills.folder()))


def has_prompts() -> Check:
    """The same, for those who have not asked for anything."""
    if list(settings.venv().glob("lib/python*/site-packages/nemo_skills")):
        return ok("nemo-skills", "installed")
    return absent("nemo-skills", "not installed", "make nemo (the real corpus's prompts; tiny has its own)")
