"""A recipe file -> a Recipe: read, held against itself, and refused in one line with the line's number.

Standard library only. docs/adapt.md says what each table is for.
"""

import io
import re
import tomllib
from pathlib import Path

from omr.errors import RequestError, listing, nearest, shown
from omr.recipe import read_data, read_training
from omr.recipe.table import Fault, Table, line_of
from omr.recipe.types import SHIPPED, Evaluation, Model, Recipe

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
TABLES = (
    *("corpus", "columns", "splits", "filters", "rounds", "training", "models", "schedules", "bases"),
    *("context", "architectures", "chat", "evaluation", "published"),
)
OF_MODELS = ("architectures", "context", "bases", "schedules")  # tables with a row for each model
MOST_BYTES = 64 << 10  # a shipped recipe has a tenth; the search for a fault's line reads it again and again
MODES = ("cot", "tir", "genselect")  # what an evaluation can ask a model in
NAME = r"[a-z0-9][a-z0-9_]*"  # of a recipe: without a dash, which parts it from a model in paths


def read(path: Path) -> Recipe:
    """The recipe of a file; a RequestError names the file, the line, the key and what to write."""
    try:
        with path.open("rb") as handle:
            data = handle.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise RequestError(f"{path}: has over {MOST_BYTES >> 10} KiB, which is no recipe; name another")
        text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()  # any end of line is \n
        values = tomllib.loads(text)
    except OSError as error:
        raise RequestError(f"{path}: {error.strerror}; name a recipe file with RECIPE=") from None
    except UnicodeDecodeError as error:
        raise RequestError(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        what, line = _syntax(str(error), text)
        raise RequestError(f"{path}:{line}: is not TOML ({what}); mend the line") from None
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, lists in lists
        raise RequestError(f"{path}: is not TOML ({shown(str(error))}); mend it") from None
    try:
        return _recipe(path, values)
    except Fault as fault:
        where = ".".join(key if not key.isdigit() else f"{int(key) + 1}" for key in fault.path)
        raise RequestError(f"{path}:{line_of(text, fault.path)}: {where or 'the file'} {fault}") from None


def _syntax(message: str, text: str) -> tuple[str, int]:
    """What tomllib says is wrong, and the line."""
    place = re.search(r" \(at line (\d+), column \d+\)", message)
    end = message.endswith("(at end of document)")
    what = message.replace(place.group(), "") if place else message.replace(" (at end of document)", "")
    return shown(what), int(place.group(1)) if place else len(text.splitlines()) if end else 1


def _recipe(path: Path, values: dict) -> Recipe:
    file = Table((), values, TABLES)
    name = path.stem
    if not re.fullmatch(NAME, name):
        raise Fault((), f"is named {shown(name)!r}; name it of small letters, digits and _, as mine_2.toml")
    if name in SHIPPED and path.parent != FOLDER:
        raise Fault(
            (), f"is named as the shipped recipe {name}, for which its runs would be taken; rename it"
        )
    corpus = read_data.corpus(name, path.parent, file)
    rounds, schedules = read_training.rounds(file, corpus)
    models = file.table("models", None)
    if not models.values:
        raise Fault(models.path, "has no row; add one")
    for table in OF_MODELS:
        for key in file.table(table, None, {}).values:
            if key not in models:
                known = f"[models] has {listing(models.values, 'and')}"
                raise Fault((table, key), f"is no model{nearest(key, models.values)}; {known}")
    rows = {key: read_training.model(key, models, file, rounds, schedules, name) for key in models.values}
    architectures, contexts = file.table("architectures", None), file.table("context", None)
    context = {key: read_training.context(contexts.table(key, None)) for key in rows}
    evaluation = _evaluation(file.table("evaluation", EVALUATION, {}), path.parent)
    training = file.table("training", read_training.TRAINING, {})
    return Recipe(
        name=name,
        path=path,
        values=values,
        corpus=corpus,
        rounds=rounds,
        models={key: read_training.with_context(row, context[key]) for key, row in rows.items()},
        unlisted=frozenset(key for key in rows if not models.table(key, None).flag("listed", True)),
        architectures={key: read_training.architecture(architectures.table(key, None)) for key in rows},
        contexts=context,
        folders=read_training.folders(file, rows, path.parent),
        trained_epsilon=training.number("norm_epsilon", default=None),
        evaluation=evaluation,
        published=_published(file.table("published", MODES, {}), rows, evaluation),
    )


EVALUATION = (
    *("benchmark", "problems", "subsets", "samples", "temperature", "top_p", "max_tokens"),
    "code_executions",
)


def _evaluation(table: Table, folder: Path) -> Evaluation:
    benchmark = table.text("benchmark", "comp-math-24-25")
    if benchmark.endswith(".jsonl"):
        benchmark = str((folder / benchmark).resolve())
    return Evaluation(
        benchmark=benchmark,
        subsets=table.texts("subsets", default=()),
        samples=table.whole("samples", default=64),
        temperature=table.number("temperature", -1e-9, default=0.6),
        top_p=table.number("top_p", most=1, default=0.95),
        max_tokens=table.whole("max_tokens", default=32_768),
        problems=table.whole("problems", default=None),
        code_executions=table.whole("code_executions", default=8),
    )


def _published(
    table: Table, models: dict[str, Model], evaluation: Evaluation
) -> dict[tuple[str, str], tuple[tuple[float | None, float], ...]]:
    """Accuracies in percent by model and mode: of each subset pass@1 and majority, or the majority alone."""
    found = {}
    for mode in table.values:
        rows = table.table(mode, models)
        for name, values in rows.values.items():
            if not isinstance(values, list) or len(values) != len(evaluation.subsets):
                subsets = listing(evaluation.subsets, "and") or "none"
                raise rows.fault(name, f"has not one entry for each subset; evaluation.subsets are {subsets}")
            pairs = [value if isinstance(value, list) else [None, value] for value in values]
            numbers = [number for pair in pairs for number in pair if number is not None]
            if any(len(pair) != 2 for pair in pairs) or any(
                type(number) not in (int, float) or not 0 <= number <= 100 for number in numbers
            ):
                raise rows.fault(name, "has no percentages; write [pass@1, majority], or the majority alone")
            found[name, mode] = tuple((pair[0], pair[1]) for pair in pairs)
    return found
