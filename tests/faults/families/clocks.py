"""The clock of a stage's processes jumps by an hour while they work, by libfaketime; nobody else's does."""

from pathlib import Path

from ..trial import Trial
from .base import ALL, Fault

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
HOUR = 3600  # seconds


def missing() -> str:
    """What this machine lacks for these faults, or an empty string."""
    return "" if LIBRARIES else "libfaketime is not installed (Debian: libfaketime)"


def _jump(sign: str):
    def inflict(trial: Trial) -> None:
        clock, tools = trial.root.with_name(f"{trial.root.name}.clock"), trial.root / ".tools"
        clock.write_text("+0\n")
        tools.mkdir()
        # The stage's own processes alone: a credential of Slurm's lasts five minutes.
        variables = f"LD_PRELOAD={LIBRARIES[0]} FAKETIME_TIMESTAMP_FILE={clock} FAKETIME_NO_CACHE=1"
        variables += " DONT_FAKE_MONOTONIC=1"
        (tools / "srun").write_text(
            "#!/bin/bash\nwords=()\n"
            f'for word; do words+=("$word"); [[ $word != env ]] || words+=({variables}); done\n'
            'exec /usr/bin/srun "${words[@]}"\n'
        )
        (tools / "srun").chmod(0o755)
        trial.begin(PATH=f"{tools}:{trial.user.env['PATH']}")
        trial.strike()
        clock.write_text(f"{sign}{HOUR}\n")
        trial.end()
        clock.unlink()

    return inflict


FAULTS = (
    Fault("an hour ahead", ALL, _jump("+")),
    Fault("an hour back", ALL, _jump("-")),
)
