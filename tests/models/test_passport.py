"""The passport: a clean journey, and a fault planted at every station, each told by file, key and values."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from omr import manifest, recipe
from omr.models import passport, tokens, weights
from omr.models.final import average
from omr.reports import journey
from omr.run import frozen
from omr.run.frozen import BaseModel, FrozenRun, TrainingData
from omr.settings import ROOT
from omr.workspace import Workspace
from tests.models.kit import edit, write_shard


def rope(top, home):
    return edit("config.json", rope_theta=top, rope_parameters={"rope_type": "default", "rope_theta": home})


def one_end(folder):
    edit("config.json", eos_token_id=numbers(folder)["end"])(folder)


def numbers(folder):
    """What the lines below leave open: ids and sizes of the tiny model."""

    known = tokens.token_ids(folder)
    architecture = recipe.ARCHITECTURES["tiny"]
    rows, width = architecture.vocabulary, architecture.hidden
    ends = {"end": known["<|endoftext|>"], "message_end": known["<|im_end|>"]}
    return {**ends, "rows": rows, "less": rows - 1, "width": width}


def template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def vocabulary(folder):
    """Two tokens change places: every count is right and every text becomes other ids."""
    path = folder / "tokenizer.json"
    value = json.loads(path.read_text())
    known = value["model"]["vocab"]
    known["a"], known["b"] = known["b"], known["a"]
    path.write_text(json.dumps(value))


def weights_(change):
    def plant(folder):
        path = folder / "model.safetensors"
        part, data = weights.shard(path), path.read_bytes()
        write_shard(path, change({t.name: (t.dtype, t.shape, data[t.start : t.end]) for t in part.tensors}))

    return plant


def fewer_rows(tensors):
    _, (rows, columns), data = tensors["model.embed_tokens.weight"]
    short = ("F32", (rows - 1, columns), data[: -4 * columns])
    return {**tensors, "model.embed_tokens.weight": short}


def half(tensors):
    return {name: ("BF16", shape, data[: len(data) // 2]) for name, (_, shape, data) in tensors.items()}


def other_head(tensors):
    return {**tensors, "lm_head.weight": ("F32", (5, 2), b"0" * 40)}


UP = "model.layers.1.mlp.up_proj.weight"


def without_a_tensor(tensors):
    return {name: tensor for name, tensor in tensors.items() if name != UP}


def another_matrix(tensors):
    dtype, shape, data = tensors["model.embed_tokens.weight"]
    return {**tensors, "lm_head.weight": (dtype, shape, bytes(len(data)))}


# station: what is planted -> the words of the line. Every kind of entry, and every station.
FAULTS = {
    "base": [
        (
            edit("config.json", architectures=["LlamaForCausalLM"]),
            "",
            "architecture is LlamaForCausalLM, the recipe says Qwen2",
        ),
        (
            edit("config.json", max_position_embeddings=4096),
            "",
            "max_position_embeddings is 4096, the recipe says 131072: longer texts",
        ),
        (
            edit("config.json", rope_theta=10000),
            "",
            "rope_theta is 10000, the recipe says 500000.0: transformers 4",
        ),
        (
            edit("config.json", eos_token_id=7),
            "",
            "eos_token_id is [7], base says [{end}]: answers never stop",
        ),
        (edit("tokenizer_config.json", pad_token="<|im_end|>"), "", "pad_token is <|im_end|>"),
        (vocabulary, "", "the same text becomes other token ids"),
    ],
    "step": [
        (rope(500000.0, 10000.0), "", "rope_theta is 10000.0, the recipe says 500000.0: transformers 5"),
        (rope(10000.0, 500000.0), "", "rope_theta is 10000.0, the recipe says 500000.0: transformers 4"),
        (edit("config.json", rope_theta=None), "", "rope_theta is absent"),
        (edit("config.json", rope_parameters=None), "", "rope_parameters.rope_theta is absent"),
        (edit("config.json", vocab_size=9000), "", "vocab_size is 9000, patched says {rows}"),
        (edit("config.json", num_hidden_layers=9), "", "the weights do not fit the model"),
        (edit("config.json", tie_word_embeddings=False), "", "head is None"),
        (
            edit("config.json", torch_dtype="bfloat16"),
            "",
            "weights is F32, config.json says BF16: loading rounds",
        ),
        (edit("config.json", pad_token_id=3), "", "pad_token_id is 3"),
        (
            edit("generation_config.json", eos_token_id=[3]),
            "generation_config.json",
            "eos_token_id is [3], config.json says [{end}]: generate()",
        ),
        (edit("generation_config.json", pad_token_id=3), "generation_config.json", "pad_token_id is 3"),
        (
            edit("tokenizer_config.json", eos_token="<|im_end|>"),
            "tokenizer_config.json",
            "eos_token is <|im_end|>",
        ),
        (edit("tokenizer_config.json", chat_template="x"), "", "chat template is"),
        (vocabulary, "tokenizer.json", "vocabulary is"),
        (weights_(fewer_rows), "", "embedding is [{less}, {width}], config.json says {rows}"),
        (weights_(half), "", "weights is BF16, config.json says F32"),
        (weights_(other_head), "", "head is [5, 2]"),
        (
            weights_(without_a_tensor),
            "the weights",
            f"{UP} is absent, omr/tiny/model.py says [256, 96]: a loader fills it with random numbers",
        ),
        (
            weights_(another_matrix),
            "model.safetensors",
            "lm_head.weight is another matrix than the embedding, omr/tiny/model.py says they are one",
        ),
        (edit("config.json", use_sliding_window=True), "", "use_sliding_window is True, omr/tiny/model.py"),
    ],
    "final": [
        (
            one_end,
            "",
            "eos_token_id is [{end}], <|im_end|> of the training says {message_end}: answers never stop",
        ),
        (edit("generation_config.json", eos_token_id=None), "generation_config.json", "eos_token_id is None"),
        (
            edit("tokenizer_config.json", eos_token="<|endoftext|>"),
            "",
            "eos_token is <|endoftext|>, the training data says <|im_end|>",
        ),
        (
            template,
            "chat_template.jinja",
            "tokenizer_config.json says one template: the model is asked in another form",
        ),
        (rope(500000.0, 10000.0), "", "transformers 5 computes other positions"),
        (
            edit("config.json", max_position_embeddings=32768),
            "",
            "max_position_embeddings is 32768, the recipe says 131072",
        ),
        (vocabulary, "", "vocabulary is"),
        (weights_(without_a_tensor), "the weights", f"{UP} is absent"),
        (edit("config.json", num_hidden_layers=3), "", "num_hidden_layers is 3, omr/tiny/model.py says 2"),
        (edit("config.json", quantization_config=[4]), "", "quantization_config is [4]"),
    ],
}
TABLE = [(station, *case) for station, cases in FAULTS.items() for case in cases]


@pytest.fixture(scope="module")
def finished_once(trained_once, tmp_path_factory):
    """The trained run with its final/, in a workspace of this module."""
    workspace, run = trained_once
    copy = type(workspace)(tmp_path_factory.mktemp("passport") / "ws")
    shutil.copytree(workspace.root, copy.root)
    frozen = copy.run(run).run_json
    frozen.write_text(frozen.read_text().replace(str(workspace.root), str(copy.root)))
    average.make(run, copy)
    return copy, run


@pytest.fixture
def finished(finished_once):
    """The same; whatever a test plants is taken back."""
    workspace, run = finished_once
    aside = workspace.root.with_name("aside")
    shutil.copytree(workspace.root, aside)
    yield workspace, run
    shutil.rmtree(workspace.root)
    aside.rename(workspace.root)


def place(workspace, run, station):
    folder = workspace.run(run)
    return {
        "base": workspace.model("tiny"),
        "step": folder.hf_step(run.schedule.averaged[1]),
        "final": folder.final,
    }[station]


def test_a_clean_journey(finished):
    workspace, run = finished
    stations, faults = journey.stations_of(run, workspace)
    assert list(stations) == [
        "base",
        "patched",
        *(f"step_{n}" for n in run.schedule.averaged),
        "average",
        "final",
    ]
    assert faults == []
    assert stations["base"]["rope_theta"] == 10000 and stations["final"]["rope_theta"] == 500000.0
    ends = numbers(workspace.model("tiny"))
    assert stations["average"]["eos_token_id"] == [ends["end"]]
    assert stations["final"]["eos_token_id"] == [ends["end"], ends["message_end"]]
    second, faults = journey.stations_of(recipe.run("tiny", 2), workspace)
    assert list(second) == ["its average", "round 1"] and faults == []


@pytest.mark.parametrize(("station", "plant", "file", "line"), TABLE)
def test_planted(finished, station, plant, file, line):
    workspace, run = finished
    folder = place(workspace, run, station)
    plant(folder)
    _, faults = journey.stations_of(run, workspace)
    said = [str(fault) for fault in faults if str(folder) in str(fault)]
    assert [text for text in said if line.format(**numbers(folder)) in text and file in text], said


def test_a_fault_of_the_average_stops_final(trained, monkeypatch):
    """Planted between the arithmetic and the finish, where no folder of a final name exists."""
    from omr.models.final import finish

    workspace, run = trained
    real = finish.side_files

    def planted(source, aside, model):
        real(source, aside, model)
        edit("config.json", eos_token_id=7)(aside)

    monkeypatch.setattr(finish, "side_files", planted)
    with pytest.raises(Exception, match=r"eos_token is .*, config.json says \[7\].*\(and 2 more\)"):
        average.make(run, workspace)
    assert not workspace.run(run).final.exists()


def test_a_tensor_that_the_average_lacks_stops_final(trained, monkeypatch):
    from omr.models.final import finish

    workspace, run = trained
    real = finish.side_files

    def planted(source, aside, model):
        real(source, aside, model)
        weights_(without_a_tensor)(aside)

    monkeypatch.setattr(finish, "side_files", planted)
    with pytest.raises(Exception, match=rf"the weights: {UP} is absent, omr/tiny/model\.py says"):
        average.make(run, workspace)
    assert not workspace.run(run).final.exists()


@pytest.mark.parametrize(("model", "engine", "known"), [("14b", None, 1), ("14b", "trl", 0), ("7b", None, 0)])
def test_a_known_departure_is_noticed(tmp_path, model, engine, known):
    """Of a run that began, by the engine that trains it; before, by the recipe's own."""
    workspace, run = Workspace(tmp_path), recipe.run(model, name="x")
    if engine:
        base, data = BaseModel(tmp_path, "0"), TrainingData(tmp_path, "0", 1, 1)
        workspace.run(run).root.mkdir(parents=True)
        frozen.freeze(workspace.run(run), FrozenRun(run, engine, base, data, None, None))
    assert len(journey.departures(run, workspace)) == known


@pytest.mark.slow
def test_the_script(finished):
    workspace, run = finished

    def script(*words):
        env = {**os.environ, "WORKSPACE": str(workspace.root), "OMR_ENV_FILE": os.devnull}
        command = [sys.executable, str(ROOT / "bin/passport.py"), "--model", "tiny", *words]
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout, done.stderr

    code, out, err = script()
    assert (code, err) == (0, "")
    lines = {line.split("  ")[0]: line.split()[1:] for line in out.splitlines()[1:]}
    assert lines["rope_theta"] == ["10000", "500000", *"======"]
    rope(500000.0, 10000.0)(workspace.run(run).final)
    code, out, err = script()
    assert code == 1 and "FAULT" in out and "wrong (see above)" in err
    code, out, _ = script("--json")
    told = json.loads(out)
    assert told["departures"] == []
    assert code == 1 and len(told["faults"]) >= 1 and told["stations"]["final"]["rope_theta"] == 500000.0
    assert script("--round", "2", "--name", "other")[0] == 1, "it would start from the same final/"
    shutil.rmtree(workspace.model("tiny"))
    shutil.rmtree(workspace.run(run).root)
    code, _, err = script()
    assert code == 2 and "has no station yet; run make model MODEL=tiny first" in err


def test_both_spellings_of_the_type(finished):
    """transformers 4 writes torch_dtype, 5 writes dtype."""
    workspace, run = finished
    edit("config.json", torch_dtype=None, dtype="float32")(place(workspace, run, "final"))
    assert passport.read(place(workspace, run, "final"))["dtype"] == "F32"


def test_the_manifest_holds_the_stations_that_have_no_folder(finished):
    workspace, run = finished
    assert set(manifest.read(workspace.model("tiny"))["passport"]) == {"published", "patched"}
    assert set(manifest.read(workspace.run(run).final)["passport"]) == {"average", "final"}
