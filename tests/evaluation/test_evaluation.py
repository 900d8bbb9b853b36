"""What names an evaluation, and what is proved of a model before it is served."""

import json
import os
import re
import time

import pytest

from omr import manifest
from omr.errors import OmrError, RequestError
from omr.evaluation import evaluation
from omr.evaluation.evaluation import Part, identity, prove
from omr.evaluation.samples import SampleId
from omr.tiny.model import write_base
from tests.evaluation.kit import RUN, station


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base") / "m"
    write_base(folder)
    return folder


@pytest.fixture
def model(base, tmp_path):
    """A copy of the tiny base, without a manifest."""
    folder = tmp_path / "m"
    folder.mkdir()
    for path in base.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_parts_share_samples_out():
    ids = [SampleId("p", number) for number in range(10)]
    parts = [[s.number for s in ids if Part(n, 3).has(s)] for n in range(3)]
    assert parts == [[0, 3, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert Part().has(ids[7]) and Part().name == "0-of-1"
    assert Part.of_text("2/8") == Part(2, 8)


@pytest.mark.parametrize("text", ["", "8/8", "2", "2/", "/2", "a/b", "-1/2", "1/2/3", "²/3"])
def test_what_is_no_part_is_refused(text):
    with pytest.raises(RequestError, match="is no part; write 0/8 to 7/8"):
        Part.of_text(text)


def test_a_finished_model_is_known_by_its_manifest_and_changed_files_by_their_hashes(tmp_path, monkeypatch):
    folder = station(tmp_path / "m")
    plain = identity(folder)
    hashed = []
    digest = evaluation.sha256
    monkeypatch.setattr(evaluation, "sha256", lambda path: hashed.append(path.name) or digest(path))
    assert identity(folder) == plain and hashed == []
    path = folder / "tokenizer_config.json"
    later = time.time() + 5
    os.utime(path, (later, later))
    assert identity(folder) == plain and hashed == [path.name]
    path.write_text(path.read_text() + "\n")
    assert identity(folder) != plain
    (folder / "README.md").write_text("a card")
    changed = identity(folder)
    (folder / "chat_template.jinja").write_text("{{ messages }}")  # a file that the manifest does not know
    assert identity(folder) != changed


def cut(folder):
    (folder / "model.safetensors").write_bytes(b"cut")


def no_config(folder):
    (folder / "config.json").unlink()


def no_tokens(folder):
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["model"]["vocab"], values["added_tokens"] = {}, []
    path.write_text(json.dumps(values))


def one_layer_more(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


def code(folder):
    (folder / "model.bin").write_bytes(b"x")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (cut, "model.safetensors: "),
        (no_config, ": there is no model; name a folder"),
        (no_tokens, ": its tokenizer has no tokens; name a whole"),
        (one_layer_more, ": its weights lack model.layers.2, which a server would fill with random"),
        (code, "model.bin: may run code when it is read"),
    ],
)
@pytest.mark.parametrize("when", ["before", "alone"])
def test_a_model_that_is_not_whole_is_asked_nothing(model, spoil, told, when):
    prove(model, RUN, when)
    spoil(model)
    with pytest.raises(OmrError, match=f"^{re.escape(str(model))}/?{told}") as refused:
        prove(model, RUN, when)
    assert "\n" not in str(refused.value)


def test_a_run_s_final_model_has_the_end_tokens_that_were_trained(model):
    """The untrained base ends by another token than the trained answers do."""
    with pytest.raises(OmrError, match=r"eos_token.* says .*<\|im_end\|>|make passport MODEL=tiny"):
        prove(model, RUN, "after")


def test_a_run_s_final_model_is_the_one_that_its_manifest_lists(model):
    """A temperature of 0.7 for 0.6 in generation_config.json reads as well, and would answer otherwise."""
    manifest.write(model, {}, files=manifest.entries(model), seen=manifest.fingerprints(model))
    path = model / "generation_config.json"
    path.write_bytes(path.read_bytes().replace(b"{", b"{ ", 1))
    told = f"{path}: is not the file that {model}/manifest.json lists; bring it back, or run make average"
    with pytest.raises(OmrError, match=re.escape(told)):
        prove(model, RUN, "after")
