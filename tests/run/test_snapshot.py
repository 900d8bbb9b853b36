"""The toolkit's own files: what counts, and the copy that a run keeps."""

import os
import stat

import pytest

from omr import settings
from omr.errors import OmrError
from omr.run import snapshot
from omr.settings import ROOT


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    for name in ("bin/train.py", "omr/cli.py", "omr/run/lease.py", "slurm/lib.sh", "docker/cli.lock"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    (root / "docker/entry.sh").write_text("#!/bin/sh\n")
    (root / "bin/train.py").chmod(0o755)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        (root / name).write_text(name)
    return root


@pytest.mark.parametrize(
    ("name", "counts", "lock"),
    [
        ("omr/cli.py", True, False),
        ("omr/new.py", True, False),
        ("slurm/lib.sh", True, False),
        ("docker/cli.lock", True, True),
        ("docker/entry.sh", True, True),
        ("docker/dev.lock", True, False),
        ("README.md", False, False),
        ("tests/test_cli.py", False, False),
        ("omr/__pycache__/cli.pyc", False, False),
        ("omr/.cli.py.swp", False, False),
        ("omr/cli.py~", False, False),
    ],
)
def test_what_counts_as_code(checkout, name, counts, lock):
    before = snapshot.code_id(checkout), snapshot.locks_id(checkout)
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).write_text("other\n")
    after = snapshot.code_id(checkout), snapshot.locks_id(checkout)
    assert [a != b for a, b in zip(before, after, strict=True)] == [counts, lock]


def test_a_copy_stays_as_it_is(checkout, tmp_path):
    kept = snapshot.keep(tmp_path / "run", checkout)
    identity = snapshot.code_id(checkout)
    assert kept == tmp_path / "run/code" / identity[:12] and snapshot.code_id(kept) == identity
    assert os.access(kept / "bin/train.py", os.X_OK) and not (kept / "README.md").exists()
    assert not any(stat.S_IMODE(file.stat().st_mode) & 0o222 for file in snapshot.code_files(kept))
    (checkout / "omr/cli.py").write_text("changed in place\n")
    (checkout / "omr/run/lease.py").unlink()
    (checkout / "omr/new.py").touch()
    assert snapshot.code_id(kept) == identity
    assert snapshot.changes(kept, checkout) == ["omr/cli.py", "omr/new.py", "omr/run/lease.py"]
    assert snapshot.keep(tmp_path / "run", checkout) != kept and kept.is_dir()


def test_a_copy_that_was_cut_off_or_altered_is_made_again(checkout, tmp_path):
    kept = snapshot.keep(tmp_path, checkout)
    at = (kept / "omr/cli.py").stat().st_mtime_ns
    assert snapshot.keep(tmp_path, checkout) == kept
    assert (kept / "omr/cli.py").stat().st_mtime_ns == at
    (kept / "omr/cli.py").chmod(0o644)
    (kept / "omr/cli.py").write_text("altered\n")
    assert snapshot.code_id(snapshot.keep(tmp_path, checkout)) == snapshot.code_id(checkout)


def test_code_that_changes_during_a_command_is_not_kept(checkout, tmp_path, monkeypatch):
    monkeypatch.setattr(settings, "ROOT", checkout)
    began = snapshot.code_id()
    (checkout / "omr/cli.py").write_text("pulled meanwhile\n")
    assert snapshot.code_id() == began != snapshot.code_id(checkout)
    with pytest.raises(OmrError, match="was changed while this command ran; run it again"):
        snapshot.keep(tmp_path / "run")
    assert not any((tmp_path / "run/code").iterdir())


def test_this_checkout_is_a_few_megabytes():
    files = list(snapshot.code_files(ROOT))
    assert len(files) > 100 and sum(file.stat().st_size for file in files) < 5e6
    assert ROOT / "omr/run/snapshot.py" in files and ROOT / "slurm/train.sbatch" in files
