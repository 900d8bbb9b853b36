#!/usr/bin/env python3
"""`make completion`: bash completes make's targets, settings and their values, in this toolkit's folder.

Once for a shell, or as a line of ~/.bashrc:
    source <(make --silent -C FOLDER completion)
"""

import re

import click

from omr import cli, recipe, settings
from omr.settings.setting import Setting

MAKEFILE = settings.ROOT / "Makefile"
FUNCTION = """\
_omr_make() {
    # Another project's make completes as it did before.
    if [[ ! -f bin/completion.py || ! -f docker/run ]]; then
        ! declare -F _make >/dev/null || _make "$@"
        return
    fi
    # bash takes NAME=value for three words.
    local word=${COMP_WORDS[COMP_CWORD]} name=
    if [[ $word == = ]]; then
        name=${COMP_WORDS[COMP_CWORD - 1]} word=
    elif ((COMP_CWORD > 1)) && [[ ${COMP_WORDS[COMP_CWORD - 1]} == = ]]; then
        name=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    local words=
    case $name in
    '')
        words='@words@'
        ;;
@cases@
    *)
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
        return
        ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
    [[ ${COMPREPLY[0]-} != *= ]] || compopt -o nospace
}
complete -F _omr_make make
"""


def choices(setting: Setting) -> list[str]:
    """The values that a setting can have, by its row or the recipe; 1 for a switch, none for text."""
    variants = [row.variant for row in recipe.ROUNDS.values() if row.variant]
    tables = {"MODEL": recipe.MODELS, "DATASET": recipe.CORPORA, "VARIANT": variants}
    return ["1"] if setting.kind == "switch" else list(tables.get(setting.name, setting.choices))


def targets() -> list[str]:
    """The Makefile's documented targets."""
    return re.findall(r"^([a-z-]+):.*## ", MAKEFILE.read_text(), re.MULTILINE)


def script() -> str:
    """The bash function."""
    known = [s for s in settings.SETTINGS.values() if not s.secret]
    words = [*targets(), *(f"{setting.name}=" for setting in known)]
    cases = [f"    {s.name}) words='{' '.join(choices(s))}' ;;" for s in known if choices(s)]
    return FUNCTION.replace("@words@", " ".join(words)).replace("@cases@", "\n".join(cases))


@click.command()
def completion() -> None:
    """Print the completion for bash."""
    click.echo(script(), nl=False)


if __name__ == "__main__":
    cli.main(completion)
