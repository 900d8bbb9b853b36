"""bash completion, asked in a real bash as its readline would ask."""

import subprocess
import sys

import pytest

from omr import recipe, settings
from omr.settings import ROOT

sys.path.insert(0, str(ROOT / "bin"))
import completion


def complete(*words, cwd=ROOT):
    """What bash offers when the last of `words` (bash's own splitting, `=` apart) is completed."""
    quoted = " ".join(f"'{word}'" for word in words)
    line = f"{completion.script()}\nCOMP_WORDS=({quoted}) COMP_CWORD={len(words) - 1}\ncompopt() {{ :; }}\n"
    line += "_omr_make\nprintf '%s\\n' \"${COMPREPLY[@]}\""
    done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("make", "dem"), ["demo"]),
        (("make", "train", "MOD"), ["MODEL=", "MODES=", "MODE="]),
        (("make", "train", "MODEL", "="), list(recipe.MODELS)),
        (("make", "train", "MODEL", "=", "1"), ["1.5b", "14b"]),
        (("make", "train", "MODEL", "=", "7b", "ROUND", "="), ["1", "2"]),
        (("make", "data", "DATASET", "=", "t"), ["tiny"]),
        (("make", "data", "VARIANT", "="), ["recommended", "paper"]),
        (("make", "data", "RUNNER", "=", "s"), ["slurm"]),
        (("make", "data", "DRY_RUN", "="), ["1"]),
        (("make", "data", "RAW", "=", "docker/ru"), ["docker/run"]),
        (("make", "data", "HF_TO"), []),  # a secret is not typed
    ],
)
def test_what_is_offered(words, offered):
    assert complete(*words) == offered


def test_another_projects_make_is_left_alone(tmp_path):
    assert complete("make", "dem", cwd=tmp_path) == []


def test_the_choices_are_those_of_the_recipe():
    chosen = {name: completion.choices(settings.SETTINGS[name]) for name in settings.SETTINGS}
    assert chosen["MODEL"] == list(recipe.MODELS)
    assert chosen["DATASET"] == list(recipe.CORPORA)
    assert chosen["ROUND"] == sorted({str(row.number) for row in recipe.ROUNDS.values()})
