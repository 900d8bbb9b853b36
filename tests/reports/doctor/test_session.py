"""Clock, time zone, locale, umask and .env: each row as it should be, and with a fault."""

import os
import time

import pytest

from omr.reports.doctor import session

from .kit import held


@pytest.mark.parametrize(
    ("of_files", "synchronized", "state", "said"),
    [
        (1000.5, "yes", "ok", "by a time server"),
        (None, None, "ok", "nobody says"),
        (1000.0, "no", "warn", "kept by no time server"),
        (1010.0, "yes", "warn", "10 s apart"),
        (800.0, "yes", "fix", "200 s apart"),
    ],
)
def test_clock(of_files, synchronized, state, said):
    held(session.clock(of_files, 1000.0, synchronized), state, said, "timedatectl" if state != "ok" else "")


def test_the_clock_of_a_file_system_is_read_from_a_file_that_is_gone_again(tmp_path):
    assert abs(session.file_clock(tmp_path) - time.time()) < 5 and not list(tmp_path.iterdir())
    assert session.file_clock(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    ("name", "state", "said"),
    [
        (None, "ok", "UTC"),
        ("Europe/Berlin", "ok", "UTC"),
        ("UTC0", "ok", "UTC"),
        ("Europe/Berln", "warn", "TZ=Europe/Berln is none"),
    ],
)
def test_time_zone(name, state, said):
    held(session.zone(name), state, said, "" if state == "ok" else "TZ")


@pytest.mark.parametrize(
    ("environ", "state", "said"),
    [
        ({}, "ok", "C"),
        ({"LANG": "C.UTF-8"}, "ok", "C.UTF-8"),
        ({"LC_ALL": "xx_YY.UTF-8"}, "warn", "xx_YY.UTF-8 is not installed"),
    ],
)
def test_locale(monkeypatch, environ, state, said):
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    held(session.language(), state, said, "" if state == "ok" else "export LC_ALL=")


@pytest.mark.parametrize(
    ("mask", "state"), [(0o022, "ok"), (0o077, "ok"), (0o002, "ok"), (0o000, "warn"), (0o777, "fix")]
)
def test_umask(mask, state):
    before = os.umask(mask)
    try:
        held(session.umask(), state, f"{mask:03o}", "" if state == "ok" else "umask 022")
        assert os.umask(mask) == mask  # as it was
    finally:
        os.umask(before)


@pytest.mark.parametrize(("mode", "state"), [(0o644, "fix"), (0o600, "ok")])
def test_secrets_that_others_may_read(tmp_path, monkeypatch, mode, state):
    file = tmp_path / ".env"
    file.write_text("HF_TOKEN=hf_x\n")
    file.chmod(mode)
    monkeypatch.setenv("OMR_ENV_FILE", str(file))
    held(session.env_file(), state, str(file), "" if state == "ok" else f"chmod 600 {file}")
    monkeypatch.setenv("OMR_ENV_FILE", str(tmp_path / "none"))
    held(session.env_file(), "ok", "none")


@pytest.mark.parametrize(
    ("value", "state", "said"),
    [
        ("", "ok", "not set"),
        ("https://hooks.example.org/s3cret", "ok", "an address"),
        ("http://127.0.0.1:9/s3cret", "ok", "an address"),
        ("http://hooks.example.org/s3cret", "warn", "anybody between"),
        ("tell 's3cret", "warn", "quotes are not closed"),
        ("/nowhere/s3cret now", "warn", "not here"),
        ("env s3cret", "ok", "a command"),
    ],
)
def test_who_is_told_when_a_run_ends(monkeypatch, value, state, said):
    monkeypatch.setenv("NOTIFY", value)
    check = session.notification()
    assert check.state == state and said in check.found
    assert "s3cret" not in check.line() and (check.state == "ok" or check.advice)
