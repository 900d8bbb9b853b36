"""Rows like the published ones, and a tokenizer like Qwen2.5's, for bench/data.py: any amount, from a seed.

Texts are sentences of a fixed stock in random order: prose, LaTeX, code, numbers, some letters beyond
ASCII; their lengths are spread as the published ones are, and snappy halves them as it does those.
About a tenth of the rows come from olympiads with a low pass rate, half of these long enough for round 2.
"""

import json
import math
import random
from pathlib import Path

SHARE = {"cot": 0.63, "tir": 0.31, "genselect": 0.06}  # of the bytes, as published
MEAN = {"cot": 22_000, "tir": 20_400, "genselect": 6_000}  # bytes of a solution
SOURCES = (
    ("aops_c6_high_school_olympiads", 0.34),
    ("aops_c5_contests_amp_programs", 0.08),
    ("aops_c4_high_school_math", 0.3),
    ("aops_c7_college_math", 0.2),
    ("MATH_training_set", 0.08),
)
RATES = (
    ("n/a", 0.2),
    ("0.0", 0.1),
    ("0.125", 0.08),
    ("0.3", 0.07),
    ("0.34375", 0.2),
    ("0.78125", 0.2),
    ("1.0", 0.15),
)
_SYMBOLS = ("²", "√2", "≤", "→", "·", "∠ABC", "π", "Łukasiewicz", "é")
_LATEX = (
    "\\frac{a}{b}",
    "\\(x^2 + y^2 = z^2\\)",
    "$n \\ge 3$",
    "\\[\n\\sum_{i=1}^{n} i = \\frac{n(n+1)}{2}\n\\]",
)
_STARTS = (
    "So",
    "Wait,",
    "Therefore",
    "Let me check:",
    "Hmm,",
    "Now",
    "Alternatively,",
    "But",
    "Then",
    "Since",
)


def stock(count: int = 3_000, seed: int = 0) -> list[str]:
    """Sentences of 20 to 120 characters."""
    dice = random.Random(seed)
    letters = "etaoinshrdlucmfwypvbgk"
    words = ["".join(dice.choices(letters, k=dice.randrange(2, 10))) for _ in range(2_500)]
    made = []
    for _ in range(count):
        parts = [dice.choice(_STARTS)] if dice.random() < 0.3 else []
        for _ in range(dice.randrange(3, 16)):
            roll = dice.random()
            if roll < 0.08:
                parts.append(dice.choice(_LATEX))
            elif roll < 0.2:
                parts.append(str(dice.randrange(10_000)))
            elif roll < 0.205:
                parts.append(dice.choice(_SYMBOLS))
            elif roll < 0.22:
                parts.append(f'"{dice.choice(words)}"')
            else:
                parts.append(dice.choice(words))
        made.append(" ".join(parts) + dice.choice((".", ".", ".", ".\n\n", ",", ":\n")))
    return made


class Maker:
    """Rows of a split, from a seed."""

    def __init__(self, seed: int) -> None:
        self.dice, self.sentences = random.Random(seed), stock()
        self.mean = sum(map(len, self.sentences)) / len(self.sentences) + 1

    def text(self, mean: float, spread: float = 0.7) -> str:
        """A text of about `mean` bytes on average."""
        length = self.dice.lognormvariate(math.log(mean) - spread**2 / 2, spread)
        return " ".join(self.dice.choices(self.sentences, k=max(1, round(length / self.mean))))

    def pick(self, table: tuple) -> str:
        """One of a table's words, by its weights."""
        return self.dice.choices([word for word, _ in table], [weight for _, weight in table])[0]

    def row(self, split: str) -> dict:
        """One row in the published columns."""
        problem, solution = self.text(250), self.text(MEAN[split])
        if split == "tir":
            code = "<tool_call>\nprint(1)\n</tool_call>\n```output\n1\n```\n```system\n"
            left = self.dice.choice((0, 1, 2, 5, 7, 12))
            note = f"Remaining code executions: {left}" if left else "You have run out of code executions!"
            middle = len(solution) // 2
            solution = f"{solution[:middle]}{code}{note}\n```\n{solution[middle:]}"
        if split == "genselect":
            problem = self.text(6_000)
        return {
            "expected_answer": str(self.dice.randrange(1000)),
            "problem_type": "has_answer_extracted",
            "problem_source": self.pick(SOURCES),
            "generation_model": "QwQ-32B" if self.dice.random() < 0.5 else "DeepSeek-R1",
            "pass_rate_72b_tir": self.pick(RATES),
            "problem": problem,
            "generated_solution": solution,
            "inference_mode": split,
            "used_in_kaggle": self.dice.random() < 0.7,
        }


def generate(folder: Path, size: int, seed: int = 0, shards: int = 12) -> int:
    """Write parquet with about `size` bytes of text into folder/data; returns the rows. `shards` of 12: 7, 4, 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [name for name in _columns() if name != "used_in_kaggle"]
    schema = pa.schema([(name, pa.string()) for name in texts] + [("used_in_kaggle", pa.bool_())])
    (folder / "data").mkdir(parents=True, exist_ok=True)
    total = 0
    for split, share in SHARE.items():
        count = max(1, round(shards * share))
        for number in range(count):
            maker = Maker(hash((seed, number, len(split))))
            path = folder / "data" / f"{split}-{number:05}-of-{count:05}.parquet"
            written, rows = 0, []
            with pq.ParquetWriter(path, schema, compression="snappy") as writer:
                while written < size * share / count:
                    rows.append(maker.row(split))
                    written += sum(len(str(value)) for value in rows[-1].values())
                    total += 1
                    if len(rows) == 1000:
                        writer.write_table(pa.Table.from_pylist(rows, schema))
                        rows = []
                if rows:
                    writer.write_table(pa.Table.from_pylist(rows, schema))
    return total


def _columns() -> tuple[str, ...]:
    from omr import recipe

    return recipe.CORPORA["openmathreasoning"].columns.names


TEMPLATE = (
    "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}"
    "{%- else %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}{%- if message['role'] != 'system' or not loop.first %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|vision_pad|>")
ADDED = ("<tool_call>", "</tool_call>", "<|fim_prefix|>")


def tokenizer(folder: Path, vocabulary: int = 12_000, seed: int = 0) -> Path:
    """Write a tokenizer of Qwen2.5's make (its pattern, NFC, byte-level BPE, special tokens), trained on the stock."""
    from tokenizers import (
        AddedToken,
        Regex,
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )

    from omr.data.lengths import QWEN2

    engine = Tokenizer(models.BPE())
    engine.normalizer = normalizers.NFC()
    engine.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    engine.decoder = decoders.ByteLevel()
    engine.post_processor = processors.ByteLevel(add_prefix_space=False, use_regex=False, trim_offsets=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    engine.train_from_iterator(stock(seed=seed), trainer)
    engine.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in SPECIAL])
    engine.add_tokens([AddedToken(word, special=False, normalized=False) for word in ADDED])
    folder.mkdir(parents=True, exist_ok=True)
    engine.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "model_max_length": 131072,
        "add_prefix_space": False,
        "chat_template": TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2))
    return folder
