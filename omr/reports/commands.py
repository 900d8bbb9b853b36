"""Runs, data and models in the words of a command line: what a page tells its reader to type."""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from omr import recipe
from omr.errors import RequestError
from omr.evaluation.request import sampling_of
from omr.evaluation.results import EvalResult
from omr.files import Json
from omr.recipe import Run
from omr.run.frozen import FrozenRun


def of_data(path: Path, origin: Json) -> str | None:
    """What makes an SFT file, from its manifest: `DATASET=tiny ROUND=2`; None for one that tells nothing."""
    inputs = origin.get("inputs", {})
    corpus, key = inputs.get("corpus"), inputs.get("round")
    if not isinstance(corpus, str) or not isinstance(key, str):
        return None
    number, _, variant = key.removeprefix("round").partition("-")
    words, beside = [], f"{corpus}-{key}"
    known = next((r for r in recipe.in_force() if r.name == corpus), None)
    if known and (modes := inputs.get("modes")) and tuple(modes) != known.corpus.splits:
        words.append(f"MODES={','.join(modes)}")
        beside += f"-{'+'.join(modes)}"
    words += [f"{name.upper()}={inputs[name]}" for name in ("seed", "limit") if inputs.get(name)]
    words += ["BAD_ROWS=skip"] if inputs.get("bad_rows") == "skip" else []
    words += ["ALLOW=rows"] if origin.get("unlike_published") else []
    words += [_as_typed("DROP", origin)] if inputs.get("drop") else []
    words += [_validation(origin)] if inputs.get("validation") else []
    words += [f"NAME={path.stem.removeprefix(f'{beside}-')}"] if path.stem.startswith(f"{beside}-") else []
    return " ".join(filter(None, [recipe.data_words(corpus, number, variant), shlex.join(words)]))


def _as_typed(name: str, origin: Json) -> str:
    """The file that a setting named in the command; its hash alone is known of another form."""
    command = origin.get("command")
    words = command.split() if isinstance(command, str) else []
    return next((word for word in words if re.fullmatch(rf"{name}=[\w./+-]+", word)), f"{name}=…")


def _validation(origin: Json) -> str:
    """The share of problems, or the file of some, that were held out."""
    facts = origin["inputs"]["validation"]
    share = facts.get("share") if isinstance(facts, dict) else None
    return f"VALIDATION={share}" if isinstance(share, float) else _as_typed("VALIDATION", origin)


def repeat(began: FrozenRun, origin: Json, found: Mapping[str, EvalResult]) -> Iterator[str]:
    """Every command that makes this run again, in order; `origin` is its data's manifest."""
    if re.fullmatch(r"[0-9a-f]{40}", began.code):
        yield f"git checkout {began.code}"
    run = began.run
    of_the_run = recipe.run_words(run)
    if data := of_data(began.data.path, origin):
        yield f"make data {data}"
    if run.round.number == 1:
        yield f"make model {recipe.words(run.model)}"
    else:
        first = recipe.run(run.model.name, 1, edition=run.edition)
        named = run.name and began.base.path.parent.name.endswith(f"-{run.name}")
        yield f"make train {recipe.run_words(replace(first, name=run.name) if named else first)}"
    yield f"make train {of_training(began, origin)}"
    for result in found.values():
        yield f"make eval {of_the_run} {shlex.join(_eval_words(run, result))}"
    yield f"make report {of_the_run}"


def of_training(began: FrozenRun, origin: Json) -> str:
    """What a run is begun with, and goes on with; `origin` is its data's manifest."""
    modes = [str(mode) for mode in origin.get("inputs", {}).get("modes") or ()]
    asked = {
        "ENGINE": began.engine if began.engine != began.run.model.engine else None,
        "MODES": ",".join(modes) if f"-{'+'.join(modes)}" in began.data.path.stem else None,
        "LIMIT": began.limit,
        "OVERRIDES": began.overrides,
    }
    words = [f"{name}={value}" for name, value in asked.items() if value]
    return " ".join(filter(None, [recipe.run_words(began.run), shlex.join(words)]))


def _eval_words(run: Run, result: EvalResult) -> Iterator[str]:
    """MODE, and whatever is not the recipe's own."""
    yield f"MODE={result.mode}"
    drawn = result.inputs.sampling
    try:
        usual, benchmark = sampling_of(run), recipe.of_model(run.model).evaluation.benchmark
    except RequestError:
        return
    if result.benchmark != benchmark:
        yield f"{'PROBLEMS' if '/' in result.benchmark else 'BENCHMARK'}={result.benchmark}"
    if result.inputs.solutions not in (None, "tir"):
        yield f"SOLUTIONS={result.inputs.solutions}"
    for name in ("samples", "temperature", "top_p", "max_tokens"):
        if getattr(drawn, name) != getattr(usual, name):
            yield f"{name.upper()}={getattr(drawn, name)}"
    if "before" in result.models:
        yield "BEFORE=1"
