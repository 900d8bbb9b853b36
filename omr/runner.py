"""Where a stage runs, and whether it is a dry run: decided here once, for docker/run and for RUNNER=docker.

`python -m omr.runner TIER SCRIPT [ARG…]` prints two lines: RUNNER (empty where it is unset);
DRY_RUN, 1 or 0.
"""

import itertools
import os
import sys
from collections.abc import Mapping, Sequence

from omr import recipe, settings
from omr.errors import OmrError, choose

RUNNERS = settings.SETTINGS["RUNNER"].choices


def argument(name: str, args: Sequence[str], environ: Mapping[str, str]) -> str | None:
    """What a script will take for a setting: the last `--name VALUE` or `--name=VALUE` of its arguments, else
    the environment; None where neither has it."""
    spellings = settings.spellings(name)
    found = environ.get(name) or None
    for word, after in itertools.pairwise([*args, ""]):
        option, equals, value = word.partition("=")
        if option in spellings:
            found = value if equals else after
    return found


def is_tiny(args: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Whether a stage is asked for the tiny recipe, or another that trains without a GPU on this machine.

    That is said by MODEL, or where no model is named by DATASET.
    """
    word = argument("RECIPE", args, environ)
    if not word:
        return (argument("MODEL", args, environ) or argument("DATASET", args, environ)) == "tiny"
    recipe.use(word)
    [found] = recipe.in_force()
    return all(row.engine == "trl" and not row.gpus for row in found.models.values())


def decide(args: Sequence[str]) -> tuple[str, bool]:
    """RUNNER and DRY_RUN of a stage with these arguments; .env is read into the environment on the way.

    The tiny recipe runs where the user stands, whatever .env says of the real one, unless RUNNER is given
    on the command line. An unknown RUNNER, or a DRY_RUN that is neither on nor off, is a RequestError.
    """
    given = os.environ.get("RUNNER")
    settings.load()
    runner = settings.get("RUNNER")
    if runner:
        choose("RUNNER", runner, RUNNERS)
    if not given and is_tiny(args, os.environ):
        runner = "host"
    dry = settings.on("DRY_RUN") or any(word in args for word in settings.spellings("DRY_RUN"))
    return runner or "", dry


def _main(tier: str, *command: str) -> int:
    try:
        # The words of a shell's command are not ours.
        runner, dry = decide(command if tier != "shell" else ())
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{runner}\n{int(dry)}")
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
