"""The training data as NeMo-RL would rebuild it at every start: built once, kept by its content.

NeMo-RL loads the JSON and maps it in one process at each start of each link: 114 GB would idle 512 GPUs. It
skips both for a folder that `datasets` saved and whose rows have `messages`; this writes such a folder.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from omr import manifest
from omr.errors import OmrError
from omr.files import building, lock, need_space
from omr.files import sha256 as hashed
from omr.processes import cores
from omr.progress import Progress
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


def inputs(sha256: str, limit: int | None) -> dict:
    """What decides the content."""
    return {"data": sha256, "limit": limit, "form": 1}


def finished(workspace: Workspace, sha256: str, limit: int | None) -> bool:
    """Is it there, made from this very file, every part of its size and sampled blocks?

    Scratch disks lose single files. An earlier state of this toolkit listed no blocks.
    """
    where = folder(workspace, sha256, limit)
    made = manifest.read(where)
    if made is None or made["inputs"] != inputs(sha256, limit):
        return False
    parts, seen = made["files"].items(), made.get("seen", {})
    if not all((where / name).is_file() and (where / name).stat().st_size == size for name, size in parts):
        return False
    return all(manifest.fingerprint(where / n).blocks == seen[n].get("blocks") for n, _ in parts if n in seen)


def make(workspace: Workspace, data: Path, limit: int | None = None, workers: int | None = None) -> Path:
    """Build the prepared form of a finished data file; returns its folder. Memory: a few batches a worker."""
    from concurrent.futures import ProcessPoolExecutor

    origin = manifest.read(data)
    if origin is None:
        raise OmrError(f"{data}: the training data is not there; run make data first")
    out = folder(workspace, origin["sha256"], limit)
    if finished(workspace, origin["sha256"], limit):
        return out
    size = data.stat().st_size
    if size != origin["size"]:
        raise OmrError(f"{data}: has {size} bytes, its manifest says {origin['size']}; make data FORCE=1")
    if hashed(data) != origin["sha256"]:
        raise OmrError(f"{data}: its sha256 is not the one in its manifest; make data FORCE=1")
    with lock(out.with_name(f".{out.name}.lock"), str(out)):
        need_space(out, int(size * 1.05), str(out))
        parts = [(0, size)] if limit else [(at, min(at + SHARD, size)) for at in range(0, size, SHARD)]
        progress = Progress("preparing the data for NeMo-RL", size)
        with building(out) as aside, ProcessPoolExecutor(workers or cores()) as pool:
            names = [f"data-{i:05}-of-{len(parts):05}.arrow" for i in range(len(parts))]
            jobs = [
                pool.submit(write, data, start, end, aside / name, limit)
                for (start, end), name in zip(parts, names, strict=True)
            ]
            rows = 0
            for job, (start, end) in zip(jobs, parts, strict=True):
                rows += job.result()
                progress.add(end - start)
            progress.close()
            if rows != min(limit or origin["rows"], origin["rows"]):
                raise OmrError(f"{data}: gave {rows:,} rows of {origin['rows']:,}; make data FORCE=1")
            state = {"_data_files": [{"filename": name} for name in names], "_split": None}
            state |= {"_fingerprint": origin["sha256"][:16], "_output_all_columns": False}
            state |= {"_format_columns": None, "_format_kwargs": {}, "_format_type": None}
            (aside / "state.json").write_text(json.dumps(state))
            (aside / "dataset_info.json").write_text(json.dumps(INFO))
            sizes = {path.name: path.stat().st_size for path in sorted(aside.iterdir())}
            facts = {"rows": rows, "source": str(data), "files": sizes}
            seen = manifest.fingerprints(aside, "*")
            manifest.write(aside, inputs(origin["sha256"], limit), **facts, seen=seen)
    return out


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
