"""What is published of a run, and what is refused."""

import json
import shutil
import struct

import pytest
import yaml

from omr import files, manifest
from omr.errors import RequestError
from omr.evaluation import results
from omr.models.final import card
from omr.reports.publishing import publication
from omr.workspace import RunFolder
from tests.reports.publishing.conftest import REPO, evaluated

TOKEN = "hf_" + "aB3" * 12


def prepare(finished, **more):
    workspace, run = finished
    return publication.prepare(run, workspace, REPO, **more)


def final(finished):
    workspace, run = finished
    return workspace.run(run).final


def test_every_file_of_the_model_and_no_other(finished):
    folder = final(finished)
    (folder / "events.out").write_text("x")
    evaluated(RunFolder(folder.parent))
    made = prepare(finished)
    assert {item.name for item in made.items} == set(manifest.read(folder)["files"])
    assert made.left_out == ["events.out"]
    for item in made.items:
        data = item.source if isinstance(item.source, bytes) else item.source.read_bytes()
        assert len(data) == item.size
    assert made.size == sum(item.size for item in made.items)


def published_card(finished, **more):
    [item] = [item for item in prepare(finished, **more).items if item.name == card.FILE]
    return item.source.decode()


def test_the_card_has_the_evaluation_as_the_hub_reads_it(finished):
    from huggingface_hub import ModelCard

    text = published_card(finished)
    read = ModelCard(text).data  # the client's own reader of model-index
    assert (read.license, read.library_name, read.model_name) == (
        *("apache-2.0", "transformers"),
        "tiny after round1",
    )
    numbers = {(r.dataset_config, r.metric_type): r.metric_value for r in read.eval_results}
    assert numbers == {
        ("aime24", "pass@1"): 75.0,
        ("aime24", "majority@2"): 100.0,
        ("aime25", "pass@1"): 75.0,
        ("aime25", "majority@2"): 100.0,
    }
    assert "| comp-math-24-25, aime24 | cot | pass@1 | 75.0 ± 25.0 |" in text
    assert f'pipeline("text-generation", "{REPO}")' in text
    assert "| Averaged steps | 340, 360, 380, 400 |" in text


def test_a_command_is_told_without_the_folders_of_the_machine(finished):
    workspace, run = finished
    path = workspace.run(run).run_json
    values = {**files.read_json(path), "command": "RECIPE=/home/me/mine.toml train.py --base ~/x/7b"}
    files.write_json(path, values)
    assert "| Command | `RECIPE=…/mine.toml train.py --base …/7b` |" in published_card(finished)


def test_a_card_that_its_user_wrote_on_stays(finished):
    path = final(finished) / card.FILE
    path.write_text(path.read_text() + "\nThanks to all.\n")
    assert published_card(finished).endswith("\nThanks to all.\n")


def append(name, text):
    return lambda folder: (folder / name).write_text((folder / name).read_text() + text)


def keep_manifest(plant):
    """Plant a fault in a file and have the manifest know it, as a careless tool would."""

    def planted(folder):
        plant(folder)
        made = files.read_json(folder / "manifest.json")
        made["files"] = manifest.entries(folder)
        files.write_json(folder / "manifest.json", made)

    return planted


def header(**metadata):
    """Write metadata into the header of the weights."""

    def plant(folder):
        path = folder / "model.safetensors"
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        values = {**json.loads(data[8 : 8 + size]), "__metadata__": {"format": "pt", **metadata}}
        text = json.dumps(values).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])

    return keep_manifest(plant)


def edit(name, **keys):
    def plant(folder):
        files.write_json(folder / name, {**files.read_json(folder / name), **keys})

    return plant


FAULTS = [
    (append("README.md", f"\n{TOKEN}\n"), r"README\.md: line \d+ has a token of Hugging Face; remove it"),
    (append("README.md", "\nfrom /home/me/runs\n"), r"README\.md: line \d+ has a path of a machine"),
    (
        keep_manifest(edit("config.json", _name_or_path="/scratch/me/7b")),
        r"config\.json: line \d+ has a path of a machine",
    ),
    (header(made_by="/lustre/me/x"), r"model\.safetensors: its header has a path of a machine"),
    (header(key=TOKEN), r"model\.safetensors: its header has a token of Hugging Face"),
    (
        keep_manifest(edit("tokenizer_config.json", note="s3cr3t-value-of-mine")),
        r"tokenizer_config\.json: line \d+ has the value of HF_TOKEN",
    ),
    (append("config.json", " "), r"config\.json: is not as it was made; make average MODEL=tiny"),
    (lambda folder: (folder / "config.json").unlink(), "config.json"),
    (
        keep_manifest(edit("config.json", rope_theta=10000.0)),
        r"rope_theta is 10000\.0, .*make passport MODEL=tiny",
    ),
    (
        lambda folder: (folder / "manifest.json").unlink(),
        "there is no final model; run make train MODEL=tiny",
    ),
    (
        lambda folder: (folder.parent / "eval.json").unlink(),
        "no evaluation of this final model; run make eval",
    ),
    (lambda folder: shutil.rmtree(folder), "there is no final model"),
]


@pytest.mark.parametrize(("plant", "said"), FAULTS)
def test_what_is_not_fit_to_be_shown_is_refused(finished, monkeypatch, plant, said):
    monkeypatch.setenv("HF_TOKEN", "s3cr3t-value-of-mine")
    plant(final(finished))
    with pytest.raises(RequestError, match=said) as caught:
        prepare(finished, allow=None)
    assert TOKEN not in str(caught.value) and "s3cr3t" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_evaluation_of_another_final_model_does_not_count(finished):
    workspace, run = finished
    path = workspace.run(run).eval_json
    values = files.read_json(path)
    values["cot"]["inputs"]["models"]["after"] = "0" * 64
    files.write_json(path, values)
    assert results.read(path)
    with pytest.raises(RequestError, match="no evaluation of this final model"):
        prepare(finished)
    front = yaml.safe_load(published_card(finished, allow="unevaluated").split("---")[1])
    assert "model-index" not in front
