"""What an error's line advises can be done, and then the command goes on.

`test_an_advice_works` shows faults, does what each line says, and runs the command again. The tests before it
look at every error line of the code: a target or a setting that it names is there.
"""

import ast
import contextlib
import importlib.util
import io
import json
import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import pytest

from omr import cli, recipe, settings
from omr.settings import ROOT
from omr.workspace import RunFolder, Workspace
from tests.data.kit import Inline, InlineChild

ERRORS = {"OmrError", "RequestError", "NoJobId", "Held", "Lost"}


def texts():
    """Every text of an error that is raised, its values as `…`: (file:line, text)."""
    for path in (*sorted((ROOT / "omr").rglob("*.py")), *sorted((ROOT / "bin").glob("*.py"))):
        for node in ast.walk(ast.parse(path.read_text())):
            name = (
                getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            )
            if name in ERRORS and node.args:
                parts = [
                    n for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant | ast.FormattedValue)
                ]
                parts.sort(key=lambda n: (n.lineno, n.col_offset))
                text = "".join(n.value if isinstance(getattr(n, "value", 0), str) else "…" for n in parts)
                yield f"{path.relative_to(ROOT)}:{node.lineno}", text


@pytest.mark.slow
def test_the_lines_are_found():
    assert len(list(texts())) > 250


@pytest.mark.slow
def test_what_a_line_names_is_there():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    words = set(settings.SETTINGS) | {"NEMO_RL_SOURCE", "NEMO_SKILLS", "STAGE", "BENCHMARK"}
    for place, text in texts():
        for target in re.findall(r"\b(?:run|then|or|;|same) make ([a-z-]+)(?= [A-Z]|[ ;,:)]|$)", text):
            assert target in targets | {"it", "room", "the"}, f"{place}: make {target}"
        for word in re.findall(r"\b([A-Z][A-Z_]{3,})=", text):
            assert word in words, f"{place}: {word}="


# Faults, and what is done about them. ---------------------------------------------------------------


@dataclass
class Site:
    """A workspace, and what is typed in it."""

    root: Path
    words: dict[str, str] = field(default_factory=dict)  # what every command has beside its own

    @property
    def run(self) -> RunFolder:
        return Workspace(self.root).run(recipe.run("tiny", 1))

    def make(self, line: str) -> tuple[int, str]:
        """`make average MODEL=tiny`, by its script in this process; its exit code and last line."""
        target, *given = line.split()
        path = ROOT / "bin" / f"{target.replace('-', '_')}.py"
        spec = importlib.util.spec_from_file_location("script", path)
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        clean = {n: v for n, v in os.environ.items() if n not in settings.SETTINGS}
        words = {**self.words, **dict(word.split("=", 1) for word in given)}
        common = {"WORKSPACE": str(self.root), "OMR_ENV_FILE": "/dev/null", "HF_HUB_OFFLINE": "1"}
        out, err, code = io.StringIO(), io.StringIO(), 0
        with (
            mock.patch.dict(os.environ, {**clean, **common, **words}, clear=True),
            mock.patch.object(sys, "argv", [path.name]),
            mock.patch("omr.data.process_pool.workers", lambda count: contextlib.nullcontext(Inline())),
            mock.patch("omr.data.process_pool.Child", InlineChild),
            mock.patch("omr.training.stage._train", side_effect=AssertionError("nothing is trained again")),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                cli.main(script.main)
            except SystemExit as stop:
                code = stop.code or 0
        return code, (err.getvalue() if code else out.getvalue()).strip().rpartition("\n")[2]


def follow(site: Site, line: str, command: str, advice: str) -> str:
    """Do what `advice`, a part of the line, says; returns the command to go on with."""
    assert advice in line, line
    if re.match(r"(and )?remove|move it away", advice):
        path = Path(line.removeprefix("error: ").partition(":")[0])
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif found := re.search(r"make ([a-z-]+(?: [A-Z]+=[\w.]+)*)", advice):
        words = found[1] if "=" in found[1] else f"{found[1]} {OF[found[1]]}"
        if words.split() != command.split():
            code, said = site.make(words)
            assert code == 0, said
    elif found := re.search(r"(?:leave|unset) ([A-Z]+)", advice):
        command = re.sub(rf" {found[1]}=\S+", "", command)
    elif found := re.search(r"([A-Z]+)=([\w.]+|…)", advice):
        command = f"{re.sub(rf' {found[1]}=[^ ]+', '', command)} {found[1]}={found[2].replace('…', 'mine')}"
    return command


# The words that a target needs, where a line leaves them to the user.
OF = {
    "model": "MODEL=tiny",
    "train": "MODEL=tiny",
    "average": "MODEL=tiny",
    "data": "DATASET=tiny LIMIT=9 NAME=x",
    "data-report": "DATASET=tiny NAME=x",
}
DATA, AVERAGE, TRAIN = (f"{target} {OF[target]}" for target in ("data", "average", "train"))
HF = "runs/tiny/round1/hf/step_340"


def write(name, text):
    def plant(site):
        (site.root / name).parent.mkdir(parents=True, exist_ok=True)
        (site.root / name).write_text(text)

    return plant


def gone(name):
    def plant(site):
        path = site.root / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return plant


def flip(name):
    """Change a byte in the middle of a file."""

    def plant(site):
        path = site.root / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    return plant


def cut(name):
    def plant(site):
        path = site.root / name
        os.truncate(path, path.stat().st_size - 1)

    return plant


def without(name, key):
    """Take a key out of a JSON file."""

    def plant(site):
        path = site.root / name
        path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != key}))

    return plant


def nothing(site):
    pass


# name: what is planted, the command that is refused, and the advice of each of its lines, one after the other
WEIGHTS = "model.safetensors"
AGAIN = "remove it and run the stage again"
GO_ON = "remove it, and the same make train goes on from the checkpoints"
CASES = {
    "a base of other bytes": (flip(f"models/tiny/{WEIGHTS}"), TRAIN, ["make model makes it again"]),
    "a base that is cut": (cut(f"models/tiny/{WEIGHTS}"), "passport MODEL=tiny", ["make model"]),
    "a base without its manifest": (gone("models/tiny/manifest.json"), TRAIN, ["run make model MODEL=tiny"]),
    "a base whose manifest is no JSON": (
        write("models/tiny/manifest.json", "{"),
        TRAIN,
        [AGAIN, "run make model MODEL=tiny"],
    ),
    "a base whose manifest lacks its files": (
        without("models/tiny/manifest.json", "files"),
        TRAIN,
        [AGAIN, "run make model MODEL=tiny"],
    ),
    "a converted step of other bytes": (flip(f"{HF}/{WEIGHTS}"), AVERAGE, ["make train converts it again"]),
    "a converted step that is cut": (cut(f"{HF}/{WEIGHTS}"), AVERAGE, ["make train"]),
    "a converted step half-written": (gone(f"{HF}/manifest.json"), AVERAGE, ["make train converts it again"]),
    "a converted step's manifest": (
        write(f"{HF}/manifest.json", "[]"),
        AVERAGE,
        [AGAIN, "make train converts it again"],
    ),
    "a converted step gone": (gone(HF), AVERAGE, ["make train"]),
    "a folder that is no step": (write("runs/tiny/round1/hf/mine/x", ""), AVERAGE, ["move it away"]),
    "run.json is no JSON": (
        write("runs/tiny/round1/run.json", "{"),
        AVERAGE,
        [AGAIN, "run make train MODEL=tiny"],
    ),
    "run.json lacks its code": (
        without("runs/tiny/round1/run.json", "code"),
        AVERAGE,
        [GO_ON, "run make train MODEL=tiny"],
    ),
    "jobs.json is damaged": (
        write("runs/tiny/round1/jobs.json", '{"jobs": 1}'),
        "status MODEL=tiny",
        ["remove it"],
    ),
    "links.json is damaged": (
        write("runs/tiny/round1/links.json", '{"attempts": 1}'),
        "status MODEL=tiny",
        ["remove it"],
    ),
    "a variant of round 1": (nothing, "plan MODEL=tiny VARIANT=paper", ["leave VARIANT out"]),
    "steps without a name": (nothing, "plan MODEL=tiny STEPS=8", ["add NAME=…"]),
    "a model that is none": (
        nothing,
        "passport MODEL=tinny",
        [
            "choose tiny",
        ],
    ),
    "rows of a limit": (nothing, "data DATASET=tiny LIMIT=9", ["add NAME=…"]),
    "data of other inputs, anew": (nothing, f"{DATA} SEED=1", ["FORCE=1 makes it anew"]),
    "data of other inputs, beside it": (nothing, f"{DATA} SEED=1", ["NAME=… beside it"]),
    "data whose manifest is damaged": (write("data/tiny-round1-x.manifest.json", "{}"), DATA, [AGAIN]),
    "data of a folder that is not there": (nothing, f"{DATA} RAW=/nowhere FORCE=1", ["unset RAW"]),
    "lengths that are damaged": (
        write("data/tiny-round1-x.lengths.json", "{}"),
        "data-report DATASET=tiny NAME=x",
        ["FORCE=1"],
    ),
    "too little memory": (nothing, f"{DATA} FORCE=1 MEMORY=1M", ["needs "]),
    "a recipe that is not there": (nothing, "plan MODEL=7b RECIPE=mine.toml", ["make new-recipe NAME=mine"]),
}
DONE_BY_HAND = {"a model that is none": ("tinny", "tiny")}


@pytest.fixture
def site(trained, tmp_path, monkeypatch):
    """The tiny recipe trained up to its converted steps, with a small file of data beside its own."""
    workspace, _ = trained
    monkeypatch.chdir(tmp_path)
    return Site(workspace.root)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_an_advice_works(name, site):
    plant, command, advices = CASES[name]
    if "NAME=x" in command:
        code, said = site.make(DATA)
        assert code == 0, said
    plant(site)
    for advice in advices:
        code, line = site.make(command)
        assert code in (1, 2) and line.startswith("error: "), f"{command} goes on: {line}"
        if name in DONE_BY_HAND:
            assert advice in line
            command = command.replace(*DONE_BY_HAND[name])
        elif advice == "needs ":
            command = command.replace("MEMORY=1M", f"MEMORY={line.rpartition(' ')[2]}")
        else:
            command = follow(site, line, command, advice)
    code, line = site.make(command)
    assert code == 0, f"{command}: {line}"
