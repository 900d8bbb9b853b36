"""Compare config, generation config, tokenizer, chat template and weights of a model folder with each other,
with the recipe, and with the folder that it was made from.

Everything is read from the files themselves: a library would fill in defaults, which differ by version.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omr.errors import OmrError
from omr.models import rope, weights
from omr.recipe import Model

CONFIG, GENERATION, TOKENS = "config.json", "generation_config.json", "tokenizer_config.json"
ARCHITECTURE = "Qwen2ForCausalLM"
MESSAGE_END = "<|im_end|>"  # what every trained answer ends with
DTYPES = {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64"}
_SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
)

Stage = Literal["published", "patched", "step", "average", "final"]  # of a model folder on its way
Value = str | int | float | bool | list[int] | None
Entries = dict[str, Value]  # what a folder has under each name of ENTRIES; also its form in manifests

# Every entry: its name, the file it stands in, and what a difference breaks.
ENTRIES = {
    "architecture": (CONFIG, "another model class is loaded"),
    "max_position_embeddings": (CONFIG, "longer texts are refused or cut"),
    "rope_theta": (CONFIG, "transformers 4 computes other positions than were trained"),
    "rope_parameters.rope_theta": (CONFIG, "transformers 5 computes other positions than were trained"),
    "rope_scaling.rope_theta": (CONFIG, "transformers 5 computes other positions than were trained"),
    "shape": (CONFIG, "the weights do not fit the model"),
    "vocab_size": (CONFIG, "the embedding does not fit the model"),
    "tie_word_embeddings": (CONFIG, "the output head is lost or random"),
    "dtype": (CONFIG, "loading rounds or doubles the weights"),
    "eos_token_id": (CONFIG, "answers never stop, or stop too early"),
    "pad_token_id": (CONFIG, "batches are padded with a token that means something"),
    "generation eos_token_id": (GENERATION, "generate() never stops, or stops too early"),
    "generation pad_token_id": (GENERATION, "batches are padded with a token that means something"),
    "eos_token": (TOKENS, "servers that ask the tokenizer never stop"),
    "pad_token": (TOKENS, "batches are padded with a token that means something"),
    "tokens": ("tokenizer.json", "token ids reach beyond the embedding"),
    "vocabulary": ("tokenizer.json", "the same text becomes other token ids than were trained"),
    "chat template": ("chat_template.jinja", "the model is asked in another form than it was trained on"),
    "embedding": ("the weights", "the vocabulary and the weights do not fit"),
    "head": ("the weights", "the output head is lost or random"),
    "weights": ("the weights", "loading rounds or doubles the weights"),
}
# Entries that training may change: a bf16 engine trains an fp32 base in bf16.
TRAINED = {"dtype", "weights"}
# Entries that finishing changes on purpose (omr/models/finish.py).
FINISHED = {"eos_token_id", "generation eos_token_id", "eos_token", "chat template"}
PATCHED = {"max_position_embeddings", "rope_theta", "rope_parameters.rope_theta", "rope_scaling.rope_theta"}
MAY_DIFFER: dict[Stage, set[str]] = {"patched": PATCHED, "step": TRAINED, "final": FINISHED}
# Entries that a re-saved file may spell out or leave out: absent (None) is no difference.
OPTIONAL = {
    *("rope_theta", "rope_parameters.rope_theta", "rope_scaling.rope_theta", "pad_token_id"),
    *("generation eos_token_id", "generation pad_token_id"),
}


@dataclass(frozen=True)
class Station:
    """A model folder's entries, under the name that error lines give them: `patched`, `step_7500`."""

    name: str
    entries: Entries


@dataclass(frozen=True)
class Fault:
    """An entry of a model folder that is not what it must be."""

    folder: Path
    entry: str
    found: Value
    wanted: Value
    source: str  # what says so: the name of a station or a file, `the recipe`, `the embedding`

    def __str__(self) -> str:
        file, breaks = ENTRIES[self.entry]
        key = self.entry.removeprefix("generation ")
        return f"{self.folder / file}: {key} is {self.found}, {self.source} says {self.wanted}: {breaks}"


def read(folder: Path) -> Entries:
    """The entries of a model folder. An OmrError if one of its files is damaged or missing."""
    config = rope.parse(folder / CONFIG)
    generation = rope.parse(folder / GENERATION) if (folder / GENERATION).exists() else {}
    tokens = rope.parse(folder / TOKENS) if (folder / TOKENS).exists() else {}
    tensors = {t.name: t for part in weights.shards(folder) for t in part.tensors}
    embedding, head = tensors.get("model.embed_tokens.weight"), tensors.get("lm_head.weight")
    vocabulary, identity = _vocabulary(folder)
    return {
        "architecture": (config.get("architectures") or [None])[0],
        **rope.places(config),
        "shape": [config.get(key) for key in _SHAPE],
        "vocab_size": config.get("vocab_size"),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "dtype": DTYPES.get(str(config.get("dtype", config.get("torch_dtype"))).removeprefix("torch.")),
        "eos_token_id": ids(config.get("eos_token_id")),
        "pad_token_id": config.get("pad_token_id"),
        "generation eos_token_id": ids(generation["eos_token_id"]) if "eos_token_id" in generation else None,
        "generation pad_token_id": generation.get("pad_token_id"),
        "eos_token": text(tokens.get("eos_token")),
        "pad_token": text(tokens.get("pad_token")),
        "tokens": max(vocabulary.values(), default=-1) + 1,
        "vocabulary": identity,
        "chat template": _template(folder, tokens),
        "embedding": list(embedding.shape) if embedding else None,
        "head": list(head.shape) if head else None,
        "weights": "+".join(sorted({t.dtype for t in tensors.values()})),
    }


def ids(value: int | list[int] | None) -> list[int] | None:
    """End tokens as a sorted list; a configuration holds one id or several."""
    return value if value is None else sorted(value if isinstance(value, list) else [value])


def token_ids(folder: Path) -> dict[str, int]:
    """Token -> id of a model folder's tokenizer."""
    return _vocabulary(folder)[0]


def text(token: str | dict[str, str | bool] | None) -> str | None:
    """A special token's text; configurations hold it bare or in an object with its flags."""
    return token.get("content") if isinstance(token, dict) else token


def _vocabulary(folder: Path) -> tuple[dict[str, int], str]:
    """Token -> id, and a short hash of tokens and merges however the file spells them."""
    tokenizer = rope.parse(folder / "tokenizer.json")
    model = tokenizer.get("model", {})
    added = {token["content"]: token["id"] for token in tokenizer.get("added_tokens", [])}
    known = {**model.get("vocab", {}), **added}
    merges = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges", [])]
    text = json.dumps([sorted(known.items(), key=lambda item: item[1]), merges])
    return known, _short(text)


def _template(folder: Path, tokens: dict) -> str | None:
    """Short hash of the chat template; of both, where the two homes of it differ."""
    inside = tokens.get("chat_template")
    if isinstance(inside, list):
        inside = next((t["template"] for t in inside if t["name"] == "default"), None)
    file = folder / "chat_template.jinja"
    found = ([file.read_text(encoding="utf-8")] if file.exists() else []) + ([inside] if inside else [])
    return " or ".join(dict.fromkeys(_short(text.rstrip("\n")) for text in found)) or None


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _contradictions(folder: Path, facts: Entries) -> list[Fault]:
    """Entries of one folder that contradict each other."""
    faults = []

    def need(entry: str, holds: bool, wanted: Value, source: str) -> None:
        if not holds:
            faults.append(Fault(folder, entry, facts.get(entry), wanted, source))

    need("architecture", facts["architecture"] == ARCHITECTURE, ARCHITECTURE, "the recipe")
    rows, columns = facts["embedding"] or (0, 0)
    need(
        "embedding", (rows, columns) == (facts["vocab_size"], facts["shape"][0]), facts["vocab_size"], CONFIG
    )
    need("tokens", facts["tokens"] <= rows, f"at most {rows}", "the embedding")
    if facts["tie_word_embeddings"]:
        need("head", facts["head"] in (None, facts["embedding"]), facts["embedding"], "the embedding")
    else:
        need("head", facts["head"] == facts["embedding"], facts["embedding"], "the embedding")
    need("weights", facts["weights"] == facts["dtype"], facts["dtype"], CONFIG)
    need("chat template", " or " not in (facts["chat template"] or ""), "one template", TOKENS)
    vocabulary = token_ids(folder)
    ends = facts["eos_token_id"] or []
    need("eos_token_id", bool(ends) and all(end in range(rows) for end in ends), "a token", "the embedding")
    end, pad = (vocabulary.get(facts[key]) for key in ("eos_token", "pad_token"))
    need("eos_token", end in ends, ends, CONFIG)
    for entry, wanted in (
        ("generation eos_token_id", ends),
        ("pad_token_id", pad),
        ("generation pad_token_id", pad),
    ):
        need(entry, facts[entry] in (None, wanted), wanted, CONFIG if wanted is ends else TOKENS)
    need("pad_token", pad is not None and facts["pad_token"] != MESSAGE_END, "a token of its own", "training")
    return faults


def _differences(folder: Path, facts: Entries, before: Station, stage: Stage) -> list[Fault]:
    """Entries that differ from the station before and may not."""
    faults = []
    for entry in ENTRIES:
        found, wanted = facts.get(entry), before.entries.get(entry)
        absent = entry in OPTIONAL and None in (found, wanted)
        if found != wanted and not absent and entry not in MAY_DIFFER.get(stage, set()):
            faults.append(Fault(folder, entry, found, wanted, before.name))
    return faults


def _against_recipe(folder: Path, facts: Entries, model: Model, stage: Stage) -> list[Fault]:
    """Context and rope base that are not the recipe's, or that a re-saved config has in one place only."""
    found = []
    if stage != "published":
        for entry, value in ((e, facts[e]) for e in ENTRIES if e in facts and facts[e] is not None):
            wanted = rope.expected(model).get(entry.rpartition(".")[2])
            if wanted is not None and value != wanted:
                found.append(Fault(folder, entry, value, wanted, "the recipe"))
    if stage in ("step", "average", "final"):  # each transformers version reads another place
        for entry in ("rope_theta", "rope_parameters.rope_theta"):
            if facts.get(entry) is None:
                found.append(Fault(folder, entry, "absent", rope.expected(model)["rope_theta"], "the recipe"))
    return found


def _unfinished(folder: Path, facts: Entries) -> list[Fault]:
    """End tokens of a final model that are not those of the trained answers."""
    found = []
    end = token_ids(folder).get(MESSAGE_END)
    if end not in (facts["eos_token_id"] or []):
        found.append(
            Fault(folder, "eos_token_id", facts["eos_token_id"], end, f"{MESSAGE_END} of the training")
        )
    if facts["eos_token"] != MESSAGE_END:
        found.append(Fault(folder, "eos_token", facts["eos_token"], MESSAGE_END, "the training data"))
    if facts["generation eos_token_id"] is None:
        found.append(Fault(folder, "generation eos_token_id", None, facts["eos_token_id"], CONFIG))
    return found


def faults(
    folder: Path, model: Model, stage: Stage, before: Station | None = None
) -> tuple[Entries, list[Fault]]:
    """A folder's entries, and what is wrong with them at this stage; `before` is what it was made from."""
    facts = read(folder)
    found = [*_contradictions(folder, facts), *_against_recipe(folder, facts, model, stage)]
    if before:
        found += _differences(folder, facts, before, stage)
    if stage == "final":
        found += _unfinished(folder, facts)
    return facts, found


def check(folder: Path, model: Model, stage: Stage, before: Station | None = None) -> Entries:
    """The folder's entries; an OmrError for the first fault, with the count of the others."""
    facts, found = faults(folder, model, stage, before)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise OmrError(f"{found[0]}{more}; make passport MODEL={model.name} shows every station")
    return facts
