"""The mean of arrays of numbers, in fp32, rounded once; bf16, which numpy does not have, included."""

import struct
from typing import TYPE_CHECKING

from omr.models.weights import SIZES

if TYPE_CHECKING:
    import numpy

BLOCK = 1 << 15  # numbers that are taken at a time, so that the scratch stays in the processor's cache


class Mean:
    """The mean of `count` arrays, block by block in scratch that stays in the processor's cache."""

    def __init__(self, count: int) -> None:
        import numpy as np

        self.np, self.count = np, count
        # Two bf16 numbers lie in 32 bits; each is the upper half of an fp32 number.
        self.sums = [np.empty(BLOCK, np.float32) for _ in range(2)]
        self.scratch = np.empty(BLOCK, np.uint32)

    def __call__(self, dtype: str, inputs: list["numpy.ndarray"], out: "numpy.ndarray") -> int | None:
        """Write the mean of byte arrays into one; returns the first byte whose mean is not finite, if any.

        The arrays are as long as each other, a multiple of four bytes.
        """
        np = self.np
        kind = {"BF16": np.uint32, "F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype]
        values, result = [a.view(kind) for a in inputs], out.view(kind)
        one = self._bf16 if dtype == "BF16" else self._float
        for at in range(0, len(result), BLOCK):
            here = slice(at, min(at + BLOCK, len(result)))
            part = [value[here] for value in values]
            if not one(part, result[here]):
                bad = self._first_bad(dtype, [v.view(np.uint8) for v in part])
                if bad is not None:
                    return at * result.itemsize + bad
        return None

    def _bf16(self, values: list["numpy.ndarray"], out: "numpy.ndarray") -> bool:
        np = self.np
        scratch, (low, high) = self.scratch[: len(out)], (total[: len(out)] for total in self.sums)
        number, keep, half, one = scratch.view(np.float32), *map(np.uint32, (0xFFFF0000, 16, 1))
        np.left_shift(values[0], half, out=low.view(np.uint32))
        np.bitwise_and(values[0], keep, out=high.view(np.uint32))
        for value in values[1:]:
            np.left_shift(value, half, out=scratch)
            np.add(low, number, out=low)
            np.bitwise_and(value, keep, out=scratch)
            np.add(high, number, out=high)
        finite = True
        for total in (low, high):
            self._divide(total)
            # One number that is not finite makes the sum so; a sum that overflows is looked at again.
            finite &= bool(np.isfinite(np.add.reduce(total)))
            bits = total.view(np.uint32)
            # To nearest, ties to even: add half of the last kept bit, a little less if that bit is 0.
            np.right_shift(bits, half, out=scratch)
            np.bitwise_and(scratch, one, out=scratch)
            np.add(scratch, np.uint32(0x7FFF), out=scratch)
            np.add(bits, scratch, out=bits)
        np.right_shift(low.view(np.uint32), half, out=out)
        np.bitwise_and(high.view(np.uint32), keep, out=scratch)
        np.bitwise_or(out, scratch, out=out)
        return finite

    def _float(self, values: list["numpy.ndarray"], out: "numpy.ndarray") -> bool:
        np = self.np
        total = values[0].astype(np.promote_types(values[0].dtype, np.float32))
        for value in values[1:]:
            np.add(total, value, out=total)
        self._divide(total)
        out[:] = total
        return bool(np.isfinite(out).all())

    def _divide(self, total: "numpy.ndarray") -> None:
        kind = total.dtype.type
        if self.count & (self.count - 1):
            self.np.divide(total, kind(self.count), out=total)
        else:
            self.np.multiply(
                total, kind(1 / self.count), out=total
            )  # as exact for a power of two, and faster

    def _first_bad(self, dtype: str, values: list["numpy.ndarray"]) -> int | None:
        """The first byte of a number that is not finite in an input or in the sum."""
        np = self.np
        if dtype == "BF16":
            wide = [(v.view(np.uint16).astype(np.uint32) << 16).view(np.float32) for v in values]
        else:
            wide = [v.view({"F16": np.float16, "F32": np.float32, "F64": np.float64}[dtype]) for v in values]
        total = np.sum([w.astype(np.promote_types(w.dtype, np.float32)) for w in wide], axis=0)
        bad = np.flatnonzero(~np.isfinite(total))
        return int(bad[0]) * SIZES[dtype] if len(bad) else None


def number(dtype: str, data: bytes) -> float:
    """One little-endian number of a float type."""
    if dtype == "BF16":
        return struct.unpack("<f", b"\0\0" + data)[0]
    return struct.unpack({"F16": "<e", "F32": "<f", "F64": "<d"}[dtype], data)[0]
