"""Runs, data and models in the words of a command line: what a page tells its reader to type."""

import re
import shlex
from collections.abc import Iterator, Mapping

from omr import recipe
from omr.errors import RequestError
from omr.evaluation.request import sampling_of
from omr.evaluation.results import EvalResult
from omr.files import Json
from omr.recipe import Run
from omr.run.frozen import FrozenRun


def of_run(run: Run) -> str:
    """What names a run: `MODEL=7b ROUND=2 NAME=mine`."""
    words = [f"ROUND={run.round.number}"]
    if run.round.variant and run.round.variant != _usual_variant(run.round.number, run.model.corpus):
        words.append(f"VARIANT={run.round.variant}")
    if run.edition != recipe.PINNED:
        words.append(f"EDITION={run.edition}")
    if run.name:
        words.append(f"NAME={run.name}")
        if run.schedule.steps != _published_steps(run):
            words.append(f"STEPS={run.schedule.steps}")
    return f"{recipe.words(run.model)} {shlex.join(words)}"


def _usual_variant(number: int | str, corpus: str) -> str | None:
    """The variant of a round that needs no word; None where its recipe is not in force."""
    try:
        known = any(found.name == corpus for found in recipe.in_force())
        return recipe.round_(number, None, corpus).variant if known else None
    except RequestError:
        return None


def _published_steps(run: Run) -> int | None:
    """The steps that its recipe says; None where that is not in force."""
    try:
        return recipe.run(run.model.name, run.round.number, run.round.variant).schedule.steps
    except RequestError:
        return None


def of_data(origin: Json) -> str | None:
    """What makes an SFT file, from its manifest: `DATASET=tiny ROUND=2`; None for one that tells nothing."""
    inputs = origin.get("inputs", {})
    corpus, key = inputs.get("corpus"), inputs.get("round")
    if not isinstance(corpus, str) or not isinstance(key, str):
        return None
    number, _, variant = key.removeprefix("round").partition("-")
    words = [f"DATASET={corpus}", f"ROUND={number}"]
    words += [f"VARIANT={variant}"] if variant and variant != _usual_variant(number, corpus) else []
    known = next((r for r in recipe.in_force() if r.name == corpus), None)
    if known is None:
        words.insert(0, f"RECIPE={corpus}.toml")
    elif (modes := inputs.get("modes")) and tuple(modes) != known.corpus.splits:
        words.append(f"MODES={','.join(modes)}")
    words += [f"{name.upper()}={inputs[name]}" for name in ("seed", "limit") if inputs.get(name)]
    return shlex.join(words)


def repeat(began: FrozenRun, origin: Json, found: Mapping[str, EvalResult]) -> Iterator[str]:
    """Every command that makes this run again, in order; `origin` is its data's manifest."""
    if re.fullmatch(r"[0-9a-f]{40}", began.code):
        yield f"git checkout {began.code}"
    run = began.run
    of_the_run = of_run(run)
    if data := of_data(origin):
        named = run.name and began.data.path.stem.endswith(f"-{run.name}")
        yield f"make data {data}" + (f" NAME={run.name}" if named else "")
    if run.round.number == 1:
        yield f"make model {recipe.words(run.model)}"
    else:
        yield f"make train {recipe.run_words(recipe.run(run.model.name, 1, edition=run.edition))}"
    asked = {
        "ENGINE": began.engine if began.engine != run.model.engine else None,
        "LIMIT": began.limit,
        "OVERRIDES": began.overrides,
    }
    words = [f"{name}={value}" for name, value in asked.items() if value]
    yield " ".join(filter(None, [f"make train {of_the_run}", shlex.join(words)]))
    for result in found.values():
        yield f"make eval {of_the_run} {shlex.join(_eval_words(run, result))}"
    yield f"make report {of_the_run}"


def _eval_words(run: Run, result: EvalResult) -> Iterator[str]:
    """MODE, and whatever is not the recipe's own."""
    yield f"MODE={result.mode}"
    drawn = result.inputs.sampling
    try:
        usual, benchmark = sampling_of(run), recipe.of_model(run.model).evaluation.benchmark
    except RequestError:
        return
    if result.benchmark != benchmark:
        yield f"BENCHMARK={result.benchmark}"
    for name in ("samples", "temperature", "top_p", "max_tokens"):
        if getattr(drawn, name) != getattr(usual, name):
            yield f"{name.upper()}={getattr(drawn, name)}"
    if "before" in result.models:
        yield "BEFORE=1"
