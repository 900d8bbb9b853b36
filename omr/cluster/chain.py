"""A run -> the graph of Slurm jobs that trains it, and each job's sbatch command. Values in, values out.

    prepare ─ok─> train 1 ─any─> train 2 … ─any─> convert (array) ─ok─> average ─ok─> eval

Links follow each other whatever happened to the one before (afterany): each proves for itself that it can
go on, the last to finish the training cancels the surplus, and convert proves that the training is complete.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omr import recipe
from omr.errors import RequestError
from omr.settings import ROOT
from omr.workspace import RunFolder


@dataclass(frozen=True)
class Site:
    """The machine facts that jobs need; `words` are further settings that every job gets by name."""

    nodes: int
    gpus: int
    account: str | None = None
    partition: str | None = None
    cpu_partition: str | None = None
    qos: str | None = None
    time: str | None = None
    container: str | None = None
    python: str = "python3"
    root: Path = ROOT
    words: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One submission. `after` has (kind, key) of the jobs it waits for; a Slurm id serves as a key too."""

    key: str
    name: str
    script: str
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[tuple[str, str], ...] = ()
    output: Path | None = None
    comment: str = ""
    args: tuple[str, ...] = ()

    def argv(self, ids: Mapping[str, str], root: Path = ROOT) -> list[str]:
        """The sbatch command, with the ids of the jobs it waits for."""
        # Some sites have jobs start with an empty environment.
        words = [
            "sbatch",
            "--parsable",
            "--export=ALL",
            f"--job-name={self.name}",
            f"--comment={self.comment}",
        ]
        words += ["--kill-on-invalid-dep=yes", "--open-mode=append", f"--output={self.output}"]
        words += [f"--chdir={root}", *self.options]
        if self.after:
            words.append(
                "--dependency=" + ",".join(f"{kind}:{ids.get(key, key)}" for kind, key in self.after)
            )
        return [*words, str(root / self.script), *self.args]


def job_name(run: recipe.Run, stage: str = "") -> str:
    """One name per run, as squeue shows it: `omr-7b-round1`, its stages behind it."""
    return "-".join(filter(None, ("omr", run.model.name, run.key, stage)))


def training(
    run: recipe.Run,
    folder: RunFolder,
    site: Site,
    *,
    engine: str,
    links: int,
    evaluate: bool = False,
    prepare: bool = False,
    trained: bool = False,
    after: tuple[tuple[str, str], ...] = (),
) -> list[Job]:
    """The jobs of one run in submission order; `after` is what the first of them waits for.

    A run that is `trained` needs no link, which would queue for all its nodes to find that out.
    """
    if links < 1:
        raise RequestError(f"NUM_TRAINING_JOBS={links} trains nothing; set 1 or more")
    common = {**site.words, "ENGINE": engine, "RUN_DIR": str(folder.root), "RUNNER": "slurm"}
    logs = folder.logs

    def job(key: str, script: str, options: list[str], after: tuple, **env: str) -> Job:
        stage = "" if key.startswith("train") else key
        pattern = "%x-%A_%a.log" if key == "convert" else "%x-%j.log"
        return Job(
            key,
            job_name(run, stage),
            script,
            tuple([*place(site, gpu=key not in ("prepare", "average")), *options]),
            {**common, "GPUS": "0", **env},
            after,
            logs / pattern,
            str(folder.root),
        )

    jobs = []
    if prepare and not trained:
        options = ["--nodes=1", "--requeue", *workers(site)]
        jobs.append(job("prepare", STAGE, options, after, STAGE_TIER="data", STAGE_SCRIPT="bin/prepare.py"))
        after = (("afterok", "prepare"),)
    always = tuple(need for need in after if need[0] == "afterok")
    size = [f"--nodes={site.nodes}", "--ntasks-per-node=1", "--requeue", "--signal=B:USR2@60"]
    # Whole nodes, their memory too, which --exclusive alone does not ask for.
    size += [f"--gpus-per-node={site.gpus}", "--exclusive", "--mem=0"] if site.gpus else []
    for number in range(1, 1 if trained else links + 1):
        key = f"train-{number}"
        extent = {"NODES": str(site.nodes), "LINK": str(number), "LINKS": str(links)}
        jobs.append(job(key, "slurm/train.sbatch", size, after, GPUS=str(site.gpus), **extent))
        after = (*always, ("afterany", key))
    after = after if trained else (("afterany", key),)
    steps, one = run.schedule.averaged, min(site.gpus, 1)
    gpu = ["--gpus-per-node=1"] if one and engine == "nemo-rl" else []
    array = ["--nodes=1", f"--array=0-{len(steps) - 1}", "--requeue", *gpu]
    numbers = {"CONVERT_STEPS": " ".join(map(str, steps)), "GPUS": str(len(gpu))}
    jobs.append(job("convert", "slurm/convert.sbatch", array, after, **numbers))
    stages = [("average", "data", "bin/average.py", 0)]
    stages += [("eval", "train", "bin/eval.py", one)] if evaluate else []
    for key, tier, script, gpus in stages:
        options = ["--nodes=1", "--requeue", *(["--gpus-per-node=1"] if gpus else [])]
        needs = {"STAGE_TIER": tier, "STAGE_SCRIPT": script, "GPUS": str(gpus)}
        jobs.append(job(key, STAGE, options, (("afterok", jobs[-1].key),), **needs))
    return jobs


STAGE = "slurm/stage.sbatch"


def stage(
    key: str,
    tier: str,
    script: str,
    site: Site,
    logs: Path,
    *,
    args: tuple[str, ...] = (),
    after: tuple[tuple[str, str], ...] = (),
    gpus: int = 0,
    array: int = 0,
    **env: str,
) -> Job:
    """A stage as a job of its own: data, model. Its log goes to `logs`; `array` makes it that many tasks."""
    options = [*place(site, gpu=gpus > 0), "--nodes=1", "--requeue"]
    if gpus:
        options.append(f"--gpus-per-node={gpus}")
    options += workers(site)
    if array:
        options.append(f"--array=0-{array - 1}")
    needs = {"GPUS": str(gpus), "RUNNER": "slurm", "STAGE_TIER": tier, "STAGE_SCRIPT": script}
    return Job(
        key,
        f"omr-{key}",
        STAGE,
        tuple(options),
        {**site.words, **env, **needs},
        after,
        logs / ("%x-%A_%a.log" if array else "%x-%j.log"),
        str(logs.parent),
        args,
    )


def data_shards(
    site: Site,
    logs: Path,
    parts: int,
    *,
    key: str = "data",
    args: tuple[str, ...] = (),
    after: tuple[tuple[str, str], ...] = (),
    **env: str,
) -> list[Job]:
    """The data stage on several machines: one plans, an array formats disjoint shards, one mixes.

    The plan's work folder is the same whoever formats, so the bytes are those of one machine.
    """

    def one(suffix: str, after: tuple, *more: str, array: int = 0, **named: str) -> Job:
        given = {"args": (*args, *more), "after": after, "array": array}
        return stage(f"{key}{suffix}", "data", "bin/data.py", site, logs, **given, **env, **named)

    plan = one("-plan", after, "--part", "plan")
    array = one("-format", (("afterok", plan.key),), array=parts, STAGE_PARTS=str(parts))
    return [plan, array, one("", (("afterok", array.key),))]


def place(site: Site, gpu: bool) -> list[str]:
    """Where a job goes: the training partition, or the one for CPU stages."""
    partition = site.partition if gpu else site.cpu_partition or site.partition
    named = (("account", site.account), ("partition", partition), ("qos", site.qos), ("time", site.time))
    return [f"--{word}={value}" for word, value in named if value]


def workers(site: Site) -> list[str]:
    """The cores of a CPU stage: what WORKERS says; Slurm gives one otherwise."""
    count = site.words.get("WORKERS")
    return [f"--cpus-per-task={count}"] if count else []


def picture(jobs: list[Job]) -> str:
    """The graph in the terminal: the line of jobs, then what each waits for and asks for."""
    arrows = {"afterok": "─ok→", "afterany": "─any→"}
    line = jobs[0].key
    for job in jobs[1:]:
        kind = next((kind for kind, key in reversed(job.after) if not key.isdigit()), "afterok")
        line += f" {arrows[kind]} {job.key}"
    width = max(len(job.key) for job in jobs)
    rows = []
    for job in jobs:
        waits = " and ".join(f"{kind} {key}" for kind, key in job.after) or "at once"
        shown = [
            o for o in job.options if o.startswith(("--nodes", "--gpus", "--array", "--time", "--partition"))
        ]
        rows.append(f"  {job.key:<{width}}  {waits:<34}  {' '.join(shown)}".rstrip())
    return "\n".join([line, "", *rows])
