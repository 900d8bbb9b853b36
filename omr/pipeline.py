"""A model as one graph: data, base, round 1, round 2, each evaluated; what is finished is skipped."""

import secrets
from collections.abc import Callable

from omr import chain, files, job_env, manifest, recipe, runs, settings, slurm, submit
from omr.errors import OmrError
from omr.workspace import Workspace


def parts(runs_: list[recipe.Run], workspace: Workspace, asked: dict) -> list[tuple[str, object]]:
    """What is left to do, in order: (`model`, run), (`data`, run), (`train`, run)."""
    todo: list[tuple[str, object]] = []
    first = runs_[0]
    if manifest.read(workspace.model(first.model.name)) is None:
        todo.append(("model", first))
    for run in runs_:
        if manifest.read(workspace.run(run).final) is not None:
            continue
        if manifest.read(runs.data_of(run, workspace, asked["modes"])) is None:
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
    todo = parts(runs_, workspace, asked)
    title = f"{runs_[0].model.name} {' and '.join(run.key for run in runs_)}"
    if not todo:
        say(f"{title}: everything is finished")
        return
    if not dry_run:
        slurm.need()
        submit.preflight.secrets_file()
        for kind, run in todo:
            if kind == "train":
                slurm.refuse_second(workspace.run(run).root, run.title)
        submit.environments(asked["engine"])
    ids: dict[str, str] = {}
    done: dict[str, str] = {}  # the job that finishes a part -> its id
    logs = workspace.root / "logs"
    shards = int(settings.get("SHARDS") or 1)
    try:
        for kind, run in todo:
            here = job_env.site(run, workspace, asked)
            after = tuple(("afterok", done[need]) for need in _needs(kind, run) if need in done)
            folder = workspace.run(run)
            if kind == "train":
                prepare = asked["engine"] == "nemo-rl" and not job_env.prepared(run, workspace, asked)
                given = {"engine": asked["engine"], "links": links, "evaluate": evaluate}
                jobs = chain.training(run, folder, here, **given, prepare=prepare, after=after)
                file = job_env.engine_file(run, workspace, asked)
                record = folder.jobs_json
            else:
                env = {"DATASET": run.model.corpus, "LIMIT": "", "NAME": ""}
                key = f"{kind}-{run.model.name}-{run.key}"
                if kind == "data" and shards > 1:
                    jobs = chain.data_shards(here, logs, shards, key=key, after=after, **env)
                else:
                    jobs = [chain.stage(key, "data", f"bin/{kind}.py", here, logs, after=after, **env)]
                file, record = None, logs / f"{key}.jobs.json"
            if dry_run:
                say(f"\n# {kind} {run.title}")
                submit.show(jobs, file, say)
                given = {job.key: f"<{run.key} {job.key}>" for job in jobs}
            else:
                if file:
                    files.write_text(*file)
                given = submit.submit(jobs, record, folder if kind == "train" else None)
                ids |= {f"{kind} {run.key} {key}": number for key, number in given.items()}
            last = "average" if kind == "train" else jobs[-1].key
            done[f"{kind} {run.key}"] = given[last]
    except (OmrError, KeyboardInterrupt):
        slurm.cancel(ids.values())
        raise
    if not dry_run:
        say(f"{title}: submitted {len(ids)} jobs: " + ", ".join(f"{key} {i}" for key, i in ids.items()))
        files.write_json(logs / f"pipeline-{secrets.token_hex(4)}.json", {"jobs": ids})
        say("make status watches them")


def _needs(kind: str, run: recipe.Run) -> list[str]:
    """The parts that a part waits for, where they are still to be done."""
    if kind == "train":
        base = "model round1" if run.round.number == 1 else "train round1"
        named = [base.replace("round1", f"round1-{run.name}")] if run.name else []
        return [f"data {run.key}", base, *named]
    # Both rounds read one raw folder; the first to come fills it.
    return ["data round1"] if kind == "data" and run.round.number == 2 else []
