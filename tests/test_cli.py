"""What people read in columns is the same plain text everywhere, and a failure is one line."""

import errno

import click
import pytest

from omr import cli
from omr.containers import checks


def test_columns_are_as_wide_as_what_is_in_them():
    rows = [["cot", "1,200 ± 7"], ["genselect", "3"]]
    assert cli.aligned(rows, ["split", "tokens"]) == [
        "split      tokens",
        "cot        1,200 ± 7",
        "genselect  3",
    ]
    assert cli.aligned(rows, right=True) == ["      cot  1,200 ± 7", "genselect          3"]


@pytest.mark.parametrize("cell", ["x" * 500, "[red]no markup[/red]", ":smile:", "größe ∑"])
def test_nothing_is_wrapped_or_interpreted(monkeypatch, cell):
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.aligned([["a", cell]]) == [f"a  {cell}"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\nb", r"a\nb"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\u202e", r"\u202e"),
        ("\udcff", r"\udcff"),
        ("größe …", "größe …"),
    ],
)
def test_an_error_is_one_line_whatever_it_names(capsys, name, said):
    with pytest.raises(SystemExit):
        cli._end(f"{name}: is not there", 1)
    assert capsys.readouterr().err == f"error: {said}: is not there\n"


def test_checks_stand_in_columns():
    assert checks.ok("shuf", "9.1").line() == "ok        shuf              9.1"
    assert checks.missing("flock", "not installed", "install util-linux").line() == (
        "missing   flock             not installed  (install util-linux)"
    )


RUST = 'Error while serializing: I/O error: No space left on device (os error 28) at path "/w/.tmpL5w"'


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/w/a"), "/w/a: Read-only file system; set WORKSPACE"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/checkout/a", None, "/w/code/a"),
            "/w/code/a: No space left on device; free some",
        ),  # as shutil.copy2 raises it
        (
            RuntimeError(RUST),
            "/w/.tmpL5w: No space left on device; free some space",
        ),  # as safetensors raises it
        (
            RuntimeError("No space left on device (os error 28)"),
            "writing: No space left on device; free some",
        ),
        (MemoryError(), "this machine's memory ran out; "),
    ],
)
def test_what_the_machine_lacks_is_one_line(error, said, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["model.py"])

    @click.command()
    def fail():
        raise error

    with pytest.raises(SystemExit) as ended:
        cli.main(fail)
    assert ended.value.code == 1 and capsys.readouterr().err.startswith(f"error: {said}")


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch):
    monkeypatch.setattr("sys.argv", ["model.py"])

    @click.command()
    def fail():
        raise ValueError("a slip")

    with pytest.raises(ValueError, match="a slip"):
        cli.main(fail)
