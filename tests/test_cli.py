"""What people read in columns is the same plain text everywhere."""

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
