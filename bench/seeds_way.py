"""The published way from parquet to the shuffled file, written anew: datasets map, to_json, cat, shuf.

    python bench/seeds_way.py RAW OUT ROUND TOKENIZER LENGTH_TOKENIZER [PROCESSES]

ROUND is round1, round2 or round2-paper. RAW/data holds the shards, OUT gets omr-<split>.jsonl and
omr-all.jsonl. Used as the yardstick of bench/data.py and as the reference of the tests marked `nemo`.
"""

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

OLYMPIADS = ("aops_c5_contests_amp_programs", "aops_c6_high_school_olympiads")
SPLITS = ("cot", "tir", "genselect")


def fill(row, prompt, uses_tools):
    """One row's input and output."""
    values = {"problem": row["input"]}
    if uses_tools:
        if "Remaining code executions: " in row["output"]:
            after = row["output"].split("Remaining code executions: ")[1]
            values["total_code_executions"] = int(after.split()[0][0]) + 1
        else:
            assert "You have run out of code executions!" in row["output"]
            values["total_code_executions"] = 1
    row["input"] = prompt.fill(values)
    row["output"] = prompt.format_assistant_response(row["output"])
    return row


def wanted(row, split, tokenizer):
    """Round 2's filter."""
    if row["problem_source"] not in OLYMPIADS:
        return False
    if row["pass_rate_72b_tir"] == "n/a" or float(row["pass_rate_72b_tir"]) > 0.3:
        return False
    return split == "genselect" or len(tokenizer.encode(row["output"])) >= 5000


def prompt_of(split, tokenizer):
    """NeMo-Skills' prompt of a split."""
    from nemo_skills.prompt.utils import get_prompt

    config = {"cot": "generic/math", "tir": "openmath/tir", "genselect": {"user": "{problem}"}}[split]
    tags = "openmath" if split == "tir" else None
    return get_prompt(config, tokenizer=tokenizer, code_tags=tags, system_message="")


def formatted(files, split, round_key, prompt, tokenizer, processes):
    """A split as the recipe's script makes it, as a datasets.Dataset."""
    from datasets import load_dataset

    data = load_dataset("parquet", data_files={split: files}, split=split)
    data = data.rename_column("problem", "input").rename_column("generated_solution", "output")
    if round_key == "round2" or (round_key == "round2-paper" and split == "cot"):
        data = data.filter(partial(wanted, split=split, tokenizer=tokenizer), num_proc=processes)
    return data.map(partial(fill, prompt=prompt, uses_tools=split == "tir"), num_proc=processes)


def main(raw, out, round_key, tokenizer, length_tokenizer, processes=2):
    """The three splits, then cat and shuf."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    length = None
    if round_key != "round1":
        from transformers import AutoTokenizer

        length = AutoTokenizer.from_pretrained(length_tokenizer)
    for split in SPLITS:
        files = sorted(str(path) for path in Path(raw, "data").glob(f"{split}-*.parquet"))
        prompt = prompt_of(split, str(tokenizer))
        data = formatted(files, split, round_key, prompt, length, int(processes))
        data.to_json(out / f"omr-{split}.jsonl")
    with (out / "omr-all.jsonl").open("wb") as whole:
        for split in SPLITS:
            with (out / f"omr-{split}.jsonl").open("rb") as part:
                shutil.copyfileobj(part, whole, 1 << 24)
    subprocess.run(["shuf", "-o", out / "omr-all.jsonl", out / "omr-all.jsonl"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
