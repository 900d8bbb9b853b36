"""The part of a recipe file about the data: corpus, columns, splits with their prompts, filters."""

import re
from pathlib import Path

from omr.errors import listing, nearest, shown
from omr.recipe import formulas
from omr.recipe.chat import Chat
from omr.recipe.table import Fault, Table
from omr.recipe.types import Columns, Corpus, Filter, Pin, Prompt

HUB = (r"[\w.-]+/[\w.-]+", "owner/name, as the hub spells it")
REVISION = (r"[0-9a-f]{40}", "the commit, 40 hexadecimal digits: a branch moves")
CORPUS = (
    *("hub", "revision", "files", "made_by", "prompts", "prompt_tokenizer", "length_tokenizer"),
    "same_problem",
)


def corpus(name: str, folder: Path, file: Table) -> Corpus:
    table = file.table("corpus", CORPUS)
    sources = [key for key in ("hub", "files", "made_by") if key in table]
    if len(sources) != 1:
        have = listing(sources, "and") or "no source"
        raise Fault(table.path, f"has {have}; write one of hub (with revision), files or made_by")
    if "made_by" in table:
        table.choice("made_by", ("tiny",))
    columns = _columns(file.table("columns", ("names", "flags", "problem", "solution")))
    prompts, rows, files = {}, {}, {}
    splits = file.table("splits", None)
    if not splits.values:
        raise Fault(splits.path, 'has no split; add cot = {prompt = "…"}')
    for split, row in splits.tables(("rows", "prompt", "code_tags", "fields", "asks", "file")):
        if not re.fullmatch(r"[a-z0-9_]+", split):
            raise Fault(row.path, "is no name of a split; write small letters, digits and _")
        prompts[split] = _prompt(row, columns)
        if "rows" in row:
            rows[split] = row.whole("rows")
        if ("file" in row) != ("files" in table):
            what = "has a file, but [corpus] has no files" if "file" in row else "has no file"
            raise Fault(row.path, f'{what}; a local corpus has files = "folder" and each split its file')
        if "file" in row:
            files[split] = (folder / table.text("files") / row.text("file")).resolve()
    told = table.text("prompts", "nemo-skills")
    prompt_folder = None if told == "nemo-skills" else (folder / told).resolve()
    if prompt_folder and not prompt_folder.is_dir():
        raise table.fault(
            "prompts", f"is {shown(told)!r}, and {prompt_folder} is no folder; make it, or write nemo-skills"
        )
    prompt_tokenizer = _tokenizer(table, "prompt_tokenizer", folder)
    return Corpus(
        name=name,
        source=pin(table) if "hub" in table else None,
        rows=rows,
        prompts=prompts,
        prompt_tokenizer=prompt_tokenizer,
        length_tokenizer=_tokenizer(table, "length_tokenizer", folder) or prompt_tokenizer,
        filters=_filters(file, columns, tuple(prompts)),
        columns=columns,
        prompt_folder=prompt_folder,
        files=files,
        chat=_chat(file.table("chat", ("template", "message_end", "pad"), {}), folder),
        same_problem=table.choice("same_problem", [f"{name}()" for name in formulas.SAME], None),
    )


def _chat(table: Table, folder: Path) -> Chat:
    """[chat]: ChatML where the file has none. A template names its end; one that is text alone fits none."""
    if "template" not in table:
        if "message_end" in table:
            raise table.fault("message_end", "is ChatML's <|im_end|> without a template; add template = …")
        return Chat(pad=table.text("pad", None))
    told = table.text("template")
    try:
        template = (folder / told).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "is not UTF-8"
        raise table.fault(
            "template", f"is {shown(told)!r}: {why}; name a file of Jinja beside the recipe"
        ) from None
    end = table.text("message_end")
    if end not in template:
        raise table.fault(
            "message_end",
            f"is {shown(end)!r}, which {shown(told)} never writes; write its last token",
        )
    return Chat(template.rstrip("\n"), end, table.text("pad", None), own=True)


def pin(table: Table) -> Pin:
    return Pin(
        table.text("hub", form=HUB[0], like=HUB[1]),
        table.text("revision", form=REVISION[0], like=REVISION[1]),
    )


def _tokenizer(table: Table, key: str, folder: Path) -> Pin | Path | None:
    """A tokenizer of the hub, or a folder beside the recipe; None: the tiny model's own."""
    if key not in table:
        return None
    row = table.table(key, ("hub", "revision", "folder"))
    return (folder / row.text("folder")).resolve() if "folder" in row else pin(row)


def _columns(table: Table) -> Columns:
    names = table.texts("names")
    if not names:
        raise table.fault("names", "is empty; list the columns of the source")
    problem, solution = table.choice("problem", names), table.choice("solution", names)
    if problem == solution:
        raise table.fault(
            "solution", f"is {solution!r}, which is the problem; name the column of the answers"
        )
    flags = table.texts("flags", names, ())
    if both := {problem, solution} & {*flags}:
        raise table.fault("flags", f"has {min(both)!r}, which is text; leave it out")
    if taken := {"input", "output"} & {*names} - {problem, solution}:
        raise table.fault("names", f"has {min(taken)!r}, which the SFT line has for its own; leave it out")
    return Columns(names, problem, solution, flags)


def _prompt(row: Table, columns: Columns) -> Prompt:
    fields = row.table("fields", None, {})
    for field in fields.values:
        source = fields.text(field)
        known = (*columns.texts, *(f"{name}()" for name in formulas.FORMULAS))
        if source not in known:
            raise fields.fault(
                field, f"is {shown(source)!r}{nearest(source, known)}; choose {listing(known)}"
            )
    return Prompt(
        row.text("prompt", None), row.text("code_tags", None), dict(fields.values), row.text("asks", None)
    )


FILTER = ("name", "splits", "column", "one_of", "at_least", "at_most", "absent", "min_tokens")


def _filters(file: Table, columns: Columns, splits: tuple[str, ...]) -> tuple[Filter, ...]:
    rows = file.values.get("filters", [])
    if not isinstance(rows, list):
        raise file.fault("filters", "is no list of tables; write [[filters]] above each")
    found: list[Filter] = []
    for number, values in enumerate(rows):
        table = Table(("filters", str(number)), values, FILTER)
        made = Filter(
            name=table.text("name"),
            splits=table.texts("splits", splits, splits),
            column=table.choice("column", columns.texts, None),
            one_of=table.texts("one_of", default=()),
            at_least=table.number("at_least", None, default=None),
            at_most=table.number("at_most", None, default=None),
            absent=table.text("absent", None),
            min_tokens=table.whole("min_tokens", default=None),
        )
        if made.name in [other.name for other in found]:
            raise table.fault("name", f"is {made.name!r} twice; give each filter a name of its own")
        conditions = [bool(made.one_of), made.compares_numbers, made.min_tokens is not None]
        if sum(conditions) != 1:
            raise Fault(table.path, "needs one condition: one_of, at_least and at_most, or min_tokens")
        if (made.column is None) != (made.min_tokens is not None):
            what = "has no column to compare" if made.column is None else "counts tokens of no column"
            raise Fault(
                table.path, f"{what}; one_of, at_least and at_most need a column, min_tokens has none"
            )
        if made.absent is not None and not made.compares_numbers:
            raise table.fault("absent", "is for numbers alone; leave it out, or add at_most")
        found.append(made)
    return tuple(found)
