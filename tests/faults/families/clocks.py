"""The clock of a stage's processes jumps by an hour while they work; nobody else's does."""

import shutil
import subprocess
from pathlib import Path

from ..trial import Trial
from .base import ALL, Fault

SOURCE = Path(__file__).with_name("clock.c")
HOUR = 3600  # seconds


def missing() -> str:
    """What this machine lacks for these faults, or an empty string."""
    return "" if shutil.which("cc") else "a C compiler is not installed (Debian: gcc libc6-dev)"


def _jump(seconds: int):
    def inflict(trial: Trial) -> None:
        offset, tools = trial.root.with_name(f"{trial.root.name}.clock"), trial.root / ".tools"
        offset.write_text("0\n")
        tools.mkdir()
        library = tools / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE], check=True)
        # The stage's own processes alone: a credential of Slurm's lasts five minutes.
        variables = f"LD_PRELOAD={library} CLOCK_OFFSET={offset}"
        (tools / "srun").write_text(
            "#!/bin/bash\nwords=()\n"
            f'for word; do words+=("$word"); [[ $word != env ]] || words+=({variables}); done\n'
            'exec /usr/bin/srun "${words[@]}"\n'
        )
        (tools / "srun").chmod(0o755)
        trial.begin(PATH=f"{tools}:{trial.user.env['PATH']}")
        trial.strike()
        offset.write_text(f"{seconds}\n")
        trial.end()
        offset.unlink()

    return inflict


FAULTS = (
    Fault("an hour ahead", ALL, _jump(HOUR)),
    Fault("an hour back", ALL, _jump(-HOUR)),
)
