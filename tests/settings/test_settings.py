"""One reader of .env, and .env.example held against it."""

import re
from pathlib import Path

import hypothesis
import pytest
from hypothesis import strategies as st

from omr import settings
from omr.errors import RequestError

EXAMPLE = settings.ROOT / ".env.example"


@pytest.mark.parametrize(
    "line, value",
    [
        ("OVERRIDES=plain", "plain"),
        ("OVERRIDES=a$b${HOME}$(id)`id`", "a$b${HOME}$(id)`id`"),
        ("OVERRIDES=a=b==", "a=b=="),
        ("OVERRIDES='a #b'", "a #b"),
        ('OVERRIDES="a # b"', "a # b"),
        ("OVERRIDES=a # a comment", "a"),
        ("export OVERRIDES=a", "a"),
        ("OVERRIDES=", ""),
        ("OVERRIDES='größe ∑'", "größe ∑"),
        ("\ufeffOVERRIDES=after a byte order mark", "after a byte order mark"),
        ("OVERRIDES=crlf\r", "crlf"),
    ],
)
def test_values_are_data(tmp_path, line, value):
    file = tmp_path / ".env"
    file.write_bytes(f"{line}\n\n# comment\nPARTITION=p\n".encode())
    assert settings.read(file) == {"OVERRIDES": value, "PARTITION": "p"}


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
        ("\n# x\nTIME=soon\n", ":3: TIME=soon is no time limit of Slurm's; write 90 (minutes)"),
        ("ACCOUNT=“a”\n", ":1: ACCOUNT=“a” has a typographic quote (“), which quotes nothing; write"),
        ("CONTAINER=/a.sqsh\u200b\n", ":1: CONTAINER='/a.sqsh\\u200b' has an invisible character (U+200B)"),
        ("Account=a\n", ":1: Account is no setting (did you mean ACCOUNT?)"),
        ("HF_TOKEN=“hf_secret”\n", ":1: HF_TOKEN has a typographic quote (“), which quotes nothing; write"),
        ("PARTITION='a, b'\n", ":1: PARTITION=a, b is no name, nor names with commas between; use"),
        ("RUNNER=slrum\n", ":1: RUNNER=slrum is unknown; choose host, docker or slurm"),
        ("MARGIN=soon\n", ":1: MARGIN=soon is not a whole number from 0 up"),
        ("QOS='a\nb'\n", ":1: QOS='a\\nb' is no name, nor names"),
        ("APT_MIRROR=ftp://me:secret@x\n", ":1: APT_MIRROR=ftp://…@x is no address; write it with https://"),
        (
            "HF_ENDPOINT=https://me:secret@x/hf\n",
            ":1: HF_ENDPOINT=https://…@x/hf is no address; write it with",
        ),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, said):
    file = tmp_path / ".env"
    file.write_text(text)
    with pytest.raises(RequestError) as refused:
        settings.read(file)
    assert str(refused.value).startswith(f"{file}{said}")
    assert "\n" not in str(refused.value) and "secret" not in str(refused.value)


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
    for lock in ("ray", "nemo-rl"):
        text = Path(settings.ROOT / f"docker/{lock}.lock").read_text()
        assert f"\nray=={pins['RAY_VERSION']} " in text
        assert "\ntorch==" not in text


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


def test_every_row_of_the_table_is_sound():
    for setting in settings.SETTINGS.values():
        assert setting.kind in ("text", "number", "switch") and setting.path in (None, "input", "output")
        assert setting.default is None or not setting.choices or setting.default in setting.choices
        assert all(choice in setting.text or setting.name == "RUNNER" for choice in setting.choices)
        assert setting.kind != "number" or setting.default is None or setting.number(setting.default) >= 0
        assert setting.text.startswith("1: ") is (
            setting.kind == "switch" or setting.name == "HF_HUB_OFFLINE"
        )
        assert not setting.secret or setting.machine


def test_what_the_table_says_of_paths_and_jobs():
    assert set(settings.paths("input")) == {
        *(
            "RECIPE",
            "RAW",
            "BASE",
            "DROP",
            "VALIDATION",
            "PROBLEMS",
            "TOKENIZER",
            "LENGTH_TOKENIZER",
            "CA_BUNDLE",
        )
    }
    assert settings.paths("output") == ["WORKSPACE", "HF_HOME"]
    assert {s.name for s in settings.SETTINGS.values() if not s.for_jobs} == {
        *("DRY_RUN", "FORCE", "JSON", "FOLLOW", "YES", "NUM_TRAINING_JOBS", "LAUNCHER", "RUNNER", "EVAL"),
        *("Q", "NEMO_RL_SOURCE", "FROM", "RECODE", "FOR", "ASK", "COUNT", "ROWS"),
    }
    assert {s.name for s in settings.SETTINGS.values() if s.of_run} == {
        *("RECIPE", "MODEL", "ROUND", "VARIANT", "EDITION", "NAME", "STEPS", "LIMIT", "MODES"),
        *("ENGINE", "OVERRIDES", "SEED", "RECOVERY"),
    }


@pytest.mark.parametrize(("name", "text", "number"), [("NODES", "3", 3), ("GPUS", "0", 0), ("SHARDS", "", 1)])
def test_numbers(monkeypatch, name, text, number):
    monkeypatch.setenv(name, text)
    assert settings.number(name) == number


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("TIME", "soon", "TIME=soon is no time limit of Slurm's; write"),
        ("ACCOUNT", "my account", "ACCOUNT=my account is no plain name; use"),
        ("RUNNER", "cluster", "RUNNER=cluster is unknown; choose host, docker or slurm"),
        ("WORKSPACE", "“/x”", "WORKSPACE=“/x” has a typographic quote"),
    ],
)
def test_a_value_of_the_environment_is_checked_where_it_is_read(monkeypatch, name, text, told):
    monkeypatch.setenv(name, text)
    with pytest.raises(RequestError, match=f"^{told}"):
        settings.get(name)


LINES = st.text(st.sampled_from("TIMEACOUN_=:;'\"“ \t\n#\\$0123456789a/,é\0-"), max_size=20)


@hypothesis.settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
)
@hypothesis.given(st.lists(st.tuples(st.sampled_from(["", *settings.SETTINGS]), LINES), max_size=3))
def test_any_file_is_read_or_refused_in_one_line(tmp_path, lines):
    file = tmp_path / ".env"
    file.write_text("\n".join(f"{name}={text}" if name else text for name, text in lines))
    try:
        values = settings.read(file)
    except RequestError as refused:
        assert re.match(rf"{file}:\d+: ", str(refused)) and len(str(refused).splitlines()) == 1
    else:
        assert all(settings.SETTINGS[name].check(value) is None for name, value in values.items() if value)


@pytest.mark.parametrize(
    ("name", "text", "least"), [("NODES", "0", 1), ("SHARDS", "two", 1), ("GPUS", "-1", 0)]
)
def test_what_is_no_number_is_refused(monkeypatch, name, text, least):
    monkeypatch.setenv(name, text)
    with pytest.raises(RequestError, match=f"^{name}={text} is not a whole number from {least} up"):
        settings.number(name)


def test_an_option_follows_the_table(tmp_path):
    """A choice, a number and a switch, by option or by the environment."""
    import click
    from click.testing import CliRunner

    from omr import cli

    @click.command()
    @cli.options("STATS", "SHARDS", "VERIFY", "RAW")
    def command(**given):
        click.echo(repr(given))

    def said(*argv, **environ):
        done = CliRunner().invoke(command, argv, env=environ)
        return str(done.exception) if done.exception else done.output.strip()

    assert said() == "{'stats': None, 'shards': 1, 'verify': False, 'raw': None}"
    assert said("--stats", "sample", SHARDS="4", VERIFY="1", RAW="/r") == (
        "{'stats': 'sample', 'shards': 4, 'verify': True, 'raw': '/r'}"
    )
    assert said(STATS="some") == "STATS=some is unknown; choose full or sample"
    assert said("--shards", "0") == "SHARDS=0 is not a whole number from 1 up"
