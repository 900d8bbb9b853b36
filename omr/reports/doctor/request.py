"""What `make doctor FOR=` judges: a target, where it would run, and the words that it would be asked with."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from omr import cli, recipe, settings
from omr.data import request as data_request
from omr.data.request import DataRequest
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.training import stage
from omr.workspace import Workspace

Words = Mapping[str, str | int | None]
LOCAL = ("demo",)  # targets that run on this machine whatever RUNNER says
SUBMITTED = ("pipeline",)  # targets that are a graph of Slurm jobs whatever RUNNER says
OF_DATA = ("data", "data-report")  # targets that are about an SFT file, and name no MODEL


@dataclass(frozen=True)
class StageRequest:
    """A target of the Makefile that is about to be typed."""

    target: str
    workspace: Workspace
    trains: tuple[TrainRequest, ...] = ()  # the runs that it is about: none, one, or those of all rounds
    data: tuple[DataRequest, ...] = ()  # the SFT files that it makes
    reads: Path | None = None  # the SFT file that it is about, and does not make
    refusal: OmrError | None = None  # with which the data stage would refuse
    links: int = 1  # NUM_TRAINING_JOBS
    ask: bool = False  # ASK=1: a job may be sent to look at a compute node

    @property
    def train(self) -> TrainRequest | None:
        """The first of its runs."""
        return next(iter(self.trains), None)

    @property
    def run(self) -> recipe.Run | None:
        """The same, as the recipe has it."""
        return self.train and self.train.run

    @property
    def trains_a_model(self) -> bool:
        """Whether optimiser steps are part of it."""
        return self.target in ("train", "pipeline", "demo")

    @property
    def evaluates(self) -> bool:
        """Whether problems are asked of a model."""
        return self.target in ("eval", "pipeline", "demo") or (self.target == "train" and settings.on("EVAL"))

    @property
    def runner(self) -> str:
        """Where it would run; a RequestError lists the ways for a real model's training without RUNNER."""
        if self.target in LOCAL:
            return "host"
        if self.target in SUBMITTED:
            return "slurm"
        if self.target == "train" and self.run:
            return stage.runner(self.run)
        return settings.get("RUNNER") or "host"

    @property
    def tier(self) -> str:
        """The environment that its script needs, as the Makefile says it: cli, data or train."""
        return tiers().get(self.target, "data")


def make(
    target: str, workspace: Workspace, run: Words, data: Words, links: int = 1, ask: bool = False
) -> StageRequest:
    """The request that these words would be: `run` names a run and its training, `data` a corpus and how.

    A RequestError for words that name nothing.
    """
    trains: list[TrainRequest] = []
    if target in SUBMITTED:
        trains = cli.requests_of_all_rounds(**{k: v for k, v in run.items() if k != "round"})
    elif target in LOCAL:
        trains = cli.requests_of_all_rounds("tiny", None, edition=None, steps=None, name=None)
    elif target not in OF_DATA:
        trains = [cli.train_request(**run)]
    files: list[DataRequest] = []
    refusal = None
    try:
        if target == "data":
            files = [_data(workspace, None, run, data)]
        elif target in SUBMITTED:
            files = [_data(workspace, train, run, data) for train in trains]
    except RequestError as error:
        refusal = error
    reads = _read_file(workspace, run, data) if target == "data-report" else None
    return StageRequest(target, workspace, tuple(trains), tuple(files), reads, refusal, links, ask)


def _read_file(workspace: Workspace, run: Words, data: Words) -> Path:
    """The SFT file that these words name."""
    corpus = recipe.corpus(data["dataset"])
    key = recipe.round_(run["round"], run["variant"], corpus.name).key
    return workspace.data(corpus.name, key, recipe.modes(run["modes"], corpus.name), run["name"])


def _data(workspace: Workspace, train: TrainRequest | None, run: Words, data: Words) -> DataRequest:
    """The SFT file of these words, or the one that a training reads."""
    named = {name: run[name] for name in ("modes", "limit", "name")}
    if train:
        of_run = train.run
        words = {**data, "dataset": of_run.model.corpus}
        named = {"modes": run["modes"], "limit": None, "name": None}
        named |= {"round": str(of_run.round.number), "variant": of_run.round.variant}
    else:
        words = data
        named |= {"round": run["round"], "variant": run["variant"]}
    return data_request.request(workspace, **words, **named)


def tiers() -> dict[str, str]:
    """The tier of every target that runs a script: `data: ## …` is followed by `$(RUN) data bin/data.py`."""
    text = (settings.ROOT / "Makefile").read_text()
    return dict(re.findall(r"^([a-z-]+):.*\n\t\$\(RUN\) ([a-z]+) bin/", text, re.MULTILINE))
