"""How many tokens a text has, exactly as a tokenizer's `encode` counts them, and soon.

Two things make it fast where the tokenizer is of Qwen2's make (its pattern, NFC or nothing before it,
byte-level BPE); any other is counted whole by the reference library, `tokenizers`.

- fastokens counts many times faster than the reference. The two carry tables of different Unicode
  versions, so a text with a character outside COMMON goes to the reference; on COMMON the tables agree
  (tests/data/test_lengths.py tries every character of it), and assigned characters keep their properties.
- A space between a visible ASCII character and an ASCII letter always begins a piece of Qwen2's pattern,
  no piece reaches over it, and NFC composes nothing with it. So counts of the parts between such spaces
  add up, a text of thousands of tokens need not be read to its end to know that it has 5,000, and one
  strange character costs the reference's time for its own part alone.
- Every piece has a token at least. Where the pieces that must be there are enough, nothing is encoded.
"""

import functools
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from omr.files import Json

if TYPE_CHECKING:
    import numpy as np
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Blocks whose characters have long been assigned: Latin, Greek, Cyrillic, Hebrew, Arabic, punctuation,
# symbols, Chinese, Japanese, Korean, mathematical letters, emoji.
COMMON = (
    (0x0000, 0x06FF),
    (0x1E00, 0xA48F),
    (0xAC00, 0xD7A3),
    (0xF900, 0xFFFF),
    (0x1D400, 0x1D7FF),
    (0x1F000, 0x1FAFF),
)
_RARE = re.compile("[^" + "".join(f"{chr(a)}-{chr(b)}" for a, b in COMMON) + "]")
_ASCII = bytes(range(128))
_CUT = re.compile(r"(?<=[!-~]) (?=[A-Za-z])")
PART = 4_000  # characters counted at a time while a threshold is near
CHARACTERS = 3  # a token's, at least on average, in a first guess; a wrong guess costs time alone
TOGETHER = 32  # texts for one call: it goes to another thread and back, most of the time of a single PART
LETTER, DIGIT, MARK, SPACE, OTHER = range(5)  # what `fewest` tells apart; OTHER may be anything
_KINDS = bytes(
    LETTER
    if byte.isalpha()
    else DIGIT
    if byte.isdigit()
    else SPACE
    if byte.isspace()
    else MARK
    if b"!" <= byte <= b"~"
    else OTHER
    for byte in (bytes([number]) for number in range(256))
)


class Counter:
    """Counts by the engine of a tokenizer.json (see `export`)."""

    def __init__(self, path: Path) -> None:
        engine = json.loads(path.read_text(encoding="utf-8"))
        self.engine = json.dumps(engine | {"truncation": None, "padding": None})
        self.fast, self.added = None, 0
        if divisible(engine):
            from fastokens import Tokenizer as Fast

            self.fast = Fast.from_json_str(self.engine)
        self.named = _named(engine)
        if (engine.get("post_processor") or {}).get("type") not in (None, "ByteLevel"):
            self.added = self.slow.num_special_tokens_to_add(False)

    @functools.cached_property
    def slow(self) -> "Tokenizer":
        """The reference library's; most corpora have no text that needs it, and it is large."""
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.engine)

    def count(self, texts: Iterable[str]) -> "np.ndarray":
        """Tokens of each text."""
        import numpy as np

        texts = list(texts)
        counts = np.full(len(texts), self.added, np.int64)
        each = [
            [text] if self.fast and not _rare(text) else [*self._parts(text, PART, PART)] for text in texts
        ]
        owners = [row for row, parts in enumerate(each) for _ in parts]
        np.add.at(counts, owners, self._tokens([part for parts in each for part in parts]))
        return counts

    def at_least(self, texts: Iterable[str], tokens: int) -> "np.ndarray":
        """Whether each text has `tokens` tokens or more."""
        import numpy as np

        texts = list(texts)
        counts = np.full(len(texts), self.added, np.int64)
        left = {}  # texts of which it is not known yet, and what of them is not counted
        for row, text in enumerate(texts):
            if text.isascii() and len(text) + self.added < tokens:
                continue  # no token is shorter than a byte
            if self._surely(text, tokens):
                counts[row] = tokens
            else:
                left[row] = self._parts(text, tokens * CHARACTERS, PART)
        while left:
            parts = {row: part for row, rest in left.items() if (part := next(rest, None)) is not None}
            counts[list(parts)] += self._tokens(list(parts.values()))
            left = {row: left[row] for row in parts if counts[row] < tokens}
        return counts >= tokens

    def _surely(self, text: str, tokens: int) -> bool:
        """Whether its pieces alone are enough; False says nothing."""
        if not self.fast or not self.named or len(text) < tokens * CHARACTERS * 2 // 3:
            return False
        first = next(self._parts(text, tokens * CHARACTERS * 5 // 4, PART))
        return fewest(self.named.sub("\0", first)) + self.added >= tokens

    def _tokens(self, parts: list[str]) -> "np.ndarray":
        """Tokens of each part, without what is added to a text."""
        import numpy as np

        counts = np.zeros(len(parts), np.int64)
        quick = np.fromiter((bool(self.fast) and not _rare(part) for part in parts), bool, len(parts))
        for row in np.flatnonzero(~quick):
            counts[row] = len(self.slow.encode(parts[row], add_special_tokens=False).ids)
        rows = np.flatnonzero(quick)
        for at in range(0, len(rows), TOGETHER):
            some = rows[at : at + TOGETHER]
            counts[some] = [len(e) for e in self.fast.encode_batch([parts[row] for row in some], False)]
        return counts

    def _parts(self, text: str, first: int, then: int) -> Iterator[str]:
        """The text in parts whose counts add up: about `first` characters, then `then` each."""
        start, size = 0, first
        while self.fast and (cut := _CUT.search(text, start + size)):
            yield text[start : cut.start()]
            start, size = cut.start(), then
        yield text[start:]


def fewest(text: str) -> int:
    """A number of pieces of Qwen2's pattern that are surely in a text without added tokens.

    Each of these is in a piece of its own, whatever surrounds it and whatever NFC composes: the first of
    some ASCII letters after another ASCII character; a digit; the end of ASCII punctuation before a space
    or a digit; two of punctuation before a letter. Nothing is said of what is beside any other character.
    """
    import numpy as np

    kinds = np.frombuffer(text.encode("utf-8", "surrogatepass").translate(_KINDS), np.uint8)
    letter, mark, digit = kinds == LETTER, kinds == MARK, kinds == DIGIT
    apart = digit | (kinds == SPACE)
    words = letter[1:] & (apart | mark)[:-1]
    ends = mark[:-1] & apart[1:]
    before = mark[:-2] & mark[1:-1] & letter[2:]
    return sum(int(np.count_nonzero(found)) for found in (words, digit, ends, before))


def _named(engine: Json) -> re.Pattern | None:
    """What finds the added tokens in a text exactly as the engine cuts them out, None where it may differ."""
    tokens = engine.get("added_tokens", ())
    names = [token["content"] for token in tokens]
    # Such names cannot overlap; one that is sought after NFC might stand where its letters did not.
    if any(token["normalized"] for token in tokens) or not all(re.fullmatch("<[^<>]+>", n) for n in names):
        return None
    return re.compile(f"<(?:{'|'.join(re.escape(name[1:]) for name in names)})" if names else "(?!)")


def _rare(text: str) -> bool:
    """Whether there is a character outside COMMON, which has all of ASCII."""
    if text.isascii():
        return False
    # Without its ASCII the text is short: searching it whole would take half as long as counting it.
    beyond = text.encode("utf-8", "surrogatepass").translate(None, _ASCII)
    return _RARE.search(beyond.decode("utf-8", "surrogatepass")) is not None


def divisible(engine: Json) -> bool:
    """Whether a tokenizer.json is of Qwen2's make, so that its counts add up over _CUT."""
    kind = (engine.get("normalizer") or {}).get("type")
    steps = (engine.get("pre_tokenizer") or {}).get("pretokenizers") or []
    split = [(s["type"], s.get("pattern"), s.get("behavior"), s.get("invert")) for s in steps[:1]]
    bytes_ = [(s["type"], s.get("add_prefix_space"), s.get("use_regex")) for s in steps[1:]]
    plain = all(
        not (token["lstrip"] or token["rstrip"] or token["single_word"] or " " in token["content"])
        for token in engine.get("added_tokens", ())
    )
    return (
        kind in (None, "NFC")
        and split == [("Split", {"Regex": QWEN2}, "Isolated", False)]
        and bytes_ == [("ByteLevel", False, False)]
        and engine["model"].get("type", "BPE") == "BPE"
        and not engine["model"].get("dropout")
        and plain
    )


def export(tokenizer: "PreTrainedTokenizerBase", path: Path) -> None:
    """Write the engine of a transformers tokenizer, as it encodes, for processes without transformers."""
    path.write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
