"""A corpus of one's own files: JSON lines or parquet, as the shards that the data stage reads.

The files stay where they are. The columns that the recipe names are written once as parquet below the
workspace, and again when a file has changed.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from omr import files
from omr.errors import OmrError, RequestError, nearest, shown
from omr.files import Json
from omr.recipe import Columns, Corpus

BATCH = 10_000  # rows at a time
NOTE = "sources.json"  # in the folder of the shards: what they were made from


def sources(corpus: Corpus) -> dict[str, list[Path]]:
    """The files of each split; a RequestError for one that is not there. A name may have * in it."""
    found = {}
    for split, named in corpus.files.items():
        paths = sorted(named.parent.glob(named.name)) if "*" in named.name else [named]
        if not paths or not all(path.is_file() for path in paths):
            raise RequestError(f"{named}: no such file; correct files or file in the recipe {corpus.name}")
        if odd := [path for path in paths if path.suffix not in (".jsonl", ".parquet")]:
            raise RequestError(f"{odd[0]}: is neither .jsonl nor .parquet; save it as one, or rename it")
        found[split] = paths
    return found


def facts(corpus: Corpus) -> Json:
    """What tells unchanged files from changed ones, with what is read of them."""
    stats = {str(path): path.stat() for paths in sources(corpus).values() for path in paths}
    seen = {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}
    return {"files": seen, "columns": list(corpus.columns.names)}


def made(corpus: Corpus, folder: Path) -> bool:
    """Whether the folder's shards are those of the files as they are now."""
    note = folder / NOTE
    return note.exists() and files.read_json(note) == facts(corpus)


def write(corpus: Corpus, folder: Path) -> None:
    """Write the shards of all splits below `folder`; an OmrError names file and line of what is malformed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, now = corpus.columns, facts(corpus)
    schema = pa.schema((name, pa.bool_() if name in columns.flags else pa.string()) for name in columns.names)
    (folder / "data").mkdir(parents=True)
    for split, paths in sources(corpus).items():
        for number, path in enumerate(paths):
            target = folder / "data" / f"{split}-{number:05}-of-{len(paths):05}.parquet"
            read = _json_lines if path.suffix == ".jsonl" else _parquet
            with pq.ParquetWriter(target, schema) as out:
                for rows in read(path, columns):
                    out.write_table(pa.Table.from_pylist(rows, schema))
    files.write_json(folder / NOTE, now)


def rows(corpus: Corpus, split: str) -> Iterator[Json]:
    """The rows of a split, from its files."""
    for path in sources(corpus)[split]:
        read = _json_lines if path.suffix == ".jsonl" else _parquet
        for batch in read(path, corpus.columns):
            yield from batch


def _json_lines(path: Path, columns: Columns) -> Iterator[list[Json]]:
    files.refuse_lfs_pointer(path, "bring the file itself")
    rows: list[Json] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                rows.append(_row(line, columns, f"{path}:{number}"))
            if len(rows) == BATCH:
                yield rows
                rows = []
    if rows:
        yield rows


def _row(line: bytes, columns: Columns, where: str) -> Json:
    """The columns of a line; numbers become the text that they are spelled with."""
    try:
        row = json.loads(line.decode("utf-8-sig"), parse_int=str, parse_float=str)
    except UnicodeDecodeError as error:
        raise OmrError(f"{where}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise OmrError(f"{where}: is no JSON ({shown(str(error))}); a line is one object in braces") from None
    if not isinstance(row, dict):
        raise OmrError(f"{where}: is no object; write one in braces, with {', '.join(columns.names)}")
    for name in columns.names:
        if name not in row:
            near = nearest(name, row)
            raise OmrError(f"{where}: has no {name}{near}; correct columns.names of the recipe, or the line")
        value, flag = row[name], name in columns.flags
        if value is not None and not isinstance(value, bool if flag else str):
            wanted = "true or false" if flag else "a text or a number"
            raise OmrError(f"{where}: {name} is {shown(json.dumps(value))}; write {wanted}")
        if isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value):
            raise OmrError(f"{where}: {name} has half of a surrogate pair; write the whole character")
    return {name: row[name] for name in columns.names}


def _parquet(path: Path, columns: Columns) -> Iterator[list[Json]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from omr.data import corpus
    from omr.data import rows as reading

    try:
        with pq.ParquetFile(path) as file:
            there = file.schema_arrow.names
            if missing := [name for name in columns.names if name not in there]:
                near = nearest(missing[0], there)
                raise OmrError(
                    f"{path}: has no column {missing[0]}{near}; correct columns.names of the recipe"
                )
            for batch in file.iter_batches(BATCH, columns=list(columns.names)):
                cast = [
                    batch[name].cast(pa.bool_() if name in columns.flags else pa.string())
                    for name in columns.names
                ]
                yield pa.RecordBatch.from_arrays(cast, names=list(columns.names)).to_pylist()
    except reading.reading_errors() as error:
        raise OmrError(f"{path}: {corpus.unreadable(path, error)}; save it anew") from None
