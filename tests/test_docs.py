"""The docs say what the code says, and link to what is there."""

import ast
import re
import sys

import pytest

from omr.settings import ROOT

sys.path.insert(0, str(ROOT / "bin"))
import docs

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.slow
@pytest.mark.parametrize("name", docs.BLOCKS)
def test_generated_blocks_are_fresh(name):
    assert (ROOT / name).read_text() == docs.fresh(ROOT / name), "run make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_and_word_in_the_docs_exists(page):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    words = set(re.search(r"^WORDS := ((?:.*\\\n)*.*)", makefile, re.MULTILINE)[1].replace("\\", " ").split())
    for target, rest in re.findall(
        r"(?:`|^)make ([a-z][a-z-]*)((?: [A-Z_]+=\S*)*)", page.read_text(), re.MULTILINE
    ):
        assert target in targets, f"make {target}"
        assert set(re.findall(r"([A-Z_]+)=", rest)) <= words, f"make {target}{rest}"


def behaviours():
    """Rows of the architecture's table: what happens, in which file, under which name."""
    page = (ROOT / "docs/architecture.md").read_text()
    block = re.search(r"<!-- behaviours -->\n(.*)<!-- /behaviours -->", page, re.DOTALL)[1]
    return re.findall(r"^\| ([^|]+) \| `([^`]+)` \| `([^`]+)` \|$", block, re.MULTILINE)


def test_the_table_of_behaviours_has_at_least_twenty():
    assert len(behaviours()) >= 20


@pytest.mark.parametrize(("what", "file", "name"), behaviours())
def test_each_behaviour_is_where_the_architecture_says(what, file, name):
    tree = ast.parse((ROOT / file).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert name in defined, f"{what}: {file} defines no {name}"
