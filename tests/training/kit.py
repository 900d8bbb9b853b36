"""A workspace to train the micro recipe in: its base, rows of written-out solutions, a frozen run."""

import json
from pathlib import Path

from omr import files, manifest, recipe
from omr.data import prompts
from omr.request import TrainRequest
from omr.run import frozen, validation
from omr.tiny import corpus
from omr.tiny.model import write_base
from omr.tiny.tokenizer import tiny_tokenizer
from omr.workspace import Workspace, manifest_of


def sft_rows(count, split="cot"):
    """Rows of an SFT file, of written-out solutions; those of another split are asked by cot's prompt."""
    prompt = prompts.load(recipe.CORPORA["tiny"], "cot", tiny_tokenizer())
    for row in corpus.split_rows(split, count):
        given = prompt.fill({"problem": row["problem"]})
        yield {"input": given, "output": prompt.format_assistant_response(row["generated_solution"])}


def write_inputs(root, rows):
    """micro's base and the data of round 1, as make model and make data would leave them."""
    workspace = Workspace(Path(root))
    base, data = workspace.model("micro"), workspace.data("tiny", "round1")
    write_base(base)
    listed = {p.name: {"size": p.stat().st_size, "sha256": files.sha256(p)} for p in base.iterdir()}
    manifest.write(base, {}, files=listed)
    data.parent.mkdir(parents=True)
    manifest.write(data, {}, **write_rows(data, rows))
    return workspace


def write_rows(path, rows):
    """JSON lines, and what a manifest says of them."""
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows))
    return {"sha256": files.sha256(path), "size": path.stat().st_size, "rows": len(rows)}


def hold_out(data, **splits):
    """Held-out rows beside a finished SFT file, as make data would leave them: rows by split."""
    folder = validation.folder_of(data)
    folder.mkdir()
    listed = {split: write_rows(folder / f"{split}.jsonl", rows) for split, rows in splits.items()}
    made = files.read_json(manifest_of(data))
    files.write_json(manifest_of(data), {**made, "validation": {"problems": 1, "splits": listed}})


def freeze(workspace, run=None, **words):
    """The run folder and what it was begun with; `words` are those of a TrainRequest."""
    run = run or recipe.run("micro")
    folder = workspace.run(run)
    return folder, frozen.freeze(folder, frozen.inputs(TrainRequest.of(run, **words), workspace))
