"""What a run would do and cost, before anything is queued. Estimates say what they rest on."""

from dataclasses import dataclass, replace
from math import ceil

from omr import manifest, recipe
from omr.cluster.allocation.deadline import learned_margin
from omr.data import statistics
from omr.files import human
from omr.request import TrainRequest
from omr.run import frozen, metrics, validation
from omr.training import editions
from omr.training.preflight import CHECKPOINT_BYTES
from omr.workspace import Workspace

# Text bytes per row of the published corpus (114.4 GB in 5,485,147 rows), and bytes per token of its text.
ROW_BYTES, TOKEN_BYTES = 114.4e9 / 5_485_147, 3.1
# bf16 peak of an H100, and the share of it that such training reaches, for a first guess.
PEAK, REACHED = 989e12, 0.40
AT_RISK = 2  # hours of training between saves from which the plan says so
START = 900  # seconds until a job on GPUs trains: containers, Ray, loading; measure yours in the smoke run


@dataclass(frozen=True)
class Numbers:
    """What a run amounts to."""

    edition: str
    steps: int
    rows: int | None  # of the data file
    epochs: float | None
    tokens: float  # of the whole training
    too_long: int | None  # rows over the training length
    step_seconds: float | None
    speed_from: str
    gpu_hours: float | None
    hours: float | None
    checkpoint: int  # bytes of one
    disk: int  # bytes of the run's folder at its fullest
    links: int | None  # jobs of the time limit
    held_out: int = 0  # rows whose loss is measured at each save


def numbers(
    request: TrainRequest,
    workspace: Workspace,
    limit_seconds: float | None = None,
    step_seconds: float | None = None,
) -> Numbers:
    """Count and estimate; `limit_seconds` is a job's time limit, `step_seconds` the speed if it is known."""
    run, nodes, gpus = request.run, request.job_nodes, request.job_gpus
    model, steps = run.model, run.schedule.steps
    data = _data(request, workspace)
    tokens = steps * model.batch * min(data.tokens_per_row, model.sequence_length)
    if step_seconds is None:
        step_seconds, source = _speed(request, workspace, tokens / steps)
    else:
        source = "as given"
    hours = steps * step_seconds / 3600 if step_seconds else None
    checkpoint, averaged = int(model.parameters * CHECKPOINT_BYTES), len(run.schedule.averaged)
    return Numbers(
        edition=run.edition,
        steps=steps,
        rows=data.rows,
        epochs=steps * model.batch / data.rows if data.rows else None,
        tokens=tokens,
        too_long=data.too_long,
        step_seconds=step_seconds,
        speed_from=source,
        gpu_hours=hours * nodes * gpus if hours and gpus else None,
        hours=hours,
        checkpoint=checkpoint,
        # Averaged checkpoints, the newest two, RECOVERY's; the averaged ones converted to bf16, their mean.
        disk=(averaged + 2 + 2 * bool(request.recovery)) * checkpoint
        + (averaged + 1) * int(2 * model.parameters),
        links=_links(hours, limit_seconds, START if gpus else 0),
        held_out=data.held_out,
    )


@dataclass(frozen=True)
class _Data:
    """What is known of the data file, or assumed while it is not there."""

    rows: int | None
    tokens_per_row: float
    too_long: int | None  # rows over the training length; None: not counted
    held_out: int = 0  # rows of held-out problems


def _data(request: TrainRequest, workspace: Workspace) -> _Data:
    """Measured by `make data-report` where that ran on this file, else estimated from its bytes."""
    path = frozen.data_of(request.run, workspace, request.modes)
    origin = manifest.read(path)
    if origin is None or not origin["rows"]:
        return _Data(None, ROW_BYTES / TOKEN_BYTES, None)
    rows = min(origin["rows"], request.limit or origin["rows"])
    measured, held_out = statistics.read(path), sum(file.rows for file in validation.files_of(path))
    if measured is None or measured.data != origin["sha256"]:
        return _Data(rows, origin["size"] / origin["rows"] / TOKEN_BYTES, None, held_out)
    same_length = measured.longest == request.run.model.sequence_length
    return _Data(rows, measured.mean, measured.too_long if same_length else None, held_out)


def _speed(request: TrainRequest, workspace: Workspace, step_tokens: float) -> tuple[float | None, str]:
    """Seconds of a step and where that is from: this run's median so far, else what GPUs may reach."""
    if median := metrics.median_step_seconds(metrics.read(workspace.run(request.run).metrics)):
        return median, "measured in this run"
    if not request.job_gpus:
        return None, ""
    # 6 floating-point operations per parameter and token: 2 forward, 4 backward.
    operations = 6 * request.run.model.parameters * step_tokens
    seconds = operations / (request.job_nodes * request.job_gpus * PEAK * REACHED)
    return seconds, f"a guess: {REACHED:.0%} of an H100's peak"


def _links(hours: float | None, limit_seconds: float | None, start: float) -> int | None:
    """Jobs of this time limit that the training takes; each spends `start` seconds before it trains."""
    if not hours or not limit_seconds:
        return None
    usable = limit_seconds - learned_margin(None, limit_seconds) - start
    return ceil(hours * 3600 / max(1.0, usable))


def lines(found: Numbers, request: TrainRequest) -> list[str]:
    """The numbers as a person reads them."""
    run, nodes, gpus = request.run, request.job_nodes, request.job_gpus
    schedule = run.schedule
    rows = f"{found.rows:,} rows, {found.epochs:.2f} epochs" if found.rows else "the data is not there yet"
    long = f"{found.too_long:,} rows" if found.too_long is not None else "make data-report counts them"
    edition, *beside = editions.lines(run, request.engine)
    shown = [
        ("edition", edition),
        *(("", line) for line in beside),
        ("steps", f"{found.steps:,} of {run.model.batch:,} rows; warmup {schedule.warmup:,}"),
        (
            "saved",
            f"every {schedule.save_period:,}; averaged {', '.join(f'{s:,}' for s in schedule.averaged)}",
        ),
        ("data", rows),
        *([("held out", _held_out(found, run))] if found.held_out else []),
        ("tokens", f"about {found.tokens / 1e9:,.1f} billion in all"),
        ("too long", f"over {run.model.sequence_length:,} tokens, cut and not learned from: {long}"),
        ("size", f"{nodes} nodes of {gpus} GPUs" if gpus else f"{nodes} nodes without GPUs"),
    ]
    if found.step_seconds:
        shown.append(
            ("time", f"{found.step_seconds:.1f} s a step ({found.speed_from}): {found.hours:,.1f} hours")
        )
    if risk := at_risk(found, request):
        shown.append(("at risk", risk))
    if found.gpu_hours:
        shown.append(("cost", f"{found.gpu_hours:,.0f} GPU-hours"))
    shown.append(
        ("disk", f"{human(found.checkpoint)} a checkpoint, up to {human(found.disk)} in the run's folder")
    )
    if found.links:
        shown.append(
            ("jobs", f"NUM_TRAINING_JOBS={found.links} for this time limit; surplus ones are cancelled")
        )
    return [f"  {name:<9} {text}" for name, text in shown]


def _held_out(found: Numbers, run: recipe.Run) -> str:
    """Rows whose loss is measured, how often, and the cost: a forward pass is a third of a row's training."""
    saves = ceil(found.steps / run.schedule.save_period)
    share = saves * found.held_out / 3 / (found.steps * run.model.batch)
    return f"{found.held_out:,} rows, their loss at {saves} saves: about {share:.2%} more to compute"


def at_risk(found: Numbers, request: TrainRequest) -> str | None:
    """What a lost node can cost, with and without saves for recovery; None where that is little anyway."""
    period, seconds = request.run.schedule.save_period, found.step_seconds or 0
    if period * seconds <= AT_RISK * 3600:
        return None
    divisors = [steps for steps in range(1, period + 1) if period % steps == 0]
    often = request.recovery or max((n for n in divisors if n * seconds <= AT_RISK * 3600), default=1)
    gpus = request.job_nodes * request.job_gpus
    with_, without = (f"up to {_hours(steps * seconds, gpus)}" for steps in (often, period))
    if request.recovery:
        return f"a lost node costs {with_}, by RECOVERY={often}; without it {without}"
    return (
        f"a lost node costs {without}: a save every {period:,} steps, and at a job's end;"
        f" RECOVERY={often}: {with_}"
    )


def _hours(seconds: float, gpus: int) -> str:
    """`1.7 hours, 853 GPU-hours`."""
    hours = seconds / 3600
    return f"{hours:,.1f} hours" + (f", {hours * gpus:,.0f} GPU-hours" if gpus else "")


def smoke(run: recipe.Run) -> str:
    """The short run that goes the whole way, before 64 nodes are asked for; two nodes where a model fits."""
    part = run.model.tensor_parallel * run.model.context_parallel
    nodes = max(2, -(-part // max(1, run.model.gpus)))
    words = recipe.run_words(replace(run, name=None))
    return f"make train {words} STEPS=20 NODES={nodes} LIMIT=10000 NAME=smoke"
