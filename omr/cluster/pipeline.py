"""A model as one graph: data, base, round 1, round 2, each evaluated; what is finished is skipped."""

import contextlib
import secrets
from collections.abc import Callable
from pathlib import Path

from omr import files, manifest, recipe, settings
from omr.cluster import chain, job_environment, slurm, submit
from omr.cluster.chain import Job
from omr.errors import OmrError, RequestError
from omr.run import request
from omr.workspace import Workspace

Part = tuple[str, recipe.Run]


def parts(runs_: list[recipe.Run], workspace: Workspace, asked: dict, evaluate: bool = False) -> list[Part]:
    """What is left to do, in order: (`model`, run), (`data`, run), (`train`, run), (`eval`, run)."""
    todo: list[Part] = []
    first = runs_[0]
    if manifest.read(workspace.model(first.model.name)) is None:
        todo.append(("model", first))
    for run in runs_:
        folder = workspace.run(run)
        if manifest.read(folder.final) is not None:
            if evaluate and not folder.eval_json.exists():
                todo.append(("eval", run))
            continue
        if manifest.read(request.data_of(run, workspace, asked["modes"])) is None:
            todo.append(("data", run))
        todo.append(("train", run))
    return todo


def make(
    runs_: list[recipe.Run],
    workspace: Workspace,
    asked: dict,
    *,
    links: int,
    evaluate: bool,
    say: Callable[[str], None],
    dry_run: bool = False,
) -> None:
    """Submit the graph, whole or not at all. A run is frozen by its first link, once its inputs stand."""
    if int(settings.get("SEED") or 0):
        raise RequestError(
            f"SEED={settings.get('SEED')} makes other data than the recipe's; run make data SEED=… NAME=… for"
            " both rounds first, then make pipeline with that NAME"
        )
    if evaluate and runs_[0].model.corpus != "tiny" and not settings.get("PROBLEMS"):
        say("note: nothing is evaluated, because PROBLEMS is not set")
        evaluate = False
    todo = parts(runs_, workspace, asked, evaluate)
    title = f"{runs_[0].model.name} {' and '.join(run.key for run in runs_)}"
    if not todo:
        say(f"{title}: everything is finished")
        return
    graph = _Graph(runs_, workspace, asked, links, evaluate, todo)
    if dry_run:
        for part in todo:
            jobs, file, _ = graph.jobs(part)
            say(f"\n# {part[0]} {part[1].title}")
            submit.show(jobs, file, say)
            graph.done(part, {job.key: f"<{part[1].key} {job.key}>" for job in jobs})
        return
    submit.ready(runs_[0], evaluate, say)
    ids: dict[str, str] = {}
    with contextlib.ExitStack() as held:
        for kind, run in todo:
            if kind == "train":
                folder = workspace.run(run)
                folder.root.mkdir(parents=True, exist_ok=True)
                held.enter_context(files.lock(folder.root / ".submit.lock", f"the chain of {run.title}"))
                slurm.refuse_second(folder.root, run.title)
        submit.environments(asked["engine"])
        try:
            for part in todo:
                given = _submit(graph, part)
                graph.done(part, given)
                ids |= {f"{part[0]} {part[1].key} {key}": number for key, number in given.items()}
        except (OmrError, KeyboardInterrupt):
            slurm.cancel(ids.values())
            raise
    say(f"{title}: submitted {len(ids)} jobs: " + ", ".join(f"{key} {i}" for key, i in ids.items()))
    files.write_json(workspace.root / "logs" / f"pipeline-{secrets.token_hex(4)}.json", {"jobs": ids})
    say("make status watches them")


def _submit(graph: "_Graph", part: Part) -> dict[str, str]:
    """Submit the jobs of a part; returns key -> id."""
    jobs, file, record = graph.jobs(part)
    kind, run = part
    if kind != "train":
        return submit.submit(jobs, record)
    folder, data = graph.workspace.run(run), graph.data(run)
    if file:
        if data.exists() and folder.run_json.exists():
            job_environment.check_engine(file, run, request.frozen(run, folder)["request"])
        files.write_text(*file)
    if manifest.read(data) is not None:
        submit.know_data(folder, data)
    return submit.submit(jobs, record, run, folder)


class _Graph:
    """The parts as jobs, each with what it waits for."""

    def __init__(
        self,
        runs_: list[recipe.Run],
        workspace: Workspace,
        asked: dict,
        links: int,
        evaluate: bool,
        todo: list[Part],
    ) -> None:
        self.workspace, self.asked, self.todo = workspace, asked, todo
        self.how = {"links": links, "evaluate": evaluate}
        self.first = runs_[0]
        self.finished: dict[tuple[str, str], str] = {}  # kind and round of a part -> the job that finishes it

    def done(self, part: Part, given: dict[str, str]) -> None:
        """The part is submitted, with these ids by key."""
        self.finished[part[0], part[1].key] = (
            given["average"] if part[0] == "train" else list(given.values())[-1]
        )

    def data(self, run: recipe.Run) -> Path:
        """The SFT file that a run will train on."""
        return request.data_of(run, self.workspace, self.asked["modes"])

    def base(self, run: recipe.Run) -> Path:
        """The model that a run will start from: round 1's end, where this very graph makes it."""
        if run.round.number == 2 and ("train", self.first) in self.todo:
            return self.workspace.run(self.first).final
        return request.base_of(run, self.workspace)

    def jobs(self, part: Part) -> tuple[list[Job], tuple[Path, str] | None, Path]:
        """The jobs of a part, the engine's file if it is a training's, and where their ids are written."""
        kind, run = part
        here = job_environment.site(run, self.workspace, self.asked)
        needs = [(kind, run.key) for kind, run in self._needs(part)]
        after = tuple(("afterok", self.finished[need]) for need in needs if need in self.finished)
        folder, logs = self.workspace.run(run), self.workspace.root / "logs"
        if kind == "train":
            jobs = submit.plan(run, self.workspace, self.asked, **self.how, after=after)
            where = {"base": self.base(run), "data": self.data(run)}
            return (
                jobs,
                job_environment.engine_file(run, self.workspace, self.asked, **where),
                folder.jobs_json,
            )
        key = f"{kind}-{run.model.name}-{run.key}"
        record = logs / f"{key}.jobs.json"
        if kind == "eval":
            gpus = min(here.gpus, 1)
            env = {"RUN_DIR": str(folder.root)}
            return (
                [chain.stage(key, "train", "bin/eval.py", here, folder.logs, gpus=gpus, **env)],
                None,
                record,
            )
        env = {"DATASET": run.model.corpus, "LIMIT": "", "NAME": ""}
        shards = int(settings.get("SHARDS") or 1)
        if kind == "data" and shards > 1:
            return chain.data_shards(here, logs, shards, key=key, after=after, **env), None, record
        return [chain.stage(key, "data", f"bin/{kind}.py", here, logs, after=after, **env)], None, record

    def _needs(self, part: Part) -> list[Part]:
        """The parts that a part waits for, where they are still to be done."""
        kind, run = part
        if kind == "train":
            return [("data", run), ("model", run) if run.round.number == 1 else ("train", self.first)]
        # Both rounds read one raw folder; the first to come fills it.
        return [("data", self.first)] if kind == "data" and run.round.number == 2 else []
