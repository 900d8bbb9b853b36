"""Draws runs while they go on: in place in a terminal, as lines in a log."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from omr.reports.watch import draw, keys, looks
from omr.reports.watch.looks import Look, Watched

IN_A_TERMINAL, IN_A_LOG = 3.0, 30.0  # seconds between two looks
HINT = "q leaves; what is shown goes on"
Say = Callable[[str], None]


def watch_run(watched: Watched, say: Say) -> None:
    """Stay with one run until it ends."""
    _watch(lambda: [watched.look()], draw.page, say)


def watch_all(root: Path, say: Say) -> None:
    """Stay with every active run of the workspace, a line each, until all have ended."""
    runs = looks.active(root)
    if not runs:
        say(f"{root}: no run is active; make status lists all, make train begins one")
        return
    _watch(lambda: [each.look() for each in runs], lambda look, marks: [_in_a_line(look, marks)], say)


def _in_a_line(look: Look, marks: str) -> str:
    ending = draw.end(look)
    return f"{look.title}: {ending}" if ending else draw.line(look, marks)


def _watch(look: Callable[[], list[Look]], drawn: Callable[[Look, str], list[str]], say: Say) -> None:
    if sys.stdout.isatty():
        _in_a_terminal(look, drawn)
    else:
        _in_a_log(look, say)


def _in_a_log(look: Callable[[], list[Look]], say: Say) -> None:
    """A line whenever a run has moved, and every new event."""
    shown: dict[str, str] = {}
    events: dict[str, Sequence[str]] = {}
    while True:
        found = look()
        for each in found:
            story, before = each.status.story, events.get(each.title, [])
            for event in [event for event in story if event not in before]:
                say(f"{each.title}: {event}")
            events[each.title] = story
            text = draw.line(each, width=0)
            if text != shown.get(each.title):
                say(text)
            shown[each.title] = text
        if not any(each.live for each in found):
            for each in found:
                say(f"{each.title}: {draw.end(each)}")
            return
        if keys.leave_within(IN_A_LOG):
            return


def _in_a_terminal(look: Callable[[], list[Look]], drawn: Callable[[Look, str], list[str]]) -> None:
    """A block of lines that is drawn again where it changed; none of them is wrapped."""
    console = Console(highlight=False)
    marks = draw.BLOCKS if "utf" in console.encoding else draw.LETTERS
    live, size, shown = Live(console=console, auto_refresh=False), console.size, None
    with keys.single():
        try:
            live.start()
            while True:
                found = look()
                goes_on = any(each.live for each in found)
                lines = [line for each in found for line in drawn(each, marks)]
                lines += [HINT] if goes_on else []
                if console.size != size:
                    # What is shown was wrapped by a terminal that became narrower: nobody knows its height.
                    live.stop()
                    console.clear()
                    live, size, shown = Live(console=console, auto_refresh=False), console.size, None
                    live.start()
                if lines != shown:
                    texts = [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
                    live.update(Group(*texts), refresh=True)
                    shown = lines
                if not goes_on or keys.leave_within(IN_A_TERMINAL):
                    return
        finally:
            live.stop()
