"""A model as one graph: data, base, round 1, round 2, each evaluated; what is finished is skipped."""

import contextlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from omr import files, manifest, recipe, settings
from omr.cluster import chain, job_environment, slurm, submit
from omr.cluster.chain import Job
from omr.cluster.submit import Submission
from omr.errors import OmrError, RequestError
from omr.request import TrainRequest
from omr.run import frozen
from omr.training.nemo_rl import engine_file
from omr.training.nemo_rl.engine_file import EngineFile
from omr.workspace import Workspace


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


@dataclass(frozen=True)
class PartJobs:
    """What is submitted for a part."""

    jobs: list[Job]
    record: Path  # where the ids are written
    file: EngineFile | None = None  # of a training


def parts(requests: list[TrainRequest], workspace: Workspace, evaluate: bool = False) -> list[Part]:
    """What is left to do, in order: the model, then for each round its data, training, evaluation."""
    todo: list[Part] = []
    first = requests[0]
    if manifest.read(workspace.model(first.run.model.name)) is None:
        todo.append(Part("model", first))
    for request in requests:
        folder = workspace.run(request.run)
        if manifest.read(folder.final) is not None:
            if evaluate and not folder.eval_json.exists():
                todo.append(Part("eval", request))
            continue
        if manifest.read(frozen.data_of(request.run, workspace, request.modes)) is None:
            todo.append(Part("data", request))
        todo.append(Part("train", request))
    return todo


def make(
    requests: list[TrainRequest], workspace: Workspace, how: Submission, say: Callable[[str], None]
) -> None:
    """Submit the graph, whole or not at all. A run is frozen by its first link, once its inputs stand."""
    if int(settings.get("SEED") or 0):
        raise RequestError(
            f"SEED={settings.get('SEED')} makes other data than the recipe's; run make data SEED=… NAME=… for"
            " both rounds first, then make pipeline with that NAME"
        )
    first = requests[0].run
    if how.evaluate and first.model.corpus != "tiny" and not settings.get("PROBLEMS"):
        say("note: nothing is evaluated, because PROBLEMS is not set")
        how = replace(how, evaluate=False)
    todo = parts(requests, workspace, how.evaluate)
    title = f"{first.model.name} {' and '.join(request.run.key for request in requests)}"
    if not todo:
        say(f"{title}: everything is finished")
        return
    graph = _Graph(requests[0], workspace, how, todo)
    if how.dry_run:
        for part in todo:
            planned = graph.jobs(part)
            say(f"\n# {part.title}")
            submit.show(planned.jobs, planned.file, say)
            graph.done(part, {job.key: f"<{part.run.key} {job.key}>" for job in planned.jobs})
        return
    submit.ready(first, how.evaluate, say)
    ids: dict[str, str] = {}
    with contextlib.ExitStack() as held:
        for part in todo:
            if part.kind == "train":
                run, folder = part.run, workspace.run(part.run)
                folder.root.mkdir(parents=True, exist_ok=True)
                held.enter_context(files.lock(folder.root / ".submit.lock", f"the chain of {run.title}"))
                slurm.refuse_second(folder.root, run.title)
        submit.environments(requests[0].engine)
        try:
            for part in todo:
                given = _submit(graph, part)
                graph.done(part, given)
                ids |= {f"{part.kind} {part.run.key} {key}": number for key, number in given.items()}
        except (OmrError, KeyboardInterrupt):
            slurm.cancel(ids.values())
            raise
    say(f"{title}: submitted {len(ids)} jobs: " + ", ".join(f"{key} {i}" for key, i in ids.items()))
    files.write_json(workspace.root / "logs" / f"pipeline-{secrets.token_hex(4)}.json", {"jobs": ids})
    say("make status watches them")


def _submit(graph: "_Graph", part: Part) -> dict[str, str]:
    """Submit the jobs of a part; returns key -> id."""
    planned, run = graph.jobs(part), part.run
    file = planned.file
    if part.kind != "train":
        return submit.submit(planned.jobs, planned.record)
    folder, data = graph.workspace.run(run), frozen.data_of(run, graph.workspace, part.request.modes)
    if file:
        if data.exists() and (began := frozen.read(folder)):
            engine_file.check(file, began)
        files.write_text(file.path, file.text)
    if manifest.read(data) is not None:
        submit.know_data(folder, data)
    return submit.submit(planned.jobs, planned.record, run, folder)


class _Graph:
    """The parts as jobs, each with what it waits for."""

    def __init__(self, first: TrainRequest, workspace: Workspace, how: Submission, todo: list[Part]) -> None:
        self.first, self.workspace, self.how, self.todo = first, workspace, how, todo
        self.finished: dict[str, str] = {}  # title of a part -> the job that finishes it

    def done(self, part: Part, given: dict[str, str]) -> None:
        """The part is submitted, with these ids by key."""
        self.finished[part.title] = given["average"] if part.kind == "train" else list(given.values())[-1]

    def base(self, run: recipe.Run) -> Path:
        """The model that a run will start from: round 1's end, where this very graph makes it."""
        if run.round.number == 2 and Part("train", self.first) in self.todo:
            return self.workspace.run(self.first.run).final
        return frozen.base_of(run, self.workspace)

    def jobs(self, part: Part) -> PartJobs:
        """The jobs of a part, after the jobs of those that it needs."""
        request, run, kind = part.request, part.run, part.kind
        site = job_environment.site(self.workspace, request)
        needs = [need.title for need in self._needs(part)]
        after = tuple(("afterok", self.finished[need]) for need in needs if need in self.finished)
        folder, logs = self.workspace.run(run), self.workspace.root / "logs"
        if kind == "train":
            data = frozen.data_of(run, self.workspace, request.modes)
            file = submit.engine_file_of(request, self.workspace, base=self.base(run), data=data)
            jobs = submit.plan(request, self.workspace, self.how, after)
            return PartJobs(jobs, folder.jobs_json, file)
        key = f"{kind}-{run.model.name}-{run.key}"
        record = logs / f"{key}.jobs.json"
        if kind == "eval":
            gpus, env = min(site.gpus, 1), {"RUN_DIR": str(folder.root)}
            job = chain.stage(key, "train", "bin/eval.py", site, folder.logs, gpus=gpus, **env)
            return PartJobs([job], record)
        env = {"DATASET": run.model.corpus, "LIMIT": "", "NAME": ""}
        shards = int(settings.get("SHARDS") or 1)
        if kind == "data" and shards > 1:
            return PartJobs(chain.data_shards(site, logs, shards, key=key, after=after, **env), record)
        return PartJobs([chain.stage(key, "data", f"bin/{kind}.py", site, logs, after=after, **env)], record)

    def _needs(self, part: Part) -> list[Part]:
        """The parts that a part waits for, where they are still to be done."""
        request = part.request
        if part.kind == "train":
            base = Part("model", request) if part.run.round.number == 1 else Part("train", self.first)
            return [Part("data", request), base]
        # Both rounds read one raw folder; the first to come fills it.
        return [Part("data", self.first)] if part.kind == "data" and part.run.round.number == 2 else []
