"""`make model`: the tiny base for real, a local copy, a pinned download from a loopback hub that fails."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest

from omr import manifest, recipe
from omr.errors import OmrError, RequestError
from omr.models import base_model, rope
from omr.reports import journey
from omr.settings import ROOT
from omr.tiny import model as tiny_model
from omr.workspace import Workspace
from tests.models.hub.loopback import Hub
from tests.models.kit import at_once, no_download, write_shard

# A 7b of the tiny model's size: nothing here can hold the real one.
SMALL = """
import dataclasses, runpy, sys
from omr import recipe
from omr.tiny import model
recipe.ARCHITECTURES["7b"] = recipe.shipped("tiny").architectures["tiny"]
recipe.MODELS["7b"] = dataclasses.replace(recipe.MODELS["7b"], parameters=recipe.MODELS["tiny"].parameters)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def row(name):
    """A row of the table that takes weights of the tiny model's size."""
    return replace(recipe.model(name), parameters=recipe.model("tiny").parameters)


@pytest.fixture(autouse=True)
def of_tiny_architecture(monkeypatch):
    """7b and 14b are of the tiny model's architecture, too."""
    for name in ("7b", "14b"):
        monkeypatch.setitem(recipe.ARCHITECTURES, name, recipe.shipped("tiny").architectures["tiny"])


def bin_model(workspace, *words, small=False, **environ):
    """Run bin/model.py as make does; its exit code and both streams."""
    script = str(ROOT / "bin/model.py")
    command = [
        sys.executable,
        *(["-c", f"import sys; sys.argv.pop(0)\n{SMALL}"] if small else []),
        script,
        *words,
    ]
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "WORKSPACE": str(workspace),
        "OMR_ENV_FILE": os.devnull,
        **environ,
    }
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.strip(), done.stderr.strip()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The tiny base as published: its files, name -> bytes."""
    folder = tmp_path_factory.mktemp("tiny")
    tiny_model.write_base(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def put(folder, files):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def unpatched(files):
    """The same files with the context and rope that 14b ships."""
    text = files["config.json"].decode()
    text = text.replace('embeddings": 4096', 'embeddings": 131072').replace(
        'theta": 10000', 'theta": 1000000.0'
    )
    return {**files, "config.json": text.encode()}


@pytest.mark.slow
def test_tiny_from_nothing_to_finished(tmp_path, tiny):
    code, out, err = bin_model(tmp_path, "--model", "tiny")
    assert (code, err) == (0, "")
    assert "max_position_embeddings 4096 -> 131072, rope_theta 10000 -> 500000.0" in out
    folder = tmp_path / "models/tiny"
    patched = tiny["config.json"].replace(b'gs": 4096', b'gs": 131072').replace(b": 10000,", b": 500000.0,")
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "manifest.json"} == {
        **tiny,
        "config.json": patched,
    }
    code, out, _ = at_once(lambda: bin_model(tmp_path, "--model", "tiny"))
    assert code == 0 and out.endswith("(finished already)")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert bin_model(tmp_path, "--model", "tiny", "--force")[0] == 0
    after = {p.name: p.read_bytes() for p in folder.iterdir()}
    assert {n for n in after if after[n] != before.get(n)} <= {"manifest.json"}
    assert [p.name for p in tmp_path.glob("models/*")] == ["tiny"] or not list(
        tmp_path.glob("models/.tiny.p*")
    )


def test_dry_run_prints_the_commands_and_writes_nothing(tmp_path):
    code, out, _ = bin_model(tmp_path / "ws", "--model", "7b", "--dry-run")
    download, sed = out.splitlines()
    assert code == 0 and not (tmp_path / "ws").exists()
    assert download.startswith("hf download Qwen/Qwen2.5-Math-7B --repo-type model --revision b101308fe896")
    # The printed sed does what the recipe's own two lines do.
    config = tmp_path / "ws/models/7b/config.json"
    config.parent.mkdir(parents=True)
    config.write_text('{\n  "max_position_embeddings": 4096,\n  "rope_theta": 10000,\n  "x": 1\n}\n')
    subprocess.run(["bash", "-c", sed], check=True)
    assert json.loads(config.read_text()) == {
        "max_position_embeddings": 131072,
        "rope_theta": 500000.0,
        "x": 1,
    }


def test_dry_run_of_an_unpatched_model_has_no_sed(tmp_path):
    code, out, _ = bin_model(tmp_path, "--model", "14b", "--dry-run")
    assert code == 0 and len(out.splitlines()) == 1


REFUSED = [
    ((), "MODEL is not set; choose MODEL=tiny, 1.5b, 7b, 14b or 32b"),
    (("--model", "9b"), "MODEL=9b is unknown"),
    (("--model", "7b", "--base", "/nowhere"), "BASE=/nowhere has no config.json"),
]


@pytest.mark.parametrize(("words", "line"), REFUSED)
def test_refused(tmp_path, words, line):
    code, out, err = bin_model(tmp_path / "ws", *words)
    assert code == 2 and line in err and out == ""
    assert not list((tmp_path / "ws").rglob("*.safetensors"))


def test_a_local_copy(tmp_path, tiny):
    base = put(tmp_path / "base", {**tiny, "README.md": b"theirs", "trainer_state.json": b"{}"})
    workspace = Workspace(tmp_path / "ws")
    made = base_model.make(row("7b"), workspace, no_download, base=base)
    assert sorted(made["files"]) == sorted(tiny), "what belongs to the model, and nothing else"
    assert (base / "config.json").read_bytes() == tiny["config.json"], "the copy is patched, not the original"
    rope.check(workspace.model("7b"), row("7b"))
    again = base_model.finished(row("7b"), workspace, None)
    assert again == made, "BASE need not be said again"
    with pytest.raises(RequestError, match=r"copy was .*FORCE=1"):
        base_model.finished(row("7b"), workspace, tmp_path / "other")


def test_another_model_at_the_same_path_is_noticed(tmp_path, tiny):
    """The content decides, and not the path; a file that was only touched is the same."""
    base, workspace = put(tmp_path / "base", tiny), Workspace(tmp_path / "ws")
    made = base_model.make(row("7b"), workspace, no_download, base=base)
    weights = next(base.glob("*.safetensors"))
    weights.touch()
    assert base_model.make(row("7b"), workspace, no_download, base=base) == made
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(RequestError, match=rf"from another {weights.name} than now stands in /.*FORCE=1"):
        base_model.make(row("7b"), workspace, no_download, base=base)
    assert base_model.make(row("7b"), workspace, no_download) == made
    anew = base_model.make(row("7b"), workspace, no_download, base=base, force=True)
    assert anew["files"][weights.name] != made["files"][weights.name]


def damage(files, name, data):
    return {**files, name: data} if data is not None else {n: d for n, d in files.items() if n != name}


def header(files):
    data = files["model.safetensors"]
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


BAD_COPIES = [
    ("weights cut short", "model.safetensors", lambda f: f["model.safetensors"][:-100], "its header says"),
    (
        "weights cut in the header",
        "model.safetensors",
        lambda f: f["model.safetensors"][:50],
        "no whole safetensors",
    ),
    ("weights empty", "model.safetensors", lambda f: b"", "no whole safetensors"),
    ("no weights", "model.safetensors", lambda f: None, "has no *.safetensors file"),
    ("a longer file", "model.safetensors", lambda f: f["model.safetensors"] + b"x", "its header says"),
    ("a pickle", "pytorch_model.bin", lambda f: b"x", "may run code"),
    ("somebody's code", "modeling_qwen2.py", lambda f: b"x", "may run code"),
    (
        "auto_map",
        "config.json",
        lambda f: f["config.json"].replace(b"{", b'{"auto_map": {},', 1),
        "auto_map is {}, Qwen/Qwen2.5-Math-7B says none: code that came with the model",
    ),
    (
        "another architecture",
        "config.json",
        lambda f: f["config.json"].replace(b"Qwen2For", b"LlamaFor"),
        "another model class",
    ),
    (
        "another rope",
        "config.json",
        lambda f: f["config.json"].replace(b": 10000,", b": 20000,"),
        "neither the published",
    ),
    (
        "a vocabulary that does not fit",
        "config.json",
        lambda f: f["config.json"].replace(b'"vocab_size": 512', b'"vocab_size": 100'),
        "vocab_size is 100, Qwen/Qwen2.5-Math-7B says 512: another model is computed",
    ),
    ("no tokenizer", "tokenizer.json", lambda f: None, "tokenizer.json: is missing"),
    (
        "an index of a missing shard",
        "model.safetensors.index.json",
        lambda f: b'{"weight_map": {"a": "model-2.safetensors"}}',
        "model-2.safetensors: is missing",
    ),
    (
        "an index that disagrees",
        "model.safetensors.index.json",
        lambda f: json.dumps({"weight_map": dict.fromkeys([*header(f), "x"], "model.safetensors")}).encode(),
        "is to be in",
    ),
]


@pytest.mark.parametrize(
    ("name", "change", "line"), [b[1:] for b in BAD_COPIES], ids=[b[0] for b in BAD_COPIES]
)
def test_a_local_copy_that_is_refused(tmp_path, tiny, name, change, line):
    base = put(tmp_path / "base", damage(tiny, name, change(tiny)))
    workspace = Workspace(tmp_path / "ws")
    with pytest.raises(OmrError) as error:
        base_model.make(row("7b"), workspace, no_download, base=base)
    assert line in str(error.value)
    assert not workspace.model("7b").exists(), "nothing under the final name"


def test_a_model_of_another_size_is_refused(tmp_path, tiny):
    base = put(tmp_path / "base", tiny)
    with pytest.raises(
        OmrError, match=r"0\.0 billion parameters, 7b has 7\.6; name a copy of Qwen/Qwen2\.5-Math-7B"
    ):
        base_model.make(recipe.model("7b"), Workspace(tmp_path / "ws"), no_download, base=base)
    assert not (tmp_path / "ws/models/7b").exists()


def test_14b_is_left_as_it_is_and_a_patched_one_is_noticed(tmp_path, tiny):
    workspace = Workspace(tmp_path / "ws")
    shipped = unpatched(tiny)
    base_model.make(row("14b"), workspace, no_download, base=put(tmp_path / "a", shipped))
    assert (workspace.model("14b") / "config.json").read_bytes() == shipped["config.json"]
    patched = {**shipped, "config.json": shipped["config.json"].replace(b"1000000.0", b"500000.0")}
    with pytest.raises(OmrError, match="14b is not to be patched"):
        base_model.make(row("14b"), workspace, no_download, base=put(tmp_path / "b", patched), force=True)
    assert (workspace.model("14b") / "config.json").read_bytes() == shipped["config.json"]


class Server:
    """A hub that has a model under its pinned name, with files beside it that must not be fetched."""

    def __init__(self, hub, tiny):
        self.hub = hub
        pin = row("7b").base
        hub.add(
            "model",
            pin.repo,
            {**tiny, "pytorch_model.bin": b"p" * 500, "modeling.py": b"x", "README.md": b"y"},
            pin.revision,
        )

    def make(self, workspace, *words):
        return bin_model(
            workspace,
            "--model",
            "7b",
            *words,
            small=True,
            HF_ENDPOINT=self.hub.endpoint,
            HF_HOME=str(workspace / "home"),
        )


@pytest.fixture
def server(tiny):
    with Hub() as hub:
        yield Server(hub, tiny)


@pytest.mark.slow
def test_the_download(tmp_path, server, tiny):
    """Cut off, busy and lying once each; in the end complete, patched and proved."""
    server.hub.fault("model.safetensors", cut=200_000)
    server.hub.fault("tokenizer.json", status=503)
    server.hub.fault("config.json", body=b"x" * len(tiny["config.json"]))
    code, out, err = server.make(tmp_path)
    assert (code, "rope_theta 10000 -> 500000.0" in out) == (0, True), err
    folder = tmp_path / "models/7b"
    assert sorted(p.name for p in folder.iterdir()) == sorted([*tiny, "manifest.json"])
    rope.check(folder, row("7b"))
    made = manifest.read(folder)
    assert made["inputs"]["source"]["revision"] == row("7b").base.revision
    assert made["files"] == manifest.entries(folder)
    asked = len(server.hub.log)
    assert at_once(lambda: server.make(tmp_path)[1]).endswith("(finished already)")
    assert len(server.hub.log) == asked


@pytest.mark.slow
def test_a_download_that_fails_goes_on(tmp_path, server):
    server.hub.fault("model.safetensors", status=503)  # a pause, in which the small files arrive
    server.hub.fault("model.safetensors", times=50, status=403)
    code, _, err = server.make(tmp_path)
    assert code == 1 and "set BASE= to a local copy" in err and len(err.splitlines()) == 1
    assert not (tmp_path / "models/7b").exists()
    arrived = {p.name for p in (tmp_path / "models/.7b.partial").iterdir() if not p.name.startswith(".")}
    server.hub.faults.clear()
    server.hub.log.clear()
    assert server.make(tmp_path)[0] == 0
    assert arrived and not any(server.hub.asked(name) for name in arrived), "it is not fetched again"


def test_passport_of_a_base_alone(tmp_path, tiny):
    workspace = Workspace(tmp_path)
    made = base_model.make(recipe.model("tiny"), workspace, no_download)
    stations, faults = journey.stations_of(recipe.run("tiny", 1), workspace)
    assert list(stations) == ["base", "patched"] and not faults
    assert made["passport"]["published"]["rope_theta"] == 10000
    config = workspace.model("tiny") / "config.json"
    config.write_text(config.read_text().replace("500000.0", "10000"))
    _, faults = journey.stations_of(recipe.run("tiny", 1), workspace)
    assert [str(f) for f in faults] == [
        f"{config}: rope_theta is 10000, the recipe says 500000.0:"
        " transformers 4 computes other positions than were trained"
    ]


def test_shards_without_an_index_count_themselves(tmp_path, tiny):
    from omr.models import weights

    one = {"a": ("F32", (1,), b"1234")}
    write_shard(tmp_path / "model-00001-of-00003.safetensors", one)
    write_shard(tmp_path / "model-00003-of-00003.safetensors", {"b": ("F32", (1,), b"1234")})
    with pytest.raises(OmrError, match="has 2 of 3 shards"):
        weights.shards(tmp_path)
    write_shard(tmp_path / "model-00002-of-00003.safetensors", one)
    with pytest.raises(OmrError, match=r"holds a, which model-00001-of-00003\.safetensors holds too"):
        weights.shards(tmp_path)
    shutil.rmtree(tmp_path)
