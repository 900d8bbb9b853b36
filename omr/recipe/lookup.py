"""What a user's words name in the recipes in force: RECIPE's file, else the two of omr/recipes."""

import functools
import os
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from omr.errors import RequestError, choose, listing, nearest
from omr.files import Json
from omr.recipe import reader
from omr.recipe.chat import Chat
from omr.recipe.editions import EDITIONS, PINNED
from omr.recipe.read_training import quarters
from omr.recipe.reader import FOLDER
from omr.recipe.types import (
    SHIPPED,
    Architecture,
    Corpus,
    Model,
    Number,
    Recipe,
    Round,
    Run,
    Schedule,
)

PUBLISHED = SHIPPED[0]


def path_of(word: str) -> Path:
    """The file that RECIPE names: a path, or a name in omr/recipes; a RequestError where there is none."""
    if word.endswith(".toml") or "/" in word:
        path = Path(word).expanduser().absolute()
        if not path.is_file():
            raise RequestError(f"RECIPE={word}: no such file; make new-recipe NAME={path.stem} writes one")
        return path
    path = FOLDER / f"{word}.toml"
    if not path.is_file():
        names = sorted(p.stem for p in FOLDER.glob("*.toml"))
        raise RequestError(
            f"RECIPE={word} is no recipe{nearest(word, names)}; choose {listing(names)}, or name a file:"
            f" RECIPE={word}.toml"
        )
    return path


@dataclass(frozen=True)
class Tables:
    """The rows of all recipes in force, by name."""

    MODELS: dict[str, Model]  # those that are listed
    CORPORA: dict[str, Corpus]
    ROUNDS: dict[str, Round]  # of the first recipe
    ARCHITECTURES: dict[str, Architecture]
    TRAINED_EPSILON: float | None
    SPLITS: tuple[str, ...]  # of the first recipe


def in_force() -> tuple[Recipe, ...]:
    """The recipes whose words are known: RECIPE's alone, or the published one and tiny."""
    return _read(os.environ.get("RECIPE") or "")


@functools.lru_cache(maxsize=4)
def _read(word: str) -> tuple[Recipe, ...]:
    paths = [path_of(word)] if word else [FOLDER / f"{name}.toml" for name in SHIPPED]
    return tuple(reader.read(path) for path in paths)


def use(word: str | None) -> None:
    """Put the recipe of RECIPE's word in force, for this process and those that it starts."""
    if word:
        path = path_of(word)
        os.environ["RECIPE"] = path.stem if path.parent == FOLDER else str(path)
        in_force()


def paths_of(word: str) -> list[Path]:
    """The folders and files that a recipe file names, and its own folder: what a container has to see."""
    [found] = _read(word)
    of_corpus = found.corpus.prompt_tokenizer, found.corpus.length_tokenizer, found.corpus.prompt_folder
    template = (found.path.parent / found.values.get("chat", {}).get("template", "")).resolve()
    listed = (found.path.parent, template, *of_corpus, *found.corpus.files.values(), *found.folders.values())
    listed += (Path(found.evaluation.benchmark),) * found.evaluation.benchmark.startswith("/")
    return [path for path in dict.fromkeys(listed) if isinstance(path, Path) and path.exists()]


def words(row: Model) -> str:
    """The settings that name a model on a command line: `MODEL=7b`, or `RECIPE=mine.toml MODEL=7b`."""
    return model_words(row.corpus, row.name)


def model_words(corpus_name: str, name: str) -> str:
    """The same of a model whose recipe may not be in force."""
    return shlex.join([*_recipe_words(corpus_name), f"MODEL={name}"])


def run_words(run: Run) -> str:
    """The settings that name a run: `MODEL=7b ROUND=2 VARIANT=paper EDITION=published NAME=mine`."""
    found = [f"ROUND={run.round.number}"]
    if run.round.variant and run.round.variant != _usual_variant(run.round.number, run.model.corpus):
        found.append(f"VARIANT={run.round.variant}")
    if run.edition != PINNED:
        found.append(f"EDITION={run.edition}")
    if run.name:
        found.append(f"NAME={run.name}")
        if run.schedule.steps != _published_steps(run):
            found.append(f"STEPS={run.schedule.steps}")
    return f"{words(run.model)} {shlex.join(found)}"


def data_words(corpus_name: str, number: int | str, variant: str | None = None) -> str:
    """The settings that name an SFT file: `DATASET=tiny ROUND=2`, or `RECIPE=mine.toml DATASET=mine ROUND=1`.

    The number may be that of a recipe which is not in force.
    """
    found = [*_recipe_words(corpus_name), f"DATASET={corpus_name}", f"ROUND={number}"]
    if variant and variant != _usual_variant(number, corpus_name):
        found.append(f"VARIANT={variant}")
    return shlex.join(found)


def _recipe_words(corpus_name: str) -> list[str]:
    """RECIPE of a corpus that no shipped recipe has: its file where that is in force."""
    if corpus_name in SHIPPED:
        return []
    paths = [str(found.path) for found in in_force() if found.name == corpus_name]
    return [f"RECIPE={paths[0] if paths else f'{corpus_name}.toml'}"]


def _usual_variant(number: int | str, corpus_name: str) -> str | None:
    """The variant of a round that needs no word; None where its recipe is not in force."""
    try:
        known = any(found.name == corpus_name for found in in_force())
        return round_(number, None, corpus_name).variant if known else None
    except RequestError:
        return None


def _published_steps(asked: Run) -> int | None:
    """The steps that its recipe says; None where that is not in force."""
    try:
        return run(asked.model.name, asked.round.number, asked.round.variant).schedule.steps
    except RequestError:
        return None


def shipped(name: str) -> Recipe:
    """A recipe of omr/recipes, whatever is in force."""
    return _read(str(FOLDER / f"{name}.toml"))[0]


def forget() -> None:
    """Read the recipe files again at the next question: RECIPE or a file has changed."""
    _read.cache_clear()
    _tables.cache_clear()


def tables() -> Tables:
    """The rows of the recipes in force."""
    return _tables(os.environ.get("RECIPE") or "")


@functools.lru_cache(maxsize=2)
def _tables(word: str) -> Tables:
    found = _read(word)
    by_use = sorted(found, key=lambda recipe: recipe.name == PUBLISHED)  # the one to try first comes first
    return Tables(
        MODELS={m.name: m for r in by_use for m in r.models.values() if m.name not in r.unlisted},
        CORPORA={r.name: r.corpus for r in found},
        ROUNDS=found[0].rounds,
        ARCHITECTURES={name: row for r in found for name, row in r.architectures.items()},
        TRAINED_EPSILON=found[0].trained_epsilon,
        SPLITS=found[0].corpus.splits,
    )


def of_model(row: Model) -> Recipe:
    """The recipe that has a model; a RequestError where it is another recipe's than those in force."""
    for found in in_force():
        if found.name == row.corpus:
            return found
    raise RequestError(
        f"{row.name} is of the recipe {row.corpus}, which is not in force; set RECIPE= to its file"
    )


def context(row: Model) -> dict[str, tuple[Number, Number]]:
    """What config.json has for context and rope base: key -> as published, and as trained with."""
    return of_model(row).contexts[row.name]


def scaling(row: Model) -> Json:
    """rope_scaling that config.json of a model has; {} where its rope is the plain one."""
    return of_model(row).architectures[row.name].rope_scaling


def chat(row: Model) -> Chat:
    """How a conversation with a model is written."""
    return of_model(row).corpus.chat


def derive(steps: int) -> Schedule:
    """The recipe's shape for any length: a tenth of warmup, four saves, their average.

    Every averaged step is a multiple of the save period or the last step; the recipe's own round 2
    left a save period of 7,500 on 3,000 steps, so that three of its four were never saved.
    """
    if steps < 4:
        raise RequestError(f"STEPS={steps} is too short: four checkpoints are averaged; use STEPS=4 or more")
    return Schedule(steps, steps // 10, steps // 4, quarters(steps))


def model(name: str | None) -> Model:
    """The row of the table; a RequestError lists the rows."""
    for found in in_force():
        if name in found.unlisted:
            return found.models[name]
    rows = tables().MODELS
    return rows[choose("MODEL", name, rows)]


def corpus(name: str | None) -> Corpus:
    """The row of the corpus table, the first one where no name is given; a RequestError lists the rows."""
    rows = tables().CORPORA
    return rows[choose("DATASET", name or next(iter(rows)), rows)]


def round_(number: str | int = 1, variant: str | None = None, dataset: str | None = None) -> Round:
    """The round of a number and, for round 2, a variant (by default its first), in the recipe of a corpus."""
    rounds = _recipe(dataset).rounds.values()
    number = int(choose("ROUND", str(number), _once(str(r.number) for r in rounds)))
    variants = _once(r.variant for r in rounds if r.number > 1 and r.variant)
    if variant and variants:
        choose("VARIANT", variant, variants)
    if variant and (not variants or (number == 1 and variant != variants[0])):
        raise RequestError(f"VARIANT={variant} filters round 2 only; add ROUND=2 or leave VARIANT out")
    found = [r for r in rounds if r.number == number and (number == 1 or variant in (None, r.variant))]
    return found[0]


def _recipe(dataset: str | None) -> Recipe:
    """The recipe of a corpus; the first one in force where none is named."""
    return next((r for r in in_force() if r.name == dataset), in_force()[0])


def _once(words: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(words))


def run(
    model_name: str | None,
    number: str | int = 1,
    variant: str | None = None,
    steps: int | None = None,
    name: str | None = None,
    edition: str | None = None,
) -> Run:
    """The run that the user's words name; a RequestError for what the recipe does not have."""
    edition = choose("EDITION", edition or PINNED, EDITIONS)
    if name and name.split("-")[0] in EDITIONS:
        raise RequestError(f"NAME={name} begins with an edition's name; set EDITION, or choose another NAME")
    row = model(model_name)
    round_row = round_(number, variant, row.corpus)
    if round_row.number not in row.rounds:
        others = [
            m.name
            for m in tables().MODELS.values()
            if round_row.number in m.rounds and m.corpus == row.corpus
        ]
        raise RequestError(
            f"{row.name} trains in round 1 only (the recipe has no second round for it);"
            f" choose MODEL={listing(others)}, or ROUND=1"
        )
    schedule = derive(steps) if steps else row.schedules.get(round_row.key) or derive(round_row.steps)
    return Run(row, replace(round_row, steps=schedule.steps), schedule, name, edition)


def modes(text: str | None, dataset: str | None = None) -> tuple[str, ...]:
    """`cot,tir` -> its splits in the recipe's order; all of them when unset."""
    splits = _recipe(dataset).corpus.splits
    if not text:
        return splits
    wanted = [choose("MODES", word.strip(), splits) for word in text.split(",")]
    return tuple(split for split in splits if split in wanted)


def asked_modes(text: str | None, dataset: str) -> tuple[str, ...]:
    """MODE=cot,tir as modes, in the recipe's order: a model is asked as a split of its corpus was written.

    The first split where it is unset; a RequestError for any other word.
    """
    splits = modes(None, dataset)
    words = [word.strip() for word in (text or splits[0]).split(",")]
    for word in words:
        if word not in splits:
            raise RequestError(f"MODE={word} is unknown; choose {listing(splits)}, or several with commas")
    return tuple(mode for mode in splits if mode in words)
