"""What a request starts from: data, base model, trained run; and whether somebody is at it already."""

from pathlib import Path

from omr import manifest, recipe
from omr.cluster import slurm
from omr.cluster.evaluation import checks as evaluation_checks
from omr.containers.checks import Check, fix, ok
from omr.reports.doctor.request import StageRequest
from omr.run import frozen
from omr.training import preflight

OF_FINAL = ("validate", "eval", "serve", "ask", "publish")  # targets that take a run's final model
OF_RUN = ("average", "passport", "prune", "report")  # targets that take a run's folder


def checks(request: StageRequest) -> list[Check]:
    """The rows of a request about a run or a file; none for one that makes its data, or whose jobs do."""
    if request.reads:
        return [_data(request.reads)]
    run = request.run
    if not run or request.target not in ("train", *OF_FINAL, *OF_RUN):
        return []
    folder = request.workspace.run(run)
    words = recipe.run_words(run)
    done = manifest.read(folder.final) is not None
    if request.target in OF_FINAL:
        if done:
            return [ok("final model", str(folder.final))]
        return [fix("final model", f"{folder.final} is not there", f"run make train {words}")]
    if request.target in OF_RUN:
        frozen.need(run, folder)
        return (
            [*_steps(request), ok("run", str(folder.root))]
            if request.target == "average"
            else [ok("run", str(folder.root))]
        )
    if done:
        return [ok("final model", f"{folder.final} is finished; make train does nothing")]
    return [_inputs(request), *_alone(request)]


def _data(path: Path) -> Check:
    """An SFT file is there and finished."""
    made = manifest.read(path)
    if made is None:
        return fix("data", f"{path} is not there", "run make data with the same words")
    return ok("data", f"{path.name}, {made['rows']:,} rows")


def _inputs(request: StageRequest) -> Check:
    """Data and base are there, whole, and those that the run was begun with."""
    wanted = frozen.inputs(request.train, request.workspace)
    size = wanted.data.path.stat().st_size if wanted.data.path.exists() else 0
    if size != wanted.data.size:
        said = f"{wanted.data.path} has {size} bytes, its manifest says {wanted.data.size}"
        return fix("inputs", said, f"run make data DATASET={request.run.model.corpus} FORCE=1")
    preflight.base(wanted.base, request.run)
    began = frozen.read(request.workspace.run(request.run))
    if began and (different := manifest.changes(began.request_json(), wanted.request_json())):
        said = f"the run was begun with another request: {'; '.join(different)}"
        return fix("inputs", said, "set NAME=… for a run of its own, or ask for the same again")
    return ok("inputs", f"{wanted.data.path.name}, {wanted.data.rows:,} rows; base {wanted.base.path}")


def _alone(request: StageRequest) -> list[Check]:
    """No chain of the run is queued or running."""
    if not slurm.available():
        return []
    folder = request.workspace.run(request.run)
    slurm.refuse_second(str(folder.root), request.run.title)
    return [ok("chain", "none of this run is queued or running")]


def _steps(request: StageRequest) -> list[Check]:
    """The converted steps that the average takes."""
    folder, run = request.workspace.run(request.run), request.run
    lost = [step for step in run.schedule.averaged if manifest.read(folder.hf_step(step)) is None]
    if lost and manifest.read(folder.final) is None:
        words = recipe.run_words(run)
        return [fix("converted steps", f"{folder.hf_step(lost[0])} is not there", f"run make train {words}")]
    return [ok("converted steps", ", ".join(f"{step:,}" for step in run.schedule.averaged))]


def problems(request: StageRequest) -> Check:
    """An evaluation's problems and prompts."""
    evaluation_checks.problems(request.run)
    return ok("problems", "there")
