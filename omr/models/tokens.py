"""What a model folder's tokenizer files say: its vocabulary, its special tokens, its chat template."""

import hashlib
import json
from pathlib import Path
from typing import Any

from omr.errors import OmrError
from omr.files import write_json
from omr.models import rope
from omr.models.rope import Config

FILE, SETTINGS, TEMPLATE = "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"
BRING = "bring the published file again"


def ids(value: Any) -> Any:
    """End tokens as a sorted list; a configuration holds one or several. What is neither stays as it is."""
    several = value if isinstance(value, list) else [value]
    return sorted(several) if all(map(is_id, several)) else value


def is_id(value: Any) -> bool:
    """Whether a value of a configuration can be a token's id."""
    return type(value) is int and value >= 0


def text(token: Any) -> str | None:
    """A special token's text; configurations hold it bare or in an object with its flags.

    What is no text comes back as words that are no token.
    """
    found = token.get("content") if isinstance(token, dict) else token
    return found if isinstance(found, str | None) else f"no text ({found})"


def token_ids(folder: Path) -> dict[str, int]:
    """Token -> id of a model folder's tokenizer."""
    return vocabulary(folder)[0]


def vocabulary(folder: Path) -> tuple[dict[str, int], str]:
    """Token -> id, and a short hash of tokens and merges however the file spells them.

    An OmrError if the file holds anything else.
    """
    path = folder / FILE
    tokenizer = rope.parse(path)
    try:
        model, added = tokenizer["model"], tokenizer.get("added_tokens") or []
        known = {**model["vocab"], **{token["content"]: token["id"] for token in added}}
        merges = [m if isinstance(m, str) else " ".join(m) for m in model.get("merges") or []]
        if not all(isinstance(token, str) and is_id(number) for token, number in known.items()):
            raise TypeError
    except (AttributeError, KeyError, TypeError):
        raise OmrError(f"{path}: has no table of tokens and their ids; {BRING}") from None
    text = json.dumps([sorted(known.items(), key=lambda item: item[1]), merges])
    return known, _short(text)


def write_old_name(folder: Path) -> bool:
    """Write a list of further special tokens under its old name; returns whether that changed the file.

    transformers 5 saves it as `extra_special_tokens`, which 4.x takes for an object and fails on. 5.x reads
    both names.
    """
    path = folder / SETTINGS
    settings = rope.parse(path) if path.exists() else {}
    further = settings.get("extra_special_tokens")
    if not isinstance(further, list):
        return False
    kept = {key: value for key, value in settings.items() if key != "extra_special_tokens"}
    write_json(path, {**kept, "additional_special_tokens": further})
    return True


def template(folder: Path, settings: Config) -> str | None:
    """Short hash of the chat template; of both, where the two homes of it differ.

    `settings` is the content of tokenizer_config.json. An OmrError if a template is no text.
    """
    inside, file = settings.get("chat_template"), folder / TEMPLATE
    if isinstance(inside, list):
        named = [t for t in inside if isinstance(t, dict) and t.get("name") == "default"]
        inside = named[0].get("template") if named else None
    if not isinstance(inside, str | None):
        raise OmrError(f"{folder / SETTINGS}: chat_template is no text; {BRING}")
    try:
        found = [file.read_bytes().decode("utf-8")] if file.exists() else []
    except UnicodeDecodeError:
        raise OmrError(f"{file}: is no text in UTF-8; {BRING}") from None
    found += [inside] if inside else []
    return " or ".join(dict.fromkeys(_short(text.rstrip("\n")) for text in found)) or None


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
