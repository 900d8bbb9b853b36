"""The images' self-test in an environment that is no image: what is there, and what is not, by name."""

import sys
import types

import pytest

from omr import settings
from omr.containers import self_test
from omr.run.nemo_rl_version import PINNED_VERSION
from omr.training.nemo_rl import contract
from omr.training.nemo_rl import keys as engine_keys


class Prompt:
    """What nemo-skills would give; `text` is what filling it returns."""

    def __init__(self, text):
        self.text = text

    def fill(self, row):
        return self.text.format(**row) if isinstance(self.text, str) else self.text

    def format_assistant_response(self, content):
        return content + "<|im_end|>"


@pytest.fixture
def skills(monkeypatch):
    """An installed nemo-skills whose prompts are ours; returns a setter of their text."""
    module = types.ModuleType("nemo_skills.prompt.utils")
    for name in ("nemo_skills", "nemo_skills.prompt"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "nemo_skills.prompt.utils", module)
    real = self_test.version
    monkeypatch.setattr(self_test, "version", lambda name: "0.7.0" if name == "nemo-skills" else real(name))

    def put(text):
        module.get_prompt = lambda *_, **__: Prompt(text)

    return put


@pytest.mark.parametrize(
    ("text", "state"),
    [("user: {problem}", "ok"), ("user:", "missing"), ([{"role": "user"}], "missing")],
)
def test_prompts_have_to_render(skills, text, state):
    skills(text)
    assert self_test.nemo_skills("git").state == state


@pytest.mark.parametrize(
    ("how", "state"), [("none", "declined"), ("unreachable", "missing"), ("git", "missing")]
)
def test_absent_nemo_skills_is_named(monkeypatch, how, state):
    monkeypatch.setattr(self_test, "version", lambda name: "0")
    found = self_test.nemo_skills(how)
    assert (found.state, found.name) == (state, "nemo-skills")


@pytest.mark.parametrize(
    ("tier", "installed", "state"),
    [
        ("train", settings.pins()["TORCH_VERSION"] + "+cpu", "ok"),
        ("train", "2.0.0", "missing"),
        ("train", "0", "missing"),
        ("data", "0", "declined"),
    ],
)
def test_torch_is_the_pinned_one(monkeypatch, tier, installed, state):
    monkeypatch.setattr(self_test, "version", lambda name: installed)
    assert self_test.torch(tier).state == state


def test_packages_against_the_locks(monkeypatch):
    assert [f.state for f in self_test.packages(("cli", "data"))] == ["ok", "ok"]
    real = self_test.version
    monkeypatch.setattr(self_test, "version", lambda name: "0.1" if name == "click" else real(name))
    (found,) = self_test.packages(("cli",))
    assert found.state == "missing" and found.found.startswith("click==") and found.found.endswith("is 0.1")


@pytest.fixture
def nemo_rl_folder(monkeypatch, tmp_path):
    """An /opt/nemo-rl of the pinned version."""
    for name in (PINNED_VERSION.example, PINNED_VERSION.script, PINNED_VERSION.converter):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "nemo_rl").mkdir()
    numbers = settings.pins()["NEMO_RL_VERSION"].removeprefix("v").split(".")
    (tmp_path / "nemo_rl/package_info.py").write_text("MAJOR = {}\nMINOR = {}\nPATCH = {}\n".format(*numbers))
    monkeypatch.setattr(self_test, "NEMO_RL", tmp_path)
    return tmp_path


def test_another_version_of_nemo_rl_is_named(nemo_rl_folder):
    assert self_test.nemo_rl_version().state == "ok"
    (nemo_rl_folder / "nemo_rl/package_info.py").write_text("MAJOR = 0\nMINOR = 99\nPATCH = 0\n")
    assert self_test.nemo_rl_version().found.startswith("v0.99.0, pinned is")


def test_a_key_that_the_image_has_not_is_named(nemo_rl_folder):
    keys = [key.rstrip("?") for key in engine_keys.known_keys() if not key.endswith((".*", ".*?"))]
    example = {}
    for key in keys:
        *sections, last = key.split(".")
        inner = example
        for section in sections:
            inner = inner.setdefault(section, {})
        inner.setdefault(last, None)
    import yaml

    file = nemo_rl_folder / PINNED_VERSION.example
    file.write_text(yaml.safe_dump(example))
    assert contract.our_runs(nemo_rl_folder, PINNED_VERSION).fault is None
    del example["policy"]["megatron_cfg"]["scheduler"]["lr_decay_style"]
    file.write_text(yaml.safe_dump(example))
    found = contract.our_runs(nemo_rl_folder, PINNED_VERSION)
    assert "policy.megatron_cfg.scheduler.lr_decay_style" in found.fault


def test_a_folder_that_is_no_nemo_rl(monkeypatch, tmp_path):
    monkeypatch.setattr(self_test, "NEMO_RL", tmp_path)
    (found,) = self_test.nemo_rl_parts()
    assert found.state == "missing" and "TRAIN_BASE is no NeMo-RL image" in found.found


def test_programs_that_do_not_start():
    assert self_test.answers("x", "/nowhere/x").state == "missing"
    assert "exit 3: why" in self_test.answers("x", "bash", "-c", "echo why >&2; exit 3").found


def test_a_script_that_does_not_answer(tmp_path):
    (tmp_path / "good.py").write_text("")
    assert next(self_test.scripts(tmp_path)).state == "ok"
    (tmp_path / "bad.py").write_text("raise SystemExit(4)")
    assert next(self_test.scripts(tmp_path)).found == "bad.py (exit 4) do not answer --help"
