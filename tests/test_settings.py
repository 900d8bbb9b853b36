"""One reader of .env, and .env.example held against it."""

import re
from pathlib import Path

import pytest

from omr import settings
from omr.errors import RequestError

EXAMPLE = settings.ROOT / ".env.example"


@pytest.mark.parametrize(
    "line, value",
    [
        ("ACCOUNT=plain", "plain"),
        ("ACCOUNT=a$b${HOME}$(id)`id`", "a$b${HOME}$(id)`id`"),
        ("ACCOUNT=a=b==", "a=b=="),
        ("ACCOUNT='a #b'", "a #b"),
        ('ACCOUNT="a # b"', "a # b"),
        ("ACCOUNT=a # a comment", "a"),
        ("export ACCOUNT=a", "a"),
        ("ACCOUNT=", ""),
        ("ACCOUNT='größe ∑'", "größe ∑"),
        ("\ufeffACCOUNT=after a byte order mark", "after a byte order mark"),
        ("ACCOUNT=crlf\r", "crlf"),
    ],
)
def test_values_are_data(tmp_path, line, value):
    file = tmp_path / ".env"
    file.write_bytes(f"{line}\n\n# comment\nPARTITION=p\n".encode())
    assert settings.read(file) == {"ACCOUNT": value, "PARTITION": "p"}


@pytest.mark.parametrize(
    "text, said",
    [
        ("ACCOUNT=a\n\n# x\nnot a line\n", ":4: is not NAME=value"),
        ("ACCOUNT\n", ":1: is not NAME=value"),
        ("\n\nACCOUNT='open\nPARTITION=b\n", ":3: is not NAME=value"),
        ("=x\n", ":1: is not NAME=value"),
        ("ACOUNT=a\n", ":1: ACOUNT is no setting (did you mean ACCOUNT?)"),
        ("ACCOUNT=a\nACCOUNT=b\n", ":2: ACCOUNT is set already in line 1"),
        ("ACCOUNT=a\0b\n", ":1: the value of ACCOUNT has a NUL byte"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, said):
    file = tmp_path / ".env"
    file.write_text(text)
    with pytest.raises(RequestError) as refused:
        settings.read(file)
    assert str(refused.value).startswith(f"{file}{said}")


def test_latin1_is_named(tmp_path):
    file = tmp_path / ".env"
    file.write_bytes(b"ACCOUNT=gr\xf6\xdfe\n")
    with pytest.raises(RequestError, match="is not UTF-8 text"):
        settings.read(file)


def test_precedence(tmp_path):
    file = tmp_path / ".env"
    file.write_text("ACCOUNT=file\nPARTITION=file\nNCCL_DEBUG=INFO\n")
    environ = {"OMR_ENV_FILE": str(file), "ACCOUNT": "environment"}
    settings.load(environ)
    assert environ["ACCOUNT"] == "environment"
    assert environ["PARTITION"] == "file"
    assert environ["NCCL_DEBUG"] == "INFO"


def test_the_example_explains_every_machine_fact_once():
    named = re.findall(r"^#([A-Z_]+)=", EXAMPLE.read_text(), re.MULTILINE)
    assert sorted(named) == sorted(s.name for s in settings.SETTINGS.values() if s.machine)
    for line, before in zip(
        EXAMPLE.read_text().splitlines()[1:], EXAMPLE.read_text().splitlines(), strict=False
    ):
        if re.match(r"#[A-Z_]+=", line):
            assert before.startswith("#"), f"nothing explains {line}"


def test_the_example_uncommented_is_read(tmp_path):
    file = tmp_path / ".env"
    file.write_text(re.sub(r"^#([A-Z_]+=)", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE))
    values = settings.read(file)
    for setting in settings.SETTINGS.values():
        if setting.machine:
            assert setting.name in values
            assert not (setting.secret and values[setting.name])


def test_pins():
    pins = settings.pins()
    assert pins["NEMO_SKILLS_COMMIT"] in Path(settings.ROOT / "pyproject.toml").read_text()
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", pins["TRAIN_BASE_DIGEST"])
    assert f"\nray=={pins['RAY_VERSION']} " in Path(settings.ROOT / "docker/ray.lock").read_text()


@pytest.mark.parametrize(
    ("text", "on"),
    [("1", True), ("yes", True), ("TRUE", True), ("0", False), ("no", False), ("False", False), ("", False)],
)
def test_a_switch_can_be_off(monkeypatch, text, on):
    monkeypatch.setenv("VERIFY", text)
    assert settings.on("VERIFY") is on


@pytest.mark.parametrize("text", ["0", "false", "F", "no", "n", "OFF", "", " no "])
def test_every_word_that_click_takes_for_off_is_off(monkeypatch, text):
    monkeypatch.setenv("DRY_RUN", text)
    assert settings.on("DRY_RUN") is False


def test_a_switch_that_is_neither_is_refused(monkeypatch):
    monkeypatch.setenv("DRY_RUN", "perhaps")
    with pytest.raises(
        RequestError, match="DRY_RUN=perhaps is neither on nor off; set DRY_RUN=1 or DRY_RUN=0"
    ):
        settings.on("DRY_RUN")
