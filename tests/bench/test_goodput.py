"""The table of goodput: its ways, and its intervals."""

from dataclasses import asdict

from bench import goodput, scale
from omr.settings import ROOT


def test_the_interval_shrinks_with_the_seeds():
    assert goodput.percent([0.5, 0.7] * 10).startswith("60.0 ± ")
    few, many = (float(goodput.percent([0.5, 0.7] * n).split()[-1]) for n in (10, 1000))
    assert many < few / 5


def test_every_way_stands_in_the_table():
    lines = goodput.by_model(3).splitlines()
    assert len(lines) == 4 + len(goodput.WITHOUT) and len({line.count("|") for line in lines}) == 1


def test_each_rule_is_taken_away_by_itself():
    ours = asdict(goodput.TOOLKIT)
    for what, policy in goodput.WITHOUT.items():
        assert sum(asdict(policy)[name] != value for name, value in ours.items()) == 1, what
    taken = {
        name for policy in goodput.WITHOUT.values() for name in ours if asdict(policy)[name] != ours[name]
    }
    assert taken == set(ours)


def test_every_table_stands_in_the_page():
    page = (ROOT / "docs" / "scale.md").read_text()
    for word in (*scale.TABLES, *goodput.TABLES):
        assert f"<!-- {word} -->" in page and f"<!-- /{word} -->" in page
