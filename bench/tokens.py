"""Counting tokens: the data stage's counter, the reference library in batches, and the published row at a time."""

import time
from collections.abc import Callable, Iterator, Sequence

from bench import corpus
from bench.measure import Case, Place

THRESHOLD = 5_000  # of the recipe's round 2
PUBLISHED_ROWS = 200  # at most: a row at a time is slow


def cases(place: Place) -> Iterator[Case]:
    """All tokens of texts, and whether a text has as many as round 2 asks for."""
    import numpy as np
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    from omr.data.lengths import Counter

    folder = corpus.tokenizer(place.scratch / "tokenizer")
    maker = corpus.Maker(0)
    texts = [maker.text(corpus.MEAN["cot"]) for _ in range(max(100, place.rows // 10))]
    some = texts[:PUBLISHED_ROWS]
    counter = Counter(folder / "tokenizer.json")
    reference, row_wise = (
        Tokenizer.from_file(str(folder / "tokenizer.json")),
        AutoTokenizer.from_pretrained(folder),
    )

    def in_batches() -> list[int]:
        return [len(encoding) for encoding in reference.encode_batch(texts, add_special_tokens=False)]

    def one_by_one() -> list[int]:
        return [len(row_wise.encode(text)) for text in some]

    same = counter.count(texts).tolist() == in_batches() and counter.count(some).tolist() == one_by_one()
    same = same and (counter.at_least(texts, THRESHOLD) == (np.array(in_batches()) >= THRESHOLD)).all()
    size = sum(len(text.encode()) for text in texts) / 1e6
    note = "the counts are equal" if same else "THE COUNTS DIFFER"
    ways = {
        "this toolkit": _speed(lambda: counter.count(texts), size),
        "tokenizers, in batches on all cores": _speed(in_batches, size),
        "transformers, a row at a time (published)": _speed(one_by_one, _size(some)),
    }
    yield Case(f"tokens of {size:.1f} MB of text", "MB/s", ways, note)
    ways = {"this toolkit": _speed(lambda: counter.at_least(texts, THRESHOLD), size)} | dict(
        list(ways.items())[1:]
    )
    yield Case(f"which of them have {THRESHOLD:,} tokens", "MB/s", ways, note)


def _size(texts: Sequence[str]) -> float:
    return sum(len(text.encode()) for text in texts) / 1e6


def _speed(work: Callable[[], object], size: float) -> Callable[[], float]:
    """A way that does `work` and gives MB/s of `size` MB."""

    def way() -> float:
        begin = time.perf_counter()
        work()
        return size / (time.perf_counter() - begin)

    return way
