"""What is installed beside what the locks pin."""

import sys
from pathlib import Path

import pytest

from omr.containers import self_test
from omr.errors import RequestError
from omr.reports.doctor import versions
from omr.reports.doctor.machine import look

from .kit import held, row


def test_a_tier_that_is_not_made(tmp_path, monkeypatch):
    monkeypatch.setenv("OMR_VENV", str(tmp_path / "venv"))
    found = versions.locks("data")
    assert [check.name for check in found] == ["cli lock", "data lock"]
    held(row(found, "data lock"), "warn", "not made yet", "run docker/venv data")


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setenv("OMR_VENV", sys.prefix)
    return Path(sys.prefix)


def test_the_versions_of_the_locks(here, monkeypatch):
    """Whatever this Python has: what is asked of each package is played."""
    real = self_test.version
    pinned = dict.fromkeys(("click", "rich"), None)
    for line in (versions.settings.ROOT / "docker/cli.lock").read_text().splitlines():
        if "==" in line:
            name, _, rest = line.partition("==")
            pinned[name] = rest.split()[0]
    monkeypatch.setattr(self_test, "version", lambda name: pinned.get(name, real(name)))
    held(row(versions.locks("cli"), "cli lock"), "ok", "packages as pinned")
    pinned["click"] = "8.0.0"
    check = row(versions.locks("cli"), "cli lock")
    held(check, "warn", f"click=={_lock('click')} is 8.0.0", f"rm {here}/.cli && docker/venv cli")
    pinned.update(dict.fromkeys(pinned, "0"))
    assert "more" in row(versions.locks("cli"), "cli lock").found


def _lock(name):
    text = (versions.settings.ROOT / "docker/cli.lock").read_text()
    return next(line.split()[0] for line in text.splitlines() if line.startswith(f"{name}==")).split("==")[1]


def test_another_torch(here, monkeypatch):
    real = self_test.version
    monkeypatch.setattr(self_test, "version", lambda name: "2.0.0" if name == "torch" else real(name))
    held(row(versions.locks("train"), "torch"), "warn", "2.0.0, pinned is", "docker/venv train")


def test_prompts_of_the_real_corpus(monkeypatch, tmp_path):
    def none():
        raise RequestError(versions.nemo_skills.missing())

    monkeypatch.setattr(versions.nemo_skills, "folder", none)
    [check] = look("nemo-skills", versions.prompts)
    held(check, "fix", "not installed", "run make nemo")
    monkeypatch.setattr(versions.nemo_skills, "folder", lambda: tmp_path)
    held(versions.prompts(), "ok", str(tmp_path))
