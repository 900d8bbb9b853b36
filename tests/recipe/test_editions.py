"""Editions: the words that name them, the places that keep them apart, and a source for every value."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

from omr import recipe, settings
from omr.errors import RequestError
from omr.models import architecture
from omr.recipe import editions
from omr.request import TrainRequest
from omr.run import checkpoints, frozen
from omr.run.checkpoints import run_identity
from omr.run.frozen import BaseModel, FrozenRun, TrainingData
from omr.workspace import RunFolder, Workspace


def test_the_setting_has_the_editions_of_the_table():
    setting = settings.SETTINGS["EDITION"]
    assert setting.choices == tuple(recipe.EDITIONS)
    assert setting.default == recipe.PINNED


def test_pinned_is_the_commit_of_the_pins():
    assert settings.pins()["NEMO_SKILLS_COMMIT"] == editions.SKILLS


@pytest.mark.parametrize(
    ("words", "key"),
    [
        ({}, "round1"),
        ({"edition": "pinned"}, "round1"),
        ({"edition": "published"}, "round1-published"),
        ({"edition": "current", "name": "box"}, "round1-current-box"),
        ({"number": 2, "variant": "paper", "edition": "published"}, "round2-paper-published"),
    ],
)
def test_a_run_s_name_carries_any_but_the_default(words, key):
    run = recipe.run("7b", **words)
    assert run.key == key and run.title == f"7b {key}"
    assert Workspace(settings.ROOT).run(run).root.name == key


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"edition": "publishd"}, "EDITION=publishd is unknown; choose pinned, published or current"),
        ({"name": "published"}, "NAME=published begins with an edition's name; set EDITION"),
        ({"name": "current-box", "edition": "published"}, "NAME=current-box begins with an edition's name"),
    ],
)
def test_words_that_would_be_mistaken_for_an_edition(words, says):
    with pytest.raises(RequestError, match=says):
        recipe.run("7b", **words)


@pytest.mark.parametrize("name", recipe.EDITIONS)
def test_a_job_that_reads_the_words_trains_the_same_edition(name):
    request = TrainRequest.of(recipe.run("7b", 2, "paper", edition=name))
    assert request.words()["EDITION"] == name
    assert recipe.Run.from_dict(json.loads(json.dumps(request.run.as_dict()))) == request.run


def test_a_run_of_before_there_were_editions_is_pinned_and_keeps_its_checkpoints():
    values = recipe.run("7b").as_dict()
    assert values["edition"] == "pinned"
    old = {key: value for key, value in values.items() if key != "edition"}
    assert recipe.Run.from_dict(json.loads(json.dumps(old))) == recipe.run("7b")
    assert run_identity({"recipe": old}) == run_identity({"recipe": values})
    others = [run_identity({"recipe": {**old, "edition": name}}) for name in recipe.EDITIONS]
    assert len(set(others)) == len(recipe.EDITIONS)


def test_a_folder_that_another_edition_began_is_refused(tmp_path):
    """Where somebody has moved it: its own name keeps it from being met."""
    run, folder = recipe.run("7b"), RunFolder(tmp_path)
    base, data = BaseModel(Path("/base"), "1" * 64), TrainingData(Path("/data.jsonl"), "0" * 64, 10, 4)
    wanted = {
        name: FrozenRun(replace(run, edition=name), "trl", base, data, None, None) for name in recipe.EDITIONS
    }
    assert frozen.freeze(folder, wanted["published"]).run.edition == "published"
    assert json.loads(folder.run_json.read_text())["request"]["recipe"]["edition"] == "published"
    assert frozen.freeze(folder, wanted["published"]).run_identity == wanted["published"].run_identity
    with pytest.raises(RequestError, match=r"recipe\.edition was published, is pinned"):
        frozen.freeze(folder, wanted["pinned"])
    saved = folder.checkpoint(4)
    with checkpoints.saving(folder.checkpoints, 4, wanted["pinned"].run_identity) as aside:
        (aside / "model.safetensors").write_text("weights")
    assert checkpoints.damage(saved, "trl") == "it belongs to another run"


@pytest.mark.parametrize("name", recipe.EDITIONS)
def test_round_2_starts_from_round_1_of_its_edition(name, tmp_path):
    space = Workspace(tmp_path)
    first, second = recipe.run("7b", edition=name), recipe.run("7b", 2, edition=name)
    assert frozen.base_of(second, space) == space.run(first).final
    smoke = replace(second, name="smoke")
    assert frozen.base_of(smoke, space) == space.run(first).final
    named = space.run(replace(first, name="smoke")).final
    named.mkdir(parents=True)
    assert frozen.base_of(smoke, space) == named


def test_round_2_asks_for_round_1_of_its_edition(tmp_path):
    request = TrainRequest.of(recipe.run("tiny", 2, edition="published"))
    with pytest.raises(RequestError, match="run make train MODEL=tiny ROUND=1 EDITION=published first"):
        frozen.inputs(request, Workspace(tmp_path))


@pytest.mark.parametrize(
    ("model", "edition", "epsilon"),
    [
        *((model, name, 1e-6) for model in ("1.5b", "7b") for name in recipe.EDITIONS),
        *((model, name, 1e-6) for model in ("14b", "32b") for name in ("pinned", "current")),
        *((model, "published", 1e-5) for model in ("14b", "32b")),
    ],
)
def test_the_published_models_kept_their_own_epsilon(model, edition, epsilon):
    assert architecture.trained_epsilon(recipe.run(model, edition=edition)) == epsilon


def test_every_source_names_a_file_and_a_commit():
    for of_edition in editions.SOURCES.values():
        assert list(of_edition) == list(recipe.EDITIONS)
        for source in of_edition.values():
            assert source.file and len(source.commit) == 40 and source.says


def test_no_two_editions_say_the_same():
    values = [field.name for field in fields(recipe.Edition) if field.name not in ("name", "text")]
    assert len({tuple(getattr(e, v) for v in values) for e in recipe.EDITIONS.values()}) == 3
