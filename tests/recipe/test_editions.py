"""Editions: the words that name them, the places that keep them apart, and a source for every value."""

import json
from dataclasses import fields, replace

import pytest

from omr import recipe, settings
from omr.errors import RequestError
from omr.models import architecture
from omr.recipe import editions
from omr.request import TrainRequest
from omr.run import frozen
from omr.run.checkpoints import run_identity
from omr.workspace import Workspace


def test_the_setting_has_the_editions_of_the_table():
    setting = settings.SETTINGS["EDITION"]
    assert setting.choices == tuple(recipe.EDITIONS)
    assert setting.default == recipe.PINNED


def test_pinned_is_the_commit_of_the_pins():
    assert editions.SKILLS == settings.pins()["NEMO_SKILLS_COMMIT"]


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
