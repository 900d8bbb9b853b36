"""A run is trained by one state of this toolkit: its jobs run the copy of the code in the run's folder.

A `git pull` between two links of a chain changes nothing. `make train` of a changed checkout says which files
differ and goes on as the run's own code would, by starting it; RECODE=1 takes the code of now.
"""

import os
import sys
from pathlib import Path

from omr import settings
from omr.cluster import ns
from omr.cluster.submit import Say
from omr.errors import OmrError, RequestError, listing
from omr.run import frozen, snapshot
from omr.run.events import log_event
from omr.workspace import RunFolder


def become(folder: RunFolder, recode: bool, say: Say) -> None:
    """Go on as the code that the run began with, where that is another; a RequestError where it is gone.

    With `recode`, and for a run that has not begun, this process goes on. It will refuse one of NeMo-Skills'.
    """
    began = frozen.code_of(folder)
    if began is None or recode or began.identity in ("", snapshot.code_id()) or ns.begun(folder):
        return
    kept = snapshot.home(folder.root, began.identity)
    if not kept.is_dir() or snapshot.code_id(kept) != began.identity:
        raise RequestError(
            f"{kept}: the code that this run began with is gone or altered; RECODE=1 goes on with this code"
        )
    say(f"note: {_changed(kept)} since the run began; it goes on with its own code, RECODE=1 takes this one")
    sys.stdout.flush()
    script = str(kept / Path(sys.argv[0]).resolve().relative_to(settings.ROOT))
    os.execve(sys.executable, [sys.executable, script, *sys.argv[1:]], environment(kept, began.revision))


def environment(kept: Path, revision: str) -> dict[str, str]:
    """This process's variables for the code of a run: .env and packages stay those of the checkout."""
    return {
        **os.environ,
        "PYTHONPATH": str(kept),
        "OMR_ENV_FILE": str(settings.env_file().absolute()),
        "OMR_VENV": str(settings.venv()),
        "OMR_REVISION": revision,
    }


def keep(folder: RunFolder, say: Say) -> Path:
    """The copy of the code that the run's jobs will run; the caller holds the submission lock.

    A run that began with another code, and is here because of RECODE=1, has this one from now on.
    """
    kept = snapshot.keep(folder.root)
    began = frozen.code_of(folder)
    if began and began.identity != snapshot.code_id():
        before = snapshot.home(folder.root, began.identity)
        what = _changed(before) if began.identity and before.is_dir() else "it was not kept"
        frozen.take_code(folder)
        line = f"the code is {snapshot.code_id()[: snapshot.SHORT]} from now on, was {began.revision}: {what}"
        log_event(folder, line)
        say(f"note: {line}")
    return kept


def _changed(kept: Path) -> str:
    """`omr/recipe/types.py and 3 other files of the toolkit differ`."""
    names = snapshot.changes(kept, settings.ROOT)
    shown = names[:3] + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return f"{listing(shown, 'and')} of the toolkit differ" if names else "nothing differs"


def check(folder: RunFolder) -> None:
    """An OmrError in a link whose code is not the one that the run began with."""
    began = frozen.code_of(folder)
    if began and began.identity and began.identity != snapshot.code_id():
        raise OmrError(
            f"{settings.ROOT}: is not the code that the run began with ({began.revision}), or was altered;"
            " make train goes on with that, RECODE=1 with the code of now"
        )
