"""`python -m omr.settings exec COMMAND…` becomes COMMAND with .env in its environment: docker/entry.sh."""

import os
import sys

from omr import settings
from omr.errors import OmrError, RequestError


def _become(command: list[str]) -> None:
    """Go on as `command`, with .env in its environment."""
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise RequestError(f"{command[0]}: {error.strerror}; name a program that is in the image") from None


def _main() -> int:
    try:
        settings.load()
        if sys.argv[1:2] == ["exec"]:
            _become(sys.argv[2:])
    except OmrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
