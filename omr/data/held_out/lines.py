"""The held-out rows of all shards -> <name>.validation/<split>.jsonl, in the order of the corpus.

The shards' lines of them lie in a bucket of their own, behind those that are mixed (omr/data/scratch.py).
"""

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from omr import files
from omr.data import scratch
from omr.data.corpus import Shard
from omr.errors import OmrError
from omr.files import Json
from omr.run import validation

ASIDE = "validation"  # in the work folder, until the SFT file gets its name


def write(work: Path, bucket: int, shards: Sequence[Shard]) -> dict[str, Json]:
    """Write the rows in `bucket` of the `shards` into the work folder, by split; returns the files' facts.

    A split without any has no file. `scratch.Torn` names a shard whose lines a crash has torn.
    """
    folder, found = work / ASIDE, {}
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for split in dict.fromkeys(shard.split for shard in shards):
        reader = scratch.Reader(work, [shard.name for shard in shards if shard.split == split])
        if rows := int(reader.rows[bucket]):
            digest, path = hashlib.sha256(), folder / f"{split}.jsonl"
            with files.writing(path) as aside, aside.open("wb") as out:
                for segment in reader.segments(bucket):
                    digest.update(segment.text)
                    out.write(segment.text)
            size = path.stat().st_size
            found[split] = {"sha256": digest.hexdigest(), "size": size, "rows": rows}
    files.sync(folder)
    return found


def give_name(work: Path, output: Path, some: bool) -> None:
    """Put the rows beside the SFT file, in place of an older one's; done twice it changes nothing."""
    folder, made = validation.folder_of(output), work / ASIDE
    if made.exists() or not some:
        shutil.rmtree(folder, ignore_errors=True)
    if made.exists():
        made.replace(folder)
        files.sync(folder.parent)


def check(output: Path) -> None:
    """An OmrError where held-out rows of a finished SFT file are gone, or of another size."""
    for file in validation.files_of(output):
        if not file.path.is_file() or file.path.stat().st_size != file.size:
            raise OmrError(f"{file.path}: is not as make data left it; FORCE=1 makes it anew")
