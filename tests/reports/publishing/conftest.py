"""A finished run, trained by nobody, with an evaluation of its final model."""

import shutil
from dataclasses import replace

import pytest

from omr.evaluation import evaluation, results
from omr.models.final import average
from omr.workspace import Workspace
from tests.evaluation.kit import found

REPO = "org/tiny-sft"


@pytest.fixture(scope="session")
def finished_once(trained_once, tmp_path_factory):
    """Workspace and run: averaged and evaluated."""
    old, run = trained_once
    workspace = Workspace(tmp_path_factory.mktemp("finished") / "workspace")
    shutil.copytree(old.root, workspace.root)
    folder = workspace.run(run)
    average.make(run, workspace)
    evaluated(folder)
    return workspace, run


def evaluated(folder):
    """Have the run's final model, as it is now, evaluated."""
    result = found()
    inputs = replace(result.inputs, models={"after": evaluation.identity(folder.final)})
    results.write(folder.eval_json, replace(result, inputs=inputs))


@pytest.fixture
def finished(finished_once, tmp_path):
    """A copy of it to plant faults in."""
    workspace, run = finished_once
    shutil.copytree(workspace.root, tmp_path / "workspace")
    return Workspace(tmp_path / "workspace"), run


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch, tmp_path):
    """The tests' own machine has a home folder that no file names."""
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home of nobody"))
