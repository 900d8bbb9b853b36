"""The long-context patch of the Math models: sed on config.json, and the proof that it did just that.

Qwen2.5-Math ships a 4k context; the recipe trains at 32k. rope_theta may stand in two places: transformers
4.5x reads the top level only, 5.x keeps it in rope_parameters and prefers it there. If the two differ, each
version computes other positions without a warning, so all places that are there must agree.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omr import recipe, records
from omr.errors import OmrError, listing, shown
from omr.files import refuse_lfs_pointer, twice, write_json, writing
from omr.recipe import Model

if TYPE_CHECKING:
    from transformers import PretrainedConfig

CONTEXT, THETA = "max_position_embeddings", "rope_theta"
Loaded = TypeVar("Loaded")
Config = dict[str, Any]  # a config.json as it was read
HOMES = ("rope_parameters", "rope_scaling")  # objects of config.json in which rope_theta may stand, too
PLAIN: Config = {
    "rope_type": "default",
    "partial_rotary_factor": 1,
}  # where rope is not scaled
BRING = "make model MODEL=… FORCE=1"
AGAIN = "make model (for a converted step make train) makes it again"
_NUMBER = r"-?[0-9][0-9.eE+-]*"


def expected(model: Model) -> dict[str, float]:
    """What a model's config must have: context in tokens (an int), rope base (a float)."""
    context = recipe.context(model)
    return {CONTEXT: int(context[CONTEXT][1]), THETA: float(context[THETA][1])}


def parse(path: Path) -> Config:
    """Read a configuration strictly: an OmrError if it is no JSON object, or has a key twice.

    Readers differ in which of two values they keep, and in whether NaN is a number.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if (key := twice(pairs)) is not None:
            raise OmrError(f"{path}: has {shown(key)} twice; keep one, or bring the published file again")
        return dict(pairs)

    def no_number(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        text = records.read_text(path)
        config = json.loads(text, object_pairs_hook=once, parse_constant=no_number)
    except FileNotFoundError:
        raise OmrError(f"{path}: is missing; {AGAIN}") from None
    except (ValueError, RecursionError) as error:
        refuse_lfs_pointer(path, BRING)
        raise OmrError(f"{path}: is not JSON ({shown(str(error))}); bring the published file again") from None
    if not isinstance(config, dict):
        raise OmrError(f"{path}: is no JSON object; bring the published file again")
    return config


def places(config: Config) -> dict[str, float]:
    """Every place of context and rope base that is there: dotted name -> value as written."""
    found = {key: config[key] for key in (CONTEXT, THETA) if key in config}
    for home in HOMES:
        if isinstance(config.get(home), dict) and THETA in config[home]:
            found[f"{home}.{THETA}"] = config[home][THETA]
    return found


def sed(config: Config, model: Model) -> list[str]:
    """The sed expressions that patch this config.json (read with `sed -E -z`); empty when it is patched.

    Call `patchable` first: it refuses a config with other values. Any white space and any spelling of the
    published number (10000, 10000.0, 1e4) matches; original_max_position_embeddings does not, because of the
    quote before the key.
    """
    expressions = []
    context = recipe.context(model)
    for key, (_, new) in context.items():
        if any(value != float(new) for name, value in places(config).items() if name.endswith(key)):
            expressions.append(rf's/("{key}"[[:space:]]*:[[:space:]]*){_NUMBER}/\1{new}/g')
    if THETA not in config:  # saved by transformers 5; 4.5x needs it at the top level
        homes = "|".join(f'"{home}"' for home in HOMES)
        expressions.append(rf's/([[:space:]]*)({homes})/\1"{THETA}": {context[THETA][1]},\1\2/')
    return expressions


def patch(path: Path, model: Model) -> list[str]:
    """Patch a model's config.json in place; returns what changed: `rope_theta 10000 -> 500000.0`.

    All other bytes stay as they are, and the file is replaced as a whole. On an OmrError it is untouched: a
    value is neither the published nor the patched one, rope is of another kind, or a key is there twice.
    """
    config = parse(path)
    patchable(path, config, model)
    expressions = sed(config, model)
    if not expressions:
        return []
    with writing(path) as aside:
        command = ["sed", "-E", "-z", *(word for e in expressions for word in ("-e", e)), "--", str(path)]
        with aside.open("wb") as out:
            done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, errors="replace")
        if done.returncode:
            raise OmrError(f"{path}: sed failed: {done.stderr.strip()}; GNU sed is needed")
        patched = parse(aside)
        wanted = _with(config, model)
        if patched != wanted or [k for k in patched if k in config] != list(config):
            wrong = sorted(k for k in {**patched, **wanted} if patched.get(k) != wanted.get(k))
            beside = listing(wrong or ["the order"], "and")
            raise OmrError(
                f"{path}: sed would change {beside} beside the patch, so nothing was written;"
                f" bring the published file ({BRING})"
            )
    old, new = places(config), places(patched)
    return [f"{name} {old.get(name, 'absent')} -> {new[name]}" for name in new if old.get(name) != new[name]]


def _with(config: Config, model: Model) -> Config:
    """The config with the patched values in every place: what sed must have made of it."""
    new = expected(model)
    homes = {h: {**config[h], THETA: new[THETA]} for h in HOMES if f"{h}.{THETA}" in places(config)}
    return {**config, **new, **homes}


def patchable(path: Path, config: Config, model: Model) -> None:
    """An OmrError for a config that the recipe's patch is not meant for: other values, or another rope."""
    found = places(config)
    bring = f"bring the published file ({BRING})"
    for key, (published, new) in recipe.context(model).items():
        if not any(name.endswith(key) for name in found):
            raise OmrError(f"{path}: has no {key}, so there is nothing to patch; {bring}")
        whole = key == CONTEXT
        for name, value in found.items():
            number = is_number(value, whole)
            if name.endswith(key) and not (number and value in (float(published), float(new))):
                raise OmrError(
                    f"{path}: {name} is {shown(repr(value))}, neither the published {published}"
                    f" nor the patched {new}; {bring}"
                )
    _refuse_other_scaling(path, config, model, bring)


def is_number(value: Any, whole: bool = False) -> bool:
    """Whether a value of config.json is a number, or a whole one; true and false are none."""
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)


def scaled_otherwise(config: Config, scaling: Config) -> str | None:
    """What is not the recipe's rope in a config.json: `rope_scaling.rope_type is yarn`; None if all is.

    `scaling` is the rope_scaling of its row's architecture, {} for the plain rope.
    """
    wanted = {**PLAIN, **scaling}
    homes = {home: config[home] for home in HOMES if config.get(home) is not None}
    for home, value in homes.items():
        if not isinstance(value, dict):
            return f"{home} is {shown(str(value))}"
        new = {key: "rope_type" if key == "type" else key for key in value}  # its old name
        for key, setting in value.items():
            if key != THETA and setting != wanted.get(new[key]):
                return f"{home}.{shown(key)} is {shown(str(setting))}"
        if absent := sorted({*scaling} - {*new.values()}):
            return f"{home}.{absent[0]} is absent"
    return "rope_scaling is absent" if scaling and not homes else None


def _refuse_other_scaling(path: Path, config: Config, model: Model, bring: str) -> None:
    """An OmrError if rope is not scaled as the recipe's row says."""
    scaling = recipe.scaling(model)
    if odd := scaled_otherwise(config, scaling):
        kind = scaling.get("rope_type", "plain")
        raise OmrError(f"{path}: {odd}, {model.name} has the {kind} rope; {bring}")


def check(folder: Path, model: Model) -> None:
    """An OmrError unless config.json has what the recipe's row needs, in each place that is there."""
    path = folder / "config.json"
    config, wanted = parse(path), expected(model)
    bring = f"run make model {recipe.words(model)} FORCE=1"
    found = places(config)
    if CONTEXT not in found or THETA not in found:
        raise OmrError(
            f"{path}: has no {CONTEXT if CONTEXT not in found else THETA} at its top level; {bring}"
        )
    for name, value in found.items():
        right = wanted[CONTEXT if name == CONTEXT else THETA]
        if not is_number(value, name == CONTEXT) or value != right:
            note = "" if model.patched else f" ({model.name} is not to be patched)"
            wrong = f"{name} is {shown(str(value))}, {model.name} needs {right}"
            raise OmrError(f"{path}: {wrong}{note}; {bring}")
    _refuse_other_scaling(path, config, model, bring)


def prove(folder: Path, model: Model) -> None:
    """`check`, and that the installed transformers reads the same two values; an OmrError if not."""
    check(folder, model)
    import transformers

    config = taken(
        folder / "config.json",
        lambda: transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False),
    )
    seen = {CONTEXT: config.max_position_embeddings, THETA: read_by_transformers(config)}
    if seen != expected(model):
        raise OmrError(
            f"{folder / 'config.json'}: transformers {transformers.__version__} reads {seen},"
            f" {model.name} needs {expected(model)}; install the pinned version (make lock) and run again"
        )


def taken(path: Path, load: Callable[[], Loaded]) -> Loaded:
    """What `load` reads from a file by transformers; an OmrError if this version does not take it."""
    import transformers

    try:
        return load()
    except Exception as error:  # each version has errors of its own for a value that it does not take
        why = shown(" ".join(str(error).split()))
        raise OmrError(
            f"{path}: transformers {transformers.__version__} does not take it ({why});"
            f" bring the published file ({BRING})"
        ) from None


def read_by_transformers(config: "PretrainedConfig") -> float | None:
    """The rope base that a loaded configuration computes with: 5.x in rope_parameters, 4.5x at the top."""
    parameters = getattr(config, "rope_parameters", None) or {}
    import transformers

    if int(transformers.__version__.split(".")[0]) >= 5:
        return parameters.get(THETA)
    return getattr(config, THETA, None)


def write_both(folder: Path, model: Model) -> bool:
    """Write rope_theta in both places of a re-saved config.json; returns whether that changed the file.

    The same for rope_scaling, where the recipe's row has one: transformers 5 keeps it in rope_parameters.

    An OmrError if two places disagree: then it is unknown with which one the model was trained.
    """
    path = folder / "config.json"
    config = parse(path)
    thetas = {name: value for name, value in places(config).items() if name != CONTEXT}
    if not all(map(is_number, thetas.values())) or len(set(thetas.values())) != 1:
        each = [f"{name} {shown(str(value))}" for name, value in thetas.items()]
        found = listing(each, "and") or "no rope_theta at all"
        raise OmrError(
            f"{path}: says {found}; one value is needed in both places, convert the checkpoint again"
        )
    theta = float(next(iter(thetas.values())))
    _refuse_other_scaling(path, config, model, "convert the checkpoint again")
    scaling = recipe.scaling(model)
    parameters = {"rope_type": "default", **scaling, THETA: theta}
    both = {**config, THETA: theta, "rope_parameters": parameters}
    if scaling:
        both["rope_scaling"] = parameters
    if both == config:
        return False
    write_json(path, both)
    return True
