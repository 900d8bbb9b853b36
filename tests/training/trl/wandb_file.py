"""What the real wandb wrote offline: records in LevelDB's log format, each a protobuf of wandb's own."""

import json
import struct
from pathlib import Path

BLOCK, HEAD = 32_768, 7  # bytes; the file begins with a head of 7, too


def records(path: Path) -> list:
    """The records of a .wandb file; the last may have been cut off by a kill."""
    from wandb.proto import wandb_internal_pb2

    data, at, found, parts = path.read_bytes(), HEAD, [], b""
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEAD])
        text, at = data[at + HEAD : at + HEAD + size], at + HEAD + size
        if len(text) < size or not kind:
            break
        parts = text if kind in (1, 2) else parts + text
        if kind in (1, 4):  # whole, or the last of several parts
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            found.append(record)
    return found


def sessions(logs: Path) -> list[tuple[str, list[int]]]:
    """The W&B run's id and the steps that were sent, of each session in order."""
    told = []
    for path in sorted(logs.glob("wandb/offline-run-*/*.wandb")):
        every = records(path)
        runs = [r.run.run_id for r in every if r.WhichOneof("record_type") == "run"]
        history = [r.history for r in every if r.WhichOneof("record_type") == "history"]
        told.append((runs[0], [step(one) for one in history]))
    return told


def step(history) -> int:
    """The step of a record of numbers."""
    return int(values(history)["_step"])


def values(history) -> dict:
    """The numbers of a record, by their names."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in history.item}


def numbers(logs: Path, name: str) -> dict[int, float]:
    """Step -> the number of this name, of all sessions."""
    every = [record for path in sorted(logs.glob("wandb/offline-run-*/*.wandb")) for record in records(path)]
    found = [values(record.history) for record in every if record.WhichOneof("record_type") == "history"]
    return {int(one["_step"]): one[name] for one in found if name in one}
