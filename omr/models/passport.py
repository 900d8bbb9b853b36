"""Compare config, generation config, tokenizer, chat template and weights of a model folder with each other,
with the recipe, and with the folder that it was made from.

Everything is read from the files themselves: a library would fill in defaults, which differ by version.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from omr import recipe
from omr.errors import OmrError, shown
from omr.files import refuse_lfs_pointer
from omr.models import architecture, rope, tokens, weights
from omr.models.architecture import EMBEDDING, HEAD
from omr.models.rope import Config
from omr.models.weights import Tensor
from omr.recipe import Model

CONFIG, GENERATION, TOKENS = "config.json", "generation_config.json", tokens.SETTINGS
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
# Entries that finishing changes on purpose (omr/models/final/finish.py).
FINISHED = {"eos_token_id", "generation eos_token_id", "eos_token", "pad_token", "chat template"}
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
    """An entry, a key or a tensor of a model folder that is not what it must be."""

    file: Path
    what: str
    found: Value
    wanted: Value
    source: str  # what says so: the name of a station or a file, a hub's repository, `the embedding`
    breaks: str

    def __str__(self) -> str:
        found, wanted = shown(str(self.found)), shown(str(self.wanted))
        return f"{self.file}: {self.what} is {found}, {self.source} says {wanted}: {self.breaks}"


def _fault(folder: Path, entry: str, found: Value, wanted: Value, source: str) -> Fault:
    """A fault of one of ENTRIES."""
    file, breaks = ENTRIES[entry]
    return Fault(folder / file, entry.removeprefix("generation "), found, wanted, source, breaks)


@dataclass(frozen=True)
class _Files:
    """What is in a model folder's files, each read once."""

    folder: Path
    config: Config
    generation: Config
    settings: Config  # of the tokenizer
    vocabulary: dict[str, int]
    vocabulary_hash: str
    tensors: dict[str, Tensor]


def _open(folder: Path) -> _Files:
    """An OmrError if a file is damaged or missing; generation and tokenizer configuration may be."""
    config = rope.parse(folder / CONFIG)
    for path in weights.side_files(folder):
        refuse_lfs_pointer(path, rope.BRING)
    generation, settings = (
        rope.parse(path) if path.exists() else {} for path in (folder / GENERATION, folder / TOKENS)
    )
    tensors = {t.name: t for part in weights.shards(folder) for t in part.tensors}
    return _Files(folder, config, generation, settings, *tokens.vocabulary(folder), tensors)


def read(folder: Path) -> Entries:
    """The entries of a model folder. An OmrError if one of its files is damaged or missing."""
    return _entries(_open(folder))


def _entries(files: _Files) -> Entries:
    config, generation, settings = files.config, files.generation, files.settings
    classes = config.get("architectures")
    embedding, head = files.tensors.get(EMBEDDING), files.tensors.get(HEAD)
    return {
        "architecture": classes[0] if isinstance(classes, list) and len(classes) == 1 else classes,
        **rope.places(config),
        "shape": [config.get(key) for key in _SHAPE],
        "vocab_size": config.get("vocab_size"),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "dtype": architecture.dtype(config),
        "eos_token_id": tokens.ids(config.get("eos_token_id")),
        "pad_token_id": config.get("pad_token_id"),
        "generation eos_token_id": tokens.ids(generation.get("eos_token_id")),
        "generation pad_token_id": generation.get("pad_token_id"),
        "eos_token": tokens.text(settings.get("eos_token")),
        "pad_token": tokens.text(settings.get("pad_token")),
        "tokens": max(files.vocabulary.values(), default=-1) + 1,
        "vocabulary": files.vocabulary_hash,
        "chat template": tokens.template(files.folder, settings),
        "embedding": list(embedding.shape) if embedding else None,
        "head": list(head.shape) if head else None,
        "weights": "+".join(sorted({t.dtype for t in files.tensors.values()})),
    }


def _contradictions(files: _Files, facts: Entries, model: Model) -> list[Fault]:
    """Entries of one folder that contradict each other."""
    folder, faults = files.folder, []

    def need(entry: str, holds: bool, wanted: Value, source: str) -> None:
        if not holds:
            faults.append(_fault(folder, entry, facts.get(entry), wanted, source))

    loader = architecture.family(model).loader
    need("architecture", facts["architecture"] == loader, loader, "the recipe")
    shape = facts["embedding"] or [0]
    rows = shape[0] if shape else 0
    need("embedding", shape == [facts["vocab_size"], facts["shape"][0]], facts["vocab_size"], CONFIG)
    need("tokens", facts["tokens"] <= rows, f"at most {rows}", "the embedding")
    if facts["tie_word_embeddings"]:
        need("head", facts["head"] in (None, facts["embedding"]), facts["embedding"], "the embedding")
    else:
        need("head", facts["head"] == facts["embedding"], facts["embedding"], "the embedding")
    need("weights", facts["weights"] == facts["dtype"], facts["dtype"], CONFIG)
    need("chat template", " or " not in (facts["chat template"] or ""), "one template", TOKENS)
    vocabulary = files.vocabulary
    ends = facts["eos_token_id"]
    fit = isinstance(ends, list) and bool(ends) and all(tokens.is_id(end) and end < rows for end in ends)
    ends = ends if fit else []
    need("eos_token_id", fit, "a token", "the embedding")
    chat = recipe.chat(model)
    padding = facts["pad_token"] or chat.pad
    end, pad = vocabulary.get(facts["eos_token"]), vocabulary.get(padding)
    need("eos_token", end in ends, ends, CONFIG)
    for entry, wanted in (
        ("generation eos_token_id", ends),
        ("pad_token_id", pad),
        ("generation pad_token_id", pad),
    ):
        same = facts[entry] == wanted and not isinstance(facts[entry], bool)
        need(entry, facts[entry] is None or same, wanted, CONFIG if wanted is ends else TOKENS)
    if chat.message_end not in vocabulary:
        breaks = "trained answers would have no end; choose a base whose tokenizer has it"
        file = folder / tokens.FILE
        faults.append(Fault(file, chat.message_end, "absent", "a token", "training", breaks))
    need("pad_token", pad is not None and padding != chat.message_end, "a token of its own", "training")
    return faults


def _differences(folder: Path, facts: Entries, before: Station, stage: Stage) -> list[Fault]:
    """Entries that differ from the station before and may not."""
    faults = []
    for entry in ENTRIES:
        found, wanted = facts.get(entry), before.entries.get(entry)
        absent = entry in OPTIONAL and None in (found, wanted)
        if found != wanted and not absent and entry not in MAY_DIFFER.get(stage, set()):
            faults.append(_fault(folder, entry, found, wanted, before.name))
    return faults


def _against_recipe(folder: Path, facts: Entries, model: Model, stage: Stage) -> list[Fault]:
    """Context and rope base that are not the recipe's, or that a re-saved config has in one place only."""
    found = []
    if stage != "published":
        for entry, value in ((e, facts[e]) for e in ENTRIES if e in facts and facts[e] is not None):
            wanted = rope.expected(model).get(entry.rpartition(".")[2])
            if wanted is not None and value != wanted:
                found.append(_fault(folder, entry, value, wanted, "the recipe"))
    if stage in ("step", "average", "final"):  # each transformers version reads another place
        for entry in ("rope_theta", "rope_parameters.rope_theta"):
            if facts.get(entry) is None:
                found.append(
                    _fault(folder, entry, "absent", rope.expected(model)["rope_theta"], "the recipe")
                )
    return found


def _against_architecture(files: _Files, facts: Entries, model: Model) -> list[Fault]:
    """Settings and tensors that are not those of the row's published base."""
    wanted, source = architecture.of(model), architecture.source(model)
    config, settings, anywhere = (files.folder / name for name in (CONFIG, TOKENS, "the weights"))
    differences = [
        *((config, d) for d in architecture.setting_differences(files.config, wanted)),
        *((settings, d) for d in architecture.foreign(files.settings)),
        *((anywhere, d) for d in architecture.tensor_differences(files.tensors, wanted)),
        *((anywhere, d) for d in architecture.tied_otherwise(files.tensors, wanted)),
    ]
    found = [Fault(d.file or file, d.what, d.found, d.wanted, source, d.breaks) for file, d in differences]
    if "+" in facts["weights"]:
        rounds = ENTRIES["weights"][1]
        odd = [t for t in files.tensors.values() if t.dtype != facts["dtype"]]
        found += [Fault(t.file, t.name, t.dtype, facts["dtype"], CONFIG, rounds) for t in odd]
    return found


def _unfinished(files: _Files, facts: Entries, message_end: str) -> list[Fault]:
    """End tokens of a final model that are not those of the trained answers."""
    folder, found = files.folder, []
    end = files.vocabulary.get(message_end)
    ends = facts["eos_token_id"]
    if not isinstance(ends, list) or end not in ends:
        found.append(
            _fault(folder, "eos_token_id", facts["eos_token_id"], end, f"{message_end} of the training")
        )
    if facts["eos_token"] != message_end:
        found.append(_fault(folder, "eos_token", facts["eos_token"], message_end, "the training data"))
    if facts["pad_token"] is None:
        found.append(_fault(folder, "pad_token", None, "a token of its own", "the recipe"))
    if facts["generation eos_token_id"] is None:
        found.append(_fault(folder, "generation eos_token_id", None, facts["eos_token_id"], CONFIG))
    return found


def faults(
    folder: Path, model: Model, stage: Stage, before: Station | None = None
) -> tuple[Entries, list[Fault]]:
    """A folder's entries, and what is wrong with them at this stage; `before` is what it was made from."""
    files = _open(folder)
    facts = _entries(files)
    found = [
        *_against_architecture(files, facts, model),
        *_contradictions(files, facts, model),
        *_against_recipe(folder, facts, model, stage),
    ]
    published = architecture.of(model).dtype
    if stage in ("published", "patched") and facts["weights"] != published:
        found.append(_fault(folder, "weights", facts["weights"], published, architecture.source(model)))
    if before:
        found += _differences(folder, facts, before, stage)
    if stage == "final":
        found += _unfinished(files, facts, recipe.chat(model).message_end)
    return facts, found


def check(folder: Path, model: Model, stage: Stage, before: Station | None = None) -> Entries:
    """The folder's entries; an OmrError for the first fault, with the count of the others."""
    facts, found = faults(folder, model, stage, before)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        if stage == "published":
            advice = f"bring the published model: make model {recipe.words(model)} FORCE=1"
        else:
            advice = f"make passport {recipe.words(model)} shows every station"
        raise OmrError(f"{found[0]}{more}; {advice}")
    return facts
