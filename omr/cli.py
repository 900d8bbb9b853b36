"""What every script in bin/ shares: settings as click options, and one line for each failure."""

import errno
import functools
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from omr import processes, recipe, settings
from omr.errors import OmrError, RequestError, output_never_fails, printable
from omr.files import writable
from omr.request import TrainRequest
from omr.runner import argument
from omr.settings.setting import Setting
from omr.workspace import Workspace


def option(name: str) -> Callable:
    """A setting as an option of click: `--num_training_jobs`, `--num-training-jobs`, or its variable."""
    setting = settings.SETTINGS[name]
    word = name.lower()
    switch = setting.kind == "switch"
    return click.option(
        *settings.spellings(name),
        word,
        envvar=name,
        default=False if switch else setting.default,
        is_flag=switch,
        type=None if switch else _Value(setting),
        help=setting.text,
        show_default=not switch and setting.default is not None,
        expose_value=name != "RECIPE",  # in force already, see `main`
    )


def options(*names: str) -> Callable:
    """Several of them at once."""
    return lambda function: functools.reduce(lambda made, name: option(name)(made), reversed(names), function)


# What names a run, and what else a training is asked with.
RUN = ("MODEL", "ROUND", "VARIANT", "EDITION", "NAME", "STEPS")
TRAINING = ("ENGINE", "MODES", "LIMIT", "OVERRIDES", "NODES", "GPUS", "RECOVERY")


class _Value(click.ParamType):
    """A setting's value. What is wrong is said of the setting; click would name its option alone."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.name = setting, setting.kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        if self.setting.kind == "number":
            return self.setting.number(str(value))
        if value or self.setting.choices:
            self.setting.check(value)
        return value


def workspace() -> Workspace:
    """The workspace that the settings name; refused when it cannot be written."""
    root = Path(settings.get("WORKSPACE") or "").expanduser().absolute()
    writable(root)
    return Workspace(root)


def run_options(function: Callable | None = None, *, optional: bool = False) -> Callable:
    """The words that name a run; the command gets `run`, a recipe.Run (None: no MODEL)."""
    if function is None:
        return functools.partial(run_options, optional=optional)

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        words = {name.lower(): given.pop(name.lower()) for name in RUN}
        run = None if optional and not words["model"] else _run(**words)
        return function(run=run, **given)

    return options("RECIPE", *RUN)(command)


def train_options(function: Callable) -> Callable:
    """The words of a training; the command gets `request`, a checked TrainRequest."""

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        words = {name.lower(): given.pop(name.lower()) for name in (*RUN, *TRAINING)}
        return function(request=train_request(**words), **given)

    return options("RECIPE", *RUN, *TRAINING)(command)


def train_request(**words: Any) -> TrainRequest:
    """The words of a training, checked: those of RUN and of TRAINING, in small letters."""
    run = _run(**{name.lower(): words.pop(name.lower()) for name in RUN})
    return TrainRequest.of(run, **words)


def requests_of_all_rounds(model: str | None, variant: str | None, **words: Any) -> list[TrainRequest]:
    """A request for each round that the recipe has for a model; VARIANT is round 2's."""
    rounds = recipe.model(model).rounds
    return [
        train_request(model=model, round=str(number), variant=variant if number == 2 else None, **words)
        for number in rounds
    ]


def _run(
    model: str | None,
    round: str,
    variant: str | None,
    edition: str | None,
    name: str | None,
    steps: int | None,
) -> recipe.Run:
    """The run that the user's words name; STEPS changes the result, so it needs a NAME."""
    if steps and not name:
        raise RequestError(f"STEPS={steps} makes another run than the recipe's; add NAME=… to set it apart")
    return recipe.run(model, round, variant, steps, name, edition)


def aligned(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: bool = False) -> list[str]:
    """A table as lines of plain text, the same in a terminal and a pipe: never wrapped, cropped or coloured.

    Columns are two blanks apart, under `header` where there is one; `right` puts every cell to the right, as
    numbers stand.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for _ in rows[0] if rows else header:
        table.add_column(justify="right" if right else "left", no_wrap=True)
    for row in [header, *rows] if header else rows:
        table.add_row(*map(Text, row))  # text, so that [brackets] are no markup
    page = io.StringIO()
    Console(file=page, width=100_000, color_system=None).print(table)
    return [line.rstrip() for line in page.getvalue().splitlines()]


def main(command: click.Command) -> None:
    """Run a script's command; every foreseen failure is one line on stderr and its exit code."""
    output_never_fails()
    try:
        settings.load()
        recipe.use(argument("RECIPE", sys.argv[1:], os.environ))
        processes.no_advice()
        command.main(standalone_mode=False)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as error:
        _end(error.format_message().replace("\n", " "), 2)
    except OmrError as error:
        _end(str(error), error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _end("interrupted; run the same command again to go on", 130)
    except MemoryError:
        _end("this machine's memory ran out; give the job more, and run the same command again to go on", 1)
    except Exception as error:
        fault = error if isinstance(error, OSError) else _of_library(error)
        if fault is None or fault.errno is None:
            raise
        advice = {
            errno.ENOSPC: "free some space (or inodes: df -i) and run again",
            errno.EDQUOT: "free some of your quota and run again",
            errno.EACCES: "make it accessible and run again",
            errno.EROFS: "set WORKSPACE on a writable disk",
        }.get(fault.errno, "look at this file and its disk, then run again")
        # Of two files (a copy, a rename) the second is the one that could not be written.
        _end(f"{fault.filename2 or fault.filename or 'writing'}: {fault.strerror}; {advice}", 1)


def _of_library(error: Exception) -> OSError | None:
    """The failure of the system that an error of a library written in Rust tells of; None for any other.

    safetensors and tokenizers raise exceptions of their own, with `(os error 28)` in the text.
    """
    number = re.search(r"\(os error (\d+)\)", str(error))
    path = re.search(r'at path "([^"]+)"', str(error))
    return OSError(int(number[1]), os.strerror(int(number[1])), path and path[1]) if number else None


def _end(line: str, code: int) -> None:
    click.echo(f"error: {printable(line)}", err=True)
    sys.exit(code)
