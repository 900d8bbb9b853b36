"""base -> patch -> train -> convert -> average -> final -> round 2, for real, the passport clean at each.

Then a fault at each station, which the next stage refuses.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from omr import manifest, recipe
from omr.settings import ROOT
from omr.workspace import Workspace

FIRST, SECOND = recipe.run("micro", 1), recipe.run("micro", 2)


class Site:
    """A workspace and the scripts run in it as make runs them."""

    def __init__(self, root):
        self.workspace = Workspace(root)

    def run(self, script, *words):
        env = {**os.environ, "WORKSPACE": str(self.workspace.root), "OMR_ENV_FILE": os.devnull}
        command = [sys.executable, str(ROOT / f"bin/{script}.py"), *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr, done.stderr
        return done.returncode, done.stdout, done.stderr

    def well(self, script, *words):
        code, out, err = self.run(script, *words)
        assert code == 0, err
        return out

    def refused(self, script, *words):
        """The one line of a stage that must fail."""
        code, _, err = self.run(script, *words)
        assert code in (1, 2)
        return next(line for line in err.splitlines() if line.startswith("error:"))


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Both rounds of the micro row, trained for real."""
    made = Site(tmp_path_factory.mktemp("round-trip"))
    for number in "12":
        made.well("data", "--dataset", "tiny", "--round", number)
    made.well("model", "--model", "micro")
    for number in "12":
        made.well("train", "--model", "micro", "--round", number)
    return made


@pytest.mark.slow
def test_clean_at_each_station(site):
    for number, before in (("1", ["base", "patched"]), ("2", ["its average", "round 1"])):
        told = json.loads(site.well("passport", "--model", "micro", "--round", number, "--json"))
        run = recipe.run("micro", number)
        assert list(told["stations"]) == [
            *before,
            *(f"step_{n}" for n in run.schedule.averaged),
            "average",
            "final",
        ]
        assert told["faults"] == []
        assert {facts["rope_theta"] for facts in list(told["stations"].values())[1:]} == {500000.0}
    first, second = (site.workspace.run(run).final for run in (FIRST, SECOND))
    assert manifest.read(first)["checked_rows"] == {"cot": 3, "tir": 3, "genselect": 3}
    request = json.loads((second.parent / "run.json").read_text())["request"]
    assert request["base"]["path"] == str(first)
    assert (first / "model.safetensors").read_bytes() != (second / "model.safetensors").read_bytes()


@pytest.fixture
def spare(site):
    """The site, which is put back as it was after a test has spoilt it."""
    root = site.workspace.root
    aside = root.with_name("aside")
    shutil.copytree(root, aside)
    yield site
    shutil.rmtree(root)
    aside.rename(root)


@pytest.mark.slow
def test_pruned_it_stands_on_its_own(spare):
    assert spare.well("prune", "--model", "micro", "--yes").endswith("removed\n")
    assert not list(spare.workspace.run(FIRST).checkpoints.iterdir())
    assert "finished already" in spare.well("train", "--model", "micro")
    assert "finished already" in spare.well("average", "--model", "micro")
    assert spare.well("passport", "--model", "micro")


def spoil(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def base(w):
    """What BASE= brings is of another architecture."""
    shutil.copytree(w.model("micro"), w.root / "base")
    spoil(w.root / "base/config.json", "Qwen2ForCausalLM", "LlamaForCausalLM")
    shutil.rmtree(w.model("micro"))


def again(w):
    """Round 1 is to be averaged again."""
    shutil.rmtree(w.run(FIRST).final)


def step(w):
    again(w)
    spoil(w.run(FIRST).hf_step(16) / "tokenizer_config.json", "<|endoftext|>", "<|im_end|>")


def checkpoint(w):
    again(w)
    shutil.rmtree(w.run(FIRST).hf)
    spoil(w.run(FIRST).checkpoint(16) / "config.json", "500000", "10000")


def averaged(w):
    """One bit of what is to be averaged, which no header tells."""
    again(w)
    path = w.run(FIRST).hf_step(20) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


def untrained(w):
    shutil.rmtree(w.run(SECOND).root)


def patched(w):
    shutil.rmtree(w.run(FIRST).root)
    spoil(w.model("micro") / "config.json", "500000.0", "10000")


def final(w):
    untrained(w)
    spoil(w.run(FIRST).final / "chat_template.jinja", "system", "sys")


# station: what is planted, the stage after it, what its one line says
PLANTED = [
    (base, ("model", "--base", "base"), "architecture is LlamaForCausalLM, the recipe says Qwen2ForCausalLM"),
    (patched, ("train",), "models/micro/config.json: is not the file that"),
    (checkpoint, ("average",), "make train brings them"),
    (checkpoint, ("convert",), "step_16: is damaged (config.json has"),
    (step, ("average",), "hf/step_16/tokenizer_config.json: changed since step_16 was converted"),
    (averaged, ("average",), "hf/step_20/model.safetensors: changed since step_20 was converted"),
    (final, ("train", "--round", "2"), "final/chat_template.jinja: is not the file that"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "stage", "line"), PLANTED)
def test_a_fault_at_each_station_is_refused_by_the_next(spare, plant, stage, line):
    plant(spare.workspace)
    script, *words = stage
    words = [str(spare.workspace.root / "base") if word == "base" else word for word in words]
    assert line in spare.refused(script, "--model", "micro", *words)
