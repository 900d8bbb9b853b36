"""Checkpoints of both engines, and what stands beside them: read as far as it is true, never left."""

import json
import os
import pickle

import pytest

from omr import recipe
from omr.models import convert
from omr.models.final import finish
from omr.run import checkpoints, prune
from omr.run.checkpoints import Checkpoints
from omr.workspace import Workspace
from tests.models.kit import write_shard

from .kit import Reader, attack, hold, refusal

RUN = recipe.run("tiny", 1)
CONFIG = b"policy:\n  model_name: /models/7b\n  megatron_cfg:\n    layernorm_epsilon: 1.0e-05\n"
FILES = {"a.pt": {"size": 1, "sha256": "0f", "digest": "0f"}}
LIST = json.dumps({"run": "0f", "step": 8, "files": FILES}).encode()


def listed(engine):
    """Reads the list of a checkpoint's files; whatever it says, the checkpoint is whole or it is not."""

    def read(path):
        (path.parent / "a.pt").write_bytes(b"a")
        found = checkpoints.damage(path.parent, engine)
        assert found is None or isinstance(found, str)

    return read


def nemo_rl_config(path):
    convert._base(RUN, path.parent)


def epsilon(path):
    finish._trained_epsilon(RUN, path)


BOMB = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in range(97, 121))
DATES = (
    b"policy: {model_name: 2001-99-99}",
    b"policy: {model_name: !!python/name:os.system x}",
    b'policy: {model_name: "\\0"}',
)
READERS = {
    "complete.json": Reader(
        "step_8/complete.json",
        LIST,
        listed("trl"),
        "json",
        (
            json.dumps(
                {"run": "0f", "step": 8, "files": {"../../../dev/zero": {"size": 0, "sha256": ""}}}
            ).encode(),
            json.dumps({"run": "0f", "step": 8, "files": {"a\0": {"size": 0, "sha256": ""}}}).encode(),
            json.dumps({"run": "0f", "step": 8, "files": {"x" * 5000: {"size": 0, "sha256": ""}}}).encode(),
        ),
    ),
    "omr_seal.json": Reader("step_8/omr_seal.json", LIST, listed("nemo-rl"), "json"),
    "nemo_rl.yaml": Reader("nemo_rl.yaml", CONFIG, epsilon, "yaml", (BOMB, *DATES)),
    "prepared": Reader(
        "cache/omr_converted.json", b'{"files": {"a": 3}}', lambda path: convert.cached(path.parent), "json"
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_checkpoint_is_whole_or_not(name, tmp_path):
    attack(READERS[name], tmp_path / "run" / "checkpoints")


@pytest.mark.parametrize(
    "text", [BOMB, *DATES, b"", b"\xff", b"policy: 3", b"- a", b"policy: {model_name: [x]}"]
)
def test_the_configuration_that_nemo_rl_saved_is_taken_or_refused_in_a_line(text, tmp_path):
    reader = Reader("step_8/config.yaml", CONFIG, nemo_rl_config)
    assert "/models/7b" in hold(reader, CONFIG, tmp_path)  # the model is not there
    assert "config.yaml" in hold(reader, text, tmp_path)


# Names of folders that are nearly those of steps: other digits, other numbers, nothing, links.
NAMES = ["step_٣", "step_²", "step_007", "step_-1", "step_", "step_x", "step_1_000", "step_8\n", "STEP_8"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("word", ["", "tmp_", "old_", "damaged_", "redo_"])
@pytest.mark.parametrize("engine", ["trl", "nemo-rl"])
def test_a_folder_that_is_called_nearly_like_a_step(word, name, engine, tmp_path):
    workspace = Workspace(tmp_path)
    folder = workspace.run(RUN)
    (folder.checkpoints / (word + name)).mkdir(parents=True)
    saved = Checkpoints(folder, engine)
    assert checkpoints.steps(folder.checkpoints) == []
    refusal(lambda: (saved.whole(), saved.mend(), saved.drop_set_aside(), saved.tidy(RUN, [])))
    refusal(lambda: prune.remove(prune.surplus(RUN, workspace)))


@pytest.mark.parametrize("name", ["step_20", "tmp_step_20", "damaged_step_20", "old_step_20", "redo_step_20"])
def test_a_link_in_a_steps_place_leads_nowhere(name, tmp_path):
    """What it leads to is another's: nothing there is removed or changed."""
    workspace, other = Workspace(tmp_path / "w"), tmp_path / "home"
    folder = workspace.run(RUN)
    folder.checkpoints.mkdir(parents=True)
    other.mkdir()
    (other / "thesis.tex").write_text("x")
    (folder.checkpoints / name).symlink_to(other)
    (folder.checkpoints / "step_40").mkdir()
    (folder.final).mkdir()
    (folder.final / "manifest.json").write_text("{}")
    saved = Checkpoints(folder, "trl")
    refusal(lambda: prune.remove(prune.surplus(RUN, workspace)))
    refusal(lambda: (saved.whole(), saved.mend(), saved.drop_set_aside()))
    refusal(lambda: saved.remove([20, 40, 60, 80], lambda step: False))
    assert (other / "thesis.tex").read_text() == "x" and len(list(other.iterdir())) == 1


@pytest.mark.parametrize("name", ["٣", "²", "x", "-1", "1.5", "007"])
def test_a_lease_of_another_name_is_none(name, tmp_path):
    from omr.run import lease

    (tmp_path / "lease").mkdir()
    (tmp_path / "lease" / name).write_text("{}")
    assert refusal(lambda: lease.take(tmp_path / "lease", "7", 0, lambda job: False)) is None


class Pwned:
    """A pickle that leaves a mark when it is read."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pkl", "modeling_x.py", "a.ckpt"])
def test_a_model_that_would_run_code_is_refused(name, tmp_path):
    from omr.models import weights

    write_shard(tmp_path / "model.safetensors", {"a": ("F32", [1], b"abcd")})
    (tmp_path / name).write_bytes(pickle.dumps(Pwned(tmp_path / "pwned")))
    assert "may run code" in refusal(lambda: weights.shards(tmp_path))
    assert not (tmp_path / "pwned").exists()


@pytest.mark.slow
def test_a_state_of_random_numbers_is_read_without_its_code(tmp_path):
    """The one-box engine resumes from optimizer.pt and rng_state.pth, which are pickles."""
    torch = pytest.importorskip("torch")
    path = tmp_path / "rng_state.pth"
    torch.save(Pwned(tmp_path / "pwned"), path)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert not (tmp_path / "pwned").exists()
