"""What a browser makes of the pages: nothing fetched, nothing wrong, no sideways scroll on a telephone."""

import pytest

from omr.errors import OmrError, RequestError
from omr.reports import browser
from omr.reports.run import page as run_page
from omr.reports.workspace import inventory, page
from omr.workspace import Workspace
from tests.reports import kit

needs_browser = pytest.mark.skipif(
    browser.installed() is None, reason="Chromium is not installed (Debian's package chromium)"
)
# Counts of what a reader could not see: marks without their symbol, letters too small.
UNSEEN = "[...document.querySelectorAll('use')].filter(u => !u.getBBox().width && !u.getBBox().height).length"
SMALL = (
    "[...document.querySelectorAll('text')].filter(t => parseFloat(getComputedStyle(t).fontSize) < 10).length"
)
WIDTH = "document.scrollingElement.scrollWidth"
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A finished run, a long chain under faults, a run that has only begun, and their workspace."""
    root = tmp_path_factory.mktemp("pages")
    folders = []
    for name, steps in (("page", 8), ("long", 30_000), ("begun", 8)):
        folders.append(kit.begin(root, steps, name)[1])
    kit.finish(folders[0])
    kit.long_chain(folders[1])
    for folder in folders:
        run_page.write(run_page.look(folder))
    page.write(inventory.take(Workspace(root)), Workspace(root))
    return [*(folder.report for folder in folders), Workspace(root).report]


@pytest.fixture(scope="module")
def chromium():
    with browser.browser() as found:
        yield found


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize("number", range(4), ids=["finished", "long", "begun", "workspace"])
@pytest.mark.parametrize(("width", "dark"), [(390, False), (390, True), (980, False), (980, True)])
def test_a_page_is_whole(chromium, pages, number, width, dark):
    chromium.show(pages[number], width, dark=dark)
    assert chromium.complaints == [] and chromium.fetched == [pages[number].as_uri()]
    assert chromium.value(WIDTH) == width
    assert (chromium.value(PAPER) == "rgb(255, 255, 255)") is not dark
    assert chromium.value(UNSEEN) == chromium.value(SMALL) == 0
    assert chromium.picture().startswith(b"\x89PNG")


@needs_browser
@pytest.mark.slow
def test_it_prints_black_on_white(chromium, pages):
    chromium.show(pages[1], 980, dark=True)
    assert chromium.pdf().startswith(b"%PDF")
    chromium.call("Emulation.setEmulatedMedia", media="print")
    assert chromium.value(PAPER) == "rgb(255, 255, 255)"


@needs_browser
@pytest.mark.slow
def test_faults_of_a_page_are_noticed(chromium, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        "<img src='other.png'><svg><use href='#none'/><text style='font-size:6px'>x</text></svg>"
        "<div style='width:600px'>wide</div><script>undefined.x</script>"
    )
    chromium.show(bad, 390)
    assert len(chromium.fetched) == 2 and chromium.complaints and chromium.value(WIDTH) > 390
    assert chromium.value(UNSEEN) == chromium.value(SMALL) == 1


def test_without_a_browser_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RequestError, match="install Debian's package chromium"), browser.browser():
        pass


def test_one_that_cannot_start_is_one_line(monkeypatch):
    monkeypatch.setattr(browser, "need", lambda: "/bin/false")
    with pytest.raises(OmrError, match=r"^/bin/false ended before its work was done"), browser.browser():
        pass
