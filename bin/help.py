#!/usr/bin/env python3
"""`make`: the targets by group, then every setting with its current value and where that came from.

Standard library alone (and python-dotenv for .env, when the environment is there), so that it answers
before anything is installed.
"""

import os
import re
import sys
from pathlib import Path

# This script alone runs before there is an environment that knows the package.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from omr import settings
from omr.errors import OmrError, output_never_fails

MAKEFILE = settings.ROOT / "Makefile"


def targets() -> list[str]:
    """The `##@` groups and `##` texts of the Makefile."""
    lines = []
    for line in MAKEFILE.read_text(encoding="utf-8").splitlines():
        if line.startswith("##@"):
            lines += ["", line[4:]]
        elif match := re.match(r"([a-z-]+):.*?## (.*)", line):
            lines.append(f"  make {match[1]:<12} {match[2]}")
    return lines


def values() -> list[str]:
    """Each setting: its name, current value (secrets never), where it came from, and its text."""
    given = dict(os.environ)
    try:
        settings.load()
        note = []
    except OmrError as error:
        note = ["", f"  .env cannot be read: {error}"]
    except ModuleNotFoundError:
        note = ["", "  .env is shown after the first stage has set up its environment"]
    lines = []
    for machine in (False, True):
        lines += ["", "Machine facts (.env.example explains them)" if machine else "Settings"]
        for setting in settings.SETTINGS.values():
            if setting.machine is machine:
                value = os.environ.get(setting.name) or setting.default or ""
                known = bool(os.environ.get(setting.name))
                source = "" if not known else "given" if given.get(setting.name) else ".env"
                shown = ("set" if value else "") if setting.secret else value
                lines.append(f"  {setting.name:<17} {shown:<18} {source:<6} {setting.text}")
                try:
                    settings.get(setting.name)
                except OmrError as error:
                    note += ["", f"  {error}"]
    return lines + note


if __name__ == "__main__":
    output_never_fails()
    print("OpenMathReasoning SFT recipe: make <target> [NAME=value …]")
    print("\n".join(targets() + values()))
