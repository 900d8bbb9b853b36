"""The part of a recipe file about the training: rounds, models, their bases and architectures."""

import re
from dataclasses import replace
from math import gcd
from pathlib import Path

from omr.errors import listing
from omr.files import Json
from omr.recipe.families import FAMILIES
from omr.recipe.read_data import pin
from omr.recipe.table import Fault, Table
from omr.recipe.types import Architecture, Corpus, Model, Number, Pin, Round, Schedule

WORD = r"[A-Za-z0-9][A-Za-z0-9._-]*"
SCHEDULE = ("steps", "warmup", "save_period", "averaged")
ROUND = ("number", "variant", "filtered", *SCHEDULE)


def rounds(file: Table, corpus: Corpus) -> tuple[dict[str, Round], dict[str, Schedule]]:
    """The rounds by their key, and the schedules of those that spell theirs out."""
    rounds, schedules = {}, {}
    for key, row in file.table("rounds", None).tables(ROUND):
        if not re.fullmatch(r"round[12](-[a-z0-9]+)?", key):
            raise Fault(row.path, "is no name of a round; write round1, round2, or round2-word")
        number = row.whole("number")
        if number != int(key[5]):
            raise row.fault("number", f"is {number}, and the round is named {key}; write {key[5]}")
        variant = row.text("variant", None)
        if number == 1 and variant:
            raise row.fault("variant", "tells second rounds apart; leave it out of round 1")
        filtered = row.texts("filtered", corpus.splits, ())
        if filtered and not corpus.filters:
            raise row.fault("filtered", "filters by [[filters]], of which there are none; add one")
        if (number, variant) in [(r.number, r.variant) for r in rounds.values()]:
            raise Fault(row.path, f"is a second round {number} of the same variant; give it another variant")
        rounds[key] = Round(key, number, variant, row.whole("steps", 4), filtered)
        if any(word in row for word in SCHEDULE[1:]):
            schedules[key] = _schedule(row)
    if "round1" not in rounds:
        raise Fault(("rounds",), "has no round1; add round1 = {number = 1, steps = …}")
    return rounds, schedules


def _schedule(row: Table) -> Schedule:
    """A schedule that is spelled out, each averaged step saved."""
    steps = row.whole("steps", 4)
    averaged = _averaged(row, steps)
    made = Schedule(
        steps,
        row.whole("warmup", 0, default=steps // 10),
        row.whole("save_period", default=gcd(*averaged[:-1]) or steps),
        averaged,
    )
    if made.warmup >= made.steps:
        raise row.fault("warmup", f"is {made.warmup} of {made.steps} steps; write fewer")
    if made.save_period > made.steps:
        raise row.fault(
            "save_period", f"is {made.save_period}, and the training has {made.steps} steps; write less"
        )
    if not made.averaged:
        raise row.fault("averaged", "is empty; list the steps that are averaged")
    for step in made.averaged:
        if step > made.steps or (step % made.save_period and step != made.steps):
            raise row.fault(
                "averaged",
                f"has {step}, which is not saved: saves are every {made.save_period} steps, and at"
                f" {made.steps}; write {_nearest_save(step, made)}",
            )
    if list(made.averaged) != sorted(set(made.averaged)):
        raise row.fault("averaged", "is not in rising order; write each step once, the last one last")
    if made.averaged[-1] != made.steps:
        raise row.fault("averaged", f"ends before the last step, {made.steps}; end it with that")
    return made


def _averaged(row: Table, steps: int) -> tuple[int, ...]:
    """The steps whose checkpoints are averaged: as steps, or as shares of the training."""
    shares = row.values.get("averaged")
    if not isinstance(shares, list) or not any(type(share) is float for share in shares):
        return row.wholes("averaged", quarters(steps))
    found = []
    for share in shares:
        if type(share) is not float or not 0 < share <= 1:
            raise row.fault("averaged", f"has {share!r} among shares; write shares above 0.0, up to 1.0")
        step = round(share * steps)
        if step < 1 or abs(share * steps - step) > 1e-6 * steps:
            near = max(1, step) / steps
            raise row.fault(
                "averaged", f"has {share}, which is no whole step of {steps:,}; write {near:.6g}, or steps"
            )
        found.append(step)
    return tuple(found)


def quarters(steps: int) -> tuple[int, ...]:
    """The recipe's averaged steps of a training: its four quarters."""
    save = steps // 4
    return (save, 2 * save, 3 * save, steps)


def _nearest_save(step: int, schedule: Schedule) -> int:
    saved = [*range(schedule.save_period, schedule.steps, schedule.save_period), schedule.steps]
    return min(saved, key=lambda other: abs(other - step))


TRAINING = ("engine", "nodes", "gpus", "batch", "sequence_length", "norm_epsilon")
MODEL = (
    *("lr", "min_lr", "tensor_parallel", "context_parallel", "parameters", "rounds", "listed"),
    *("engine", "nodes", "gpus", "batch", "sequence_length"),
)


def model(
    name: str,
    models: Table,
    file: Table,
    rounds: dict[str, Round],
    schedules: dict[str, Schedule],
    recipe: str,
) -> Model:
    row = models.table(name, MODEL)
    if not re.fullmatch(WORD, name):
        raise Fault(row.path, "is no name of a model; write letters, digits, dots, _ and -")

    def of(key: str) -> Table:
        """The row where it has the key, else [training]."""
        return row if key in row else file.table("training", TRAINING)

    numbers = sorted({r.number for r in rounds.values()})
    wanted = row.wholes("rounds", tuple(numbers))
    if bad := [number for number in wanted if number not in numbers]:
        raise row.fault("rounds", f"has {bad[0]}; [rounds] has {listing(map(str, numbers), 'and')}")
    if 1 not in wanted:
        raise row.fault("rounds", "has no 1; round 2 starts from round 1's model")
    own = file.table("schedules", None, {})
    if name in own:
        of_model = own.table(name, rounds)
        schedules = schedules | {key: _schedule(each) for key, each in of_model.tables(SCHEDULE)}
    lr, min_lr = row.number("lr", most=1), row.number("min_lr", most=1)
    if min_lr > lr:
        raise row.fault("min_lr", f"is {min_lr:g}, more than lr; write at most {lr:g}")
    made = Model(
        name=name,
        base=_base(file.table("bases", None).table(name, None)),
        lr=lr,
        min_lr=min_lr,
        tensor_parallel=row.whole("tensor_parallel"),
        context_parallel=row.whole("context_parallel"),
        patched=False,
        rounds=wanted,
        corpus=recipe,
        engine=of("engine").choice("engine", ("trl", "nemo-rl")),
        nodes=of("nodes").whole("nodes"),
        gpus=of("gpus").whole("gpus", 0),
        batch=of("batch").whole("batch"),
        sequence_length=of("sequence_length").whole("sequence_length"),
        schedules=schedules,
        parameters=row.number("parameters"),
    )
    return made


def with_context(model: Model, context: dict[str, tuple[Number, Number]]) -> Model:
    """The row, which is patched where its context is trained with other values than were published."""
    return replace(model, patched=any(old != new for old, new in context.values()))


def _base(row: Table) -> Pin | None:
    row = Table(row.path, row.values, ("hub", "revision", "folder", "made_by"))
    sources = [key for key in ("hub", "folder", "made_by") if key in row]
    if len(sources) != 1:
        raise Fault(
            row.path, f"has {listing(sources, 'and') or 'no source'}; write one of hub, folder or made_by"
        )
    if "made_by" in row:
        row.choice("made_by", ("tiny",))
    return pin(row) if "hub" in row else None


def folders(file: Table, models: dict[str, Model], beside: Path) -> dict[str, Path]:
    """The bases that are folders of this machine."""
    bases = file.table("bases", None)
    rows = {name: bases.table(name, None) for name in models}
    return {name: (beside / row.text("folder")).resolve() for name, row in rows.items() if "folder" in row}


ARCHITECTURE = (
    *("hidden", "layers", "heads", "kv_heads", "inner", "vocabulary", "tied", "norm_epsilon", "dtype"),
    *("family", "head", "rope_scaling"),
)
SCALED = {"llama3": "llama"}  # kinds of scaled rope that Megatron-Bridge reads from config.json -> the family


def architecture(row: Table) -> Architecture:
    row = Table(row.path, row.values, ARCHITECTURE)
    sizes = {key: row.whole(key) for key in ("hidden", "layers", "heads", "kv_heads", "inner", "vocabulary")}
    if sizes["heads"] % sizes["kv_heads"]:
        raise row.fault("kv_heads", f"is {sizes['kv_heads']}, which does not divide {sizes['heads']} heads")
    head = row.whole("head", default=None)
    if head is None and sizes["hidden"] % sizes["heads"]:
        raise row.fault(
            "heads", f"is {sizes['heads']}, which does not divide hidden {sizes['hidden']}; write head"
        )
    return Architecture(
        **sizes,
        tied=row.flag("tied", ...),
        norm_epsilon=row.number("norm_epsilon", most=1),
        dtype=row.choice("dtype", ("BF16", "F16", "F32"), "BF16"),
        family=row.choice("family", FAMILIES, "qwen2"),
        head=head,
        rope_scaling=_rope_scaling(row),
    )


def _rope_scaling(row: Table) -> Json:
    """rope_scaling as config.json has it; {} where rope is the plain one."""
    if "rope_scaling" not in row:
        return {}
    values = row.table("rope_scaling", None)
    kind, family = values.choice("rope_type", SCALED), row.text("family", "qwen2")
    if family != SCALED[kind]:
        raise row.fault("rope_scaling", f"is {kind}'s, which {family} is not trained with; leave it out")
    for key in values.values:
        if key != "rope_type":
            values.number(key)
    return dict(values.values)


CONTEXT = ("max_position_embeddings", "rope_theta")


def context(row: Table) -> dict[str, tuple[Number, Number]]:
    """Context and rope base of config.json: as published, and as trained with."""
    row, found = Table(row.path, row.values, CONTEXT), {}
    for key in CONTEXT:
        if key not in row:
            raise Fault(
                row.path, f"has no {key}; add it as config.json has it, or [as published, as trained]"
            )
        value = row.values[key]
        pair = value if isinstance(value, list) else [value, value]
        kinds = (int,) if key == CONTEXT[0] else (int, float)
        if len(pair) != 2 or any(type(number) not in kinds or number <= 0 for number in pair):
            kind = "whole number" if key == CONTEXT[0] else "number"
            raise row.fault(key, f"is no {kind} above 0, nor two in a list; write [as published, as trained]")
        found[key] = (pair[0], pair[1])
    return found
