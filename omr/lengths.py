"""How many tokens a text has, exactly as a tokenizer's `encode` counts them."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


class Counter:
    """Counts by the engine of a tokenizer.json (see `export`)."""

    def __init__(self, path: Path) -> None:
        from tokenizers import Tokenizer

        self.engine = Tokenizer.from_file(str(path))
        self.engine.no_truncation()
        self.engine.no_padding()

    def count(self, texts: list[str]) -> "np.ndarray":
        """Tokens of each text."""
        import numpy as np

        return np.array([len(self.engine.encode(text).ids) for text in texts], np.int64)

    def at_least(self, texts: list[str], tokens: int) -> "np.ndarray":
        """Whether each text has `tokens` tokens or more."""
        return self.count(texts) >= tokens


def export(tokenizer: object, path: Path) -> None:
    """Write the engine of a transformers tokenizer, as it encodes, for processes without transformers."""
    path.write_text(tokenizer.backend_tokenizer.to_str(), encoding="utf-8")
