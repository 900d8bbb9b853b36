"""The training data as NeMo-RL would rebuild it at every start: built once, kept by its content.

NeMo-RL loads the JSON and maps it in one process at each start of each link: 114 GB would idle 512 GPUs. It
skips both for a folder that `datasets` saved and whose rows have `messages`; this writes such a folder, and
one of each split of the held-out rows.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from omr import manifest
from omr.errors import OmrError
from omr.files import building, lock, need_space
from omr.files import sha256 as hashed
from omr.processes import cores
from omr.progress import Progress
from omr.run import validation
from omr.run.frozen import TrainingData
from omr.run.validation import ValidationFile
from omr.workspace import Workspace

BATCH = 1000  # rows per Arrow batch: a batch's text must stay under 2 GB
SHARD = 2 << 30  # bytes of JSON per Arrow file
INFO = {
    "features": {
        "messages": [
            {
                "role": {"dtype": "string", "_type": "Value"},
                "content": {"dtype": "string", "_type": "Value"},
            }
        ]
    }
}


def folder(workspace: Workspace, sha256: str, limit: int | None) -> Path:
    """Where the prepared form of a data file lies: named by its content, and by LIMIT."""
    return workspace.root / "cache" / "data" / (sha256[:16] + (f"-{limit}" if limit else ""))


def held_out_folder(workspace: Workspace, held_out: Sequence[ValidationFile]) -> Path:
    """Where the prepared form of held-out rows lies, a folder of each split within: named by their content.

    NeMo-RL names a data set by the last two words of its path, up to a dot, and so tells the splits apart.
    """
    return workspace.root / "cache" / "data" / f"{validation.digest_of(held_out)[:16]}-validation"


def environment(workspace: Workspace, data: TrainingData, limit: int | None) -> dict[str, str]:
    """Variables that tell NeMo-RL's driver where the prepared form of a run's data is."""
    found = {"OMR_DATA": str(folder(workspace, data.sha256, limit))}
    if data.validation:
        found["OMR_VALIDATION"] = str(held_out_folder(workspace, data.validation))
    return found


def inputs(sha256: str, limit: int | None) -> dict:
    """What decides the content."""
    return {"data": sha256, "limit": limit, "form": 1}


def finished(
    workspace: Workspace, sha256: str, limit: int | None, held_out: Sequence[ValidationFile] = ()
) -> bool:
    """Is it there, with the held-out rows: made from these very files, with every part at its size?"""
    return unfinished(workspace, sha256, limit, held_out) is None


def unfinished(
    workspace: Workspace, sha256: str, limit: int | None, held_out: Sequence[ValidationFile] = ()
) -> Path | None:
    """The first folder that is not there, or not whole; None where `finished`."""
    if not _whole(rows := folder(workspace, sha256, limit), inputs(sha256, limit)):
        return rows
    if held_out and not _held_out_whole(workspace, held_out):
        return held_out_folder(workspace, held_out)
    return None


def _held_out_whole(workspace: Workspace, held_out: Sequence[ValidationFile]) -> bool:
    return _whole(held_out_folder(workspace, held_out), inputs(validation.digest_of(held_out), None))


def _whole(where: Path, wanted: dict) -> bool:
    """Every part of its size and sampled blocks? Scratch disks lose single files, and a bit may turn.

    An earlier state of this toolkit listed no blocks.
    """
    made = manifest.read(where)
    if made is None or made["inputs"] != wanted:
        return False
    parts, seen = made["files"].items(), made.get("seen", {})
    if not all((where / name).is_file() and (where / name).stat().st_size == size for name, size in parts):
        return False
    return all(manifest.fingerprint(where / n).blocks == seen[n].get("blocks") for n, _ in parts if n in seen)


def make(workspace: Workspace, data: Path, limit: int | None = None, workers: int | None = None) -> Path:
    """Build the prepared form of a finished data file and of the rows that are held out of it.

    Returns the folder of the data file's. Memory: a few batches a worker.
    """
    from concurrent.futures import ProcessPoolExecutor

    origin = manifest.read(data)
    if origin is None:
        raise OmrError(f"{data}: the training data is not there; run make data first")
    if held_out := validation.files_of(data):
        _make_held_out(workspace, held_out)
    out = folder(workspace, origin["sha256"], limit)
    if finished(workspace, origin["sha256"], limit):
        return out
    size = origin["size"]
    _prove(data, origin["sha256"], size)
    with lock(out.with_name(f".{out.name}.lock"), str(out)):
        need_space(out, int(size * 1.05), str(out))
        parts = [(0, size)] if limit else [(at, min(at + SHARD, size)) for at in range(0, size, SHARD)]
        progress = Progress("preparing the data for NeMo-RL", size)
        with building(out) as aside, ProcessPoolExecutor(workers or cores()) as pool:
            names = _names(len(parts))
            jobs = [
                pool.submit(write, data, start, end, aside / name, limit)
                for (start, end), name in zip(parts, names, strict=True)
            ]
            rows = 0
            for job, (start, end) in zip(jobs, parts, strict=True):
                rows += job.result()
                progress.add(end - start)
            progress.close()
            _check_count(data, rows, min(limit or origin["rows"], origin["rows"]), origin["rows"])
            _describe(aside, names, origin["sha256"])
            sizes = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
            facts = {"rows": rows, "source": str(data), "files": sizes}
            seen = manifest.fingerprints(aside, "*")
            manifest.write(aside, inputs(origin["sha256"], limit), **facts, seen=seen)
    return out


def _make_held_out(workspace: Workspace, held_out: Sequence[ValidationFile]) -> None:
    """All splits or none: they are small, one process writes them."""
    out = held_out_folder(workspace, held_out)
    if _held_out_whole(workspace, held_out):
        return
    for file in held_out:
        _prove(file.path, file.sha256, file.size)
    with lock(out.with_name(f".{out.name}.lock"), str(out)):
        need_space(out, int(sum(file.size for file in held_out) * 1.05), str(out))
        with building(out) as aside:
            for file in held_out:
                (aside / file.split).mkdir()
                (name,) = _names(1)
                rows = write(file.path, 0, file.size, aside / file.split / name, None)
                _check_count(file.path, rows, file.rows, file.rows)
                _describe(aside / file.split, [name], file.sha256)
            parts = sorted(path for path in aside.rglob("*") if path.is_file())
            sizes = {str(path.relative_to(aside)): path.stat().st_size for path in parts}
            digest, source = validation.digest_of(held_out), str(held_out[0].path.parent)
            seen = {str(path.relative_to(aside)): manifest.fingerprint(path).as_json() for path in parts}
            facts = {"rows": sum(file.rows for file in held_out), "source": source, "files": sizes}
            manifest.write(aside, inputs(digest, None), **facts, seen=seen)


def _prove(data: Path, sha256: str, size: int) -> None:
    """An OmrError where a file of rows is not the one that its manifest is of."""
    if not data.is_file():
        raise OmrError(f"{data}: is gone; make data FORCE=1")
    if data.stat().st_size != size:
        raise OmrError(
            f"{data}: has {data.stat().st_size} bytes, its manifest says {size}; make data FORCE=1"
        )
    if hashed(data) != sha256:
        raise OmrError(f"{data}: its sha256 is not the one in its manifest; make data FORCE=1")


def _check_count(data: Path, rows: int, wanted: int, of: int) -> None:
    if rows != wanted:
        raise OmrError(f"{data}: gave {rows:,} rows of {of:,}; make data FORCE=1")


def _names(count: int) -> list[str]:
    """The files of a data set, as `datasets` names them."""
    return [f"data-{i:05}-of-{count:05}.arrow" for i in range(count)]


def _describe(where: Path, names: Sequence[str], sha256: str) -> None:
    """Beside the rows, what makes a folder of them a data set that `datasets` saved."""
    state = {"_data_files": [{"filename": name} for name in names], "_split": None}
    state |= {"_fingerprint": sha256[:16], "_output_all_columns": False}
    state |= {"_format_columns": None, "_format_kwargs": {}, "_format_type": None}
    (where / "state.json").write_text(json.dumps(state))
    (where / "dataset_info.json").write_text(json.dumps(INFO))


def write(data: Path, start: int, end: int, out: Path, limit: int | None) -> int:
    """The rows whose first byte lies in [start, end) as one Arrow stream; returns how many."""
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    schema = pa.schema([("messages", pa.list_(message))])
    count, batch = 0, []
    with out.open("wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        for row in lines(data, start, end):
            batch.append(
                [{"role": "user", "content": row["input"]}, {"role": "assistant", "content": row["output"]}]
            )
            count += 1
            if len(batch) == BATCH or count == limit:
                stream.write_batch(pa.record_batch([pa.array(batch, schema.field(0).type)], schema))
                batch = []
            if count == limit:
                break
        if batch:
            stream.write_batch(pa.record_batch([pa.array(batch, schema.field(0).type)], schema))
    return count


def lines(data: Path, start: int, end: int) -> Iterator[dict]:
    """Rows of the file whose first byte lies in [start, end)."""
    with data.open("rb") as handle:
        if start:
            handle.seek(start - 1)
            handle.readline()
        while handle.tell() < end and (line := handle.readline()):
            yield json.loads(line)
