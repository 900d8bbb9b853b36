"""`make pipeline`: base model, data, both rounds and their evaluation as one graph of Slurm jobs.

What is finished is left out.
"""

import contextlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omr import files, manifest, recipe, settings
from omr.cluster import frozen_code, job_environment, ns, slurm, stages, submit, train
from omr.cluster.evaluation import submission
from omr.cluster.evaluation.jobs import Evaluation
from omr.cluster.jobs import Dependency
from omr.cluster.stages import Stage
from omr.cluster.submit import JobGraph, Say, Submission
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run import frozen
from omr.training.nemo_rl import engine_file
from omr.workspace import RunFolder, Workspace

OF_RUN = ("train", "eval")  # kinds of parts whose jobs are a run's own


@dataclass(frozen=True)
class Part:
    """A stage of a run that is left to do."""

    kind: str  # model, data, train, eval
    request: TrainRequest

    @property
    def run(self) -> recipe.Run:
        """The run that it belongs to."""
        return self.request.run

    @property
    def title(self) -> str:
        """`train 7b round1`: one of each in a graph."""
        return f"{self.kind} {self.run.title}"


def parts(requests: Sequence[TrainRequest], workspace: Workspace, evaluate: bool = False) -> list[Part]:
    """What is left to do, in order: the model, then for each round its data, training, evaluation."""
    todo: list[Part] = []
    first = requests[0]
    if manifest.read(workspace.model(first.run.model.folder)) is None:
        todo.append(Part("model", first))
    for request in requests:
        folder = workspace.run(request.run)
        if manifest.read(folder.final) is not None:
            if evaluate and not _evaluated(request.run, folder):
                todo.append(Part("eval", request))
            continue
        if manifest.read(frozen.data_of(request.run, workspace, request.modes)) is None:
            todo.append(Part("data", request))
        todo.append(Part("train", request))
    return todo


def _evaluated(run: recipe.Run, folder: RunFolder) -> bool:
    """Whether a run's eval.json has every mode that is asked for."""
    found = files.read_json(folder.eval_json) if folder.eval_json.exists() else {}
    return set(Evaluation.of_settings(run).modes) <= set(found)


def make(requests: Sequence[TrainRequest], workspace: Workspace, how: Submission, say: Say) -> None:
    """Submit the graph, whole or not at all. A run is frozen by its first link, once its inputs stand."""
    others = {"SEED": settings.number("SEED"), **{n: settings.get(n) for n in ("DROP", "VALIDATION")}}
    for name, value in others.items():
        if not value:
            continue
        raise RequestError(
            f"{name}={value} makes other data than the recipe's; run make data {name}=… NAME=… for"
            " both rounds first, then make pipeline with that NAME"
        )
    first = requests[0].run
    todo = parts(requests, workspace, how.evaluate)
    title = f"{first.model.folder} {' and '.join(request.run.key for request in requests)}"
    planner = _Planner(requests[0], workspace, how, todo)
    if not todo:
        say(f"{title}: everything is finished")
    elif how.dry_run:
        _show(planner, say)
    else:
        train.check_request(first, how.evaluate, say)
        ids = _submit(planner, say)
        say(f"{title}: submitted {len(ids)} jobs: " + ", ".join(f"{key} {i}" for key, i in ids.items()))
        say("make status watches them")


def _show(planner: "_Planner", say: Say) -> None:
    """Say what every part would submit and write."""
    for part in planner.todo:
        graph = planner.graph(part)
        say(f"\n# {part.title}")
        submit.show(graph, say)
        planner.done(part, {job.key: f"<{part.run.key} {job.key}>" for job in graph.jobs})


def _submit(planner: "_Planner", say: Say) -> dict[str, str]:
    """Submit all parts held, write them down, then let them go; returns the Slurm ids by part and key."""
    workspace, ids = planner.workspace, {}
    held: list[tuple[JobGraph, dict[str, str]]] = []
    with contextlib.ExitStack() as locks:
        for folder, run in {workspace.run(part.run): part.run for part in planner.todo}.items():
            locks.enter_context(train.submission_lock(run, folder))
        for part in planner.todo:
            if part.kind in OF_RUN:
                train.refuse_second(part.run, workspace.run(part.run), say)
                if part.kind == "train":  # an evaluation runs the checkout, as make eval does
                    ns.refuse(workspace.run(part.run))
                    frozen_code.check(workspace.run(part.run))
                    frozen_code.keep(workspace.run(part.run), say)
            else:
                record = planner.record(part)
                submit.cancel_interrupted(str(record), [record], say)
        job_environment.make_node_environments(planner.first.engine, planner.how.evaluate)
        try:
            for part in planner.todo:
                graph = planner.graph(part)
                if part.kind == "train":
                    _write_inputs(part, graph, workspace)
                given = submit.submit_held(graph)
                held.append((graph, given))
                planner.done(part, given)
                ids |= {f"{part.kind} {part.run.key} {key}": number for key, number in given.items()}
        except (OmrError, KeyboardInterrupt):
            slurm.cancel(ids.values())
            raise
        for graph, given in held:
            submit.write_record(graph, given)
        submit.release([graph.record for graph, _ in held], ids.values())
    files.write_json(workspace.root / "logs" / f"pipeline-{secrets.token_hex(4)}.json", {"jobs": ids})
    return ids


def _write_inputs(part: Part, graph: JobGraph, workspace: Workspace) -> None:
    """Write what a training's engine reads, and what its data looks like where that is there."""
    folder, data = workspace.run(part.run), frozen.data_of(part.run, workspace, part.request.modes)
    if graph.engine_file:
        if data.exists() and (began := frozen.read(folder)):
            engine_file.check(graph.engine_file, began)
        files.write_text(graph.engine_file.path, graph.engine_file.text)
    if manifest.read(data) is not None:
        train.record_data(folder, data)


class _Planner:
    """The parts as graphs of jobs, each with what it waits for; parts are planned in order."""

    def __init__(self, first: TrainRequest, workspace: Workspace, how: Submission, todo: list[Part]) -> None:
        self.first, self.workspace, self.how, self.todo = first, workspace, how, todo
        self.finished_by: dict[str, str] = {}  # title of a part -> Slurm id of the job that finishes it

    def done(self, part: Part, ids: dict[str, str]) -> None:
        """The part is submitted, with these ids by key."""
        self.finished_by[part.title] = ids["average"] if part.kind == "train" else list(ids.values())[-1]

    def record(self, part: Part) -> Path:
        """Where the ids of a part that belongs to no run are written; its jobs are found by this path."""
        return self.workspace.root / "logs" / f"{_key(part)}.jobs.json"

    def graph(self, part: Part) -> JobGraph:
        """The jobs of a part, after the jobs of those that it needs."""
        needs = [need.title for need in self._needs(part)]
        after = tuple(Dependency("afterok", self.finished_by[n]) for n in needs if n in self.finished_by)
        if part.kind == "train":
            data = frozen.data_of(part.run, self.workspace, part.request.modes)
            future = train.FutureInputs(self._base(part.run), data, after)
            return train.job_graph(part.request, self.workspace, self.how, future)
        if part.kind == "eval":
            return submission.job_graph(
                part.run, self.workspace, Evaluation.of_settings(part.run), part.request
            )
        site = job_environment.site(self.workspace, part.request)
        logs = self.workspace.root / "logs"
        stage = Stage(
            *(_key(part), "data", f"bin/{part.kind}.py", logs, str(self.record(part))),
            after=after,
            settings={"DATASET": part.run.model.corpus, "LIMIT": "", "NAME": ""},
        )
        shards = settings.number("SHARDS") if part.kind == "data" else 1
        return JobGraph(stages.data_jobs(stage, site, shards), self.record(part))

    def _needs(self, part: Part) -> list[Part]:
        """The parts that a part waits for, where they are still to be done."""
        second_round = part.run.round.number == 2
        if part.kind == "train":
            base = Part("train", self.first) if second_round else Part("model", part.request)
            return [Part("data", part.request), base]
        # Both rounds read one raw folder; the first to come fills it.
        return [Part("data", self.first)] if part.kind == "data" and second_round else []

    def _base(self, run: recipe.Run) -> Path:
        """The model that a run will start from: round 1's end, where this very graph makes it."""
        if run.round.number == 2 and Part("train", self.first) in self.todo:
            return self.workspace.run(self.first.run).final
        return frozen.base_of(run, self.workspace)


def _key(part: Part) -> str:
    """`data-7b-round1`: names the jobs and the record of a plain stage."""
    return f"{part.kind}-{part.run.model.folder}-{part.run.key}"
