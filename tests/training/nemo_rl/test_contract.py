"""make engine-check: what we rely on in a NeMo-RL, against a source made to hold, each clause broken once."""

import subprocess
import sys

import pytest
import yaml

from omr.errors import RequestError
from omr.run import checkpoints
from omr.run.nemo_rl_version import PINNED_VERSION, VERSIONS
from omr.settings import ROOT, pins
from omr.training.nemo_rl import contract, keys
from tests.training.nemo_rl import upstream


@pytest.fixture
def source(tmp_path):
    """A folder with what the pinned version's row says, and nothing else."""
    example = {}
    for key in keys.known_keys():
        if key.endswith("?"):
            continue
        *sections, last = key.removesuffix(".*").split(".")
        inner = example
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = {} if key.endswith(".*") else None
    sft = "from x import TimeoutChecker, CheckpointManager\nclass Logger: ...\n"
    sft += "".join(f"def {name}({', '.join(words)}, *more): ...\n" for name, *words in PINNED_VERSION.taken)
    options = " ".join(f'"{option}"' for option in contract.CONVERTER_OPTIONS)
    numbers = PINNED_VERSION.tag.removeprefix("v").split(".")
    for name, text in {
        PINNED_VERSION.example: yaml.safe_dump(example),
        PINNED_VERSION.script: "",
        PINNED_VERSION.converter: options,
        "nemo_rl/algorithms/sft.py": sft,
        "nemo_rl/package_info.py": "MAJOR = {}\nMINOR = {}\nPATCH = {}\n".format(*numbers),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def faults(source):
    return {c.name: c.fault for c in contract.clauses(source, contract.row_of(source)) if c.fault}


def test_a_source_that_holds(source):
    assert faults(source) == {}


@pytest.mark.parametrize(
    ("file", "old", "new", "clause", "said"),
    [
        (PINNED_VERSION.script, None, None, "files", f"has no {PINNED_VERSION.script}"),
        (
            PINNED_VERSION.example,
            "max_grad_norm",
            "max_norm",
            "keys",
            "policy.max_grad_norm and policy.max_norm differ",
        ),
        (
            PINNED_VERSION.example,
            "lr_decay_style",
            "decay",
            "runs",
            "scheduler.lr_decay_style: not in examples/configs",
        ),
        ("nemo_rl/algorithms/sft.py", "def setup", "def set_up", "driver", "sft.py has no setup"),
        (
            "nemo_rl/algorithms/sft.py",
            "policy, val_dataloader",
            "policy, loader",
            "driver",
            "validate in nemo_rl/algorithms/sft.py does not begin with policy and val_dataloader",
        ),
        (PINNED_VERSION.converter, '"--hf-ckpt-path"', "", "converter", "has no --hf-ckpt-path"),
    ],
)
def test_each_clause_broken(source, file, old, new, clause, said):
    path = source / file
    path.unlink() if old is None else path.write_text(path.read_text().replace(old, new))
    assert said in faults(source)[clause]


def test_a_version_without_a_row(source):
    about = source / "nemo_rl/package_info.py"
    about.write_text(about.read_text().replace("MINOR = 6", "MINOR = 8"))
    with pytest.raises(RequestError, match=r"is NeMo-RL v0.8.0, which has no row in .*; take v0.6.0, or add"):
        contract.row_of(source)
    about.unlink()
    with pytest.raises(RequestError, match="is no NeMo-RL"):
        contract.row_of(source)


def test_the_row_is_the_only_home_of_what_depends_on_the_version():
    assert PINNED_VERSION.tag == pins()["NEMO_RL_VERSION"] and set(VERSIONS) == {PINNED_VERSION.tag}
    assert checkpoints.FORMATS["nemo-rl"].parts == PINNED_VERSION.parts
    words = (
        PINNED_VERSION.example,
        PINNED_VERSION.script,
        PINNED_VERSION.converter,
        PINNED_VERSION.weights,
        PINNED_VERSION.python,
        PINNED_VERSION.workers,
    )
    homes = [p for p in (ROOT / "omr").rglob("*.py") if any(f'"{word}' in p.read_text() for word in words)]
    assert [path.name for path in homes] == ["nemo_rl_version.py"]


@pytest.mark.slow
def test_the_command(source, tmp_path):
    def check(folder):
        command = [sys.executable, str(ROOT / "bin/engine_check.py"), "--nemo_rl_source", str(folder)]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)

    done = check(source)
    assert done.returncode == 0 and done.stdout.endswith("omr/run/nemo_rl_version.py says\n")
    (source / PINNED_VERSION.converter).write_text("")
    done = check(source)
    assert done.returncode == 1 and done.stderr.startswith(
        f"error: {source}: NeMo-RL {PINNED_VERSION.tag} is not"
    )


@pytest.mark.nemo
def test_the_pinned_checkout_holds():
    assert faults(upstream.checkout()) == {}
