"""Which rows a round keeps, by the comparisons of columns that the recipe makes."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from omr.data.rows import Bad, Tally
from omr.recipe import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


def candidates(
    filters: Iterable[Filter], batch: "pa.RecordBatch", tally: Tally
) -> "tuple[np.ndarray, list[Bad]]":
    """Which rows meet the comparisons of columns, as a mask; the others are tallied by the first they miss.

    A number is read as float() does, and only where the filters before it kept the row: `nan` stays.
    """
    import numpy as np

    mask, bad = np.ones(len(batch), bool), []
    for each in filters:
        if each.compares_numbers:
            mask, odd = _compared(each, batch[each.column], mask, tally)
            bad += odd
        else:
            kept = mask & _one_of(each, batch[each.column])
            tally.dropped[each.name] += int(mask.sum() - kept.sum())
            mask = kept
    return mask, sorted(bad, key=lambda b: b.row)


def _one_of(each: Filter, column: "pa.Array") -> "np.ndarray":
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(column, pa.array(each.one_of, column.type)).to_numpy(zero_copy_only=False)


def _compared(
    each: Filter, column: "pa.Array", mask: "np.ndarray", tally: Tally
) -> "tuple[np.ndarray, list[Bad]]":
    """The rows of the mask whose number is within the filter's limits; each text is read once."""
    import numpy as np
    import pyarrow as pa

    encoded = column.dictionary_encode()
    verdicts = [_verdict(each, text) for text in (*encoded.dictionary.cast(pa.binary()).to_pylist(), None)]
    codes = encoded.indices.fill_null(len(verdicts) - 1).to_numpy(zero_copy_only=False)
    bad = []
    for code, verdict in enumerate(verdicts):
        if verdict is None:
            continue
        hit = mask & (codes == code)
        if verdict.startswith(f"{each.name} is"):
            bad += [Bad(int(row), verdict) for row in np.flatnonzero(hit)]
        else:
            tally.dropped[verdict] += int(hit.sum())
        mask = mask & ~hit
    return mask, bad


def _verdict(each: Filter, stored: bytes | None) -> str | None:
    """Why a filter drops a row of this text, or None when it stays."""
    if stored is None:
        return f"{each.name} is null, no number"
    try:
        if (text := stored.decode()) == each.absent:
            return f"{each.name} {each.absent}"
        number = float(text)
    except UnicodeDecodeError:
        return f"{each.name} is not UTF-8"
    except ValueError:
        return f"{each.name} is {text[:40]!r}, no number"
    over = each.at_most is not None and number > each.at_most
    return each.name if over or (each.at_least is not None and number < each.at_least) else None
