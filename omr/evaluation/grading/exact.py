"""Whether two values of sympy are the same: exactly, or, with decimals in them, to 15 digits.

Strings, sets and equations are compared part by part. Nothing is rounded to fewer digits, and a small number
is no zero: 1/2^99 is not 1/2^98.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sympy import Basic, Expr, MatrixBase, Set
    from sympy.core.relational import Relational

DIGITS = 15  # of a decimal; double precision has as many
WORKING_DIGITS = 40  # of the numbers that are compared


def same(one: "Basic | MatrixBase", other: "Basic | MatrixBase") -> bool:
    """Whether two values are the same. `x = 5` is 5, and an inequality is the set that solves it."""
    import sympy as sp
    from sympy.core.relational import Relational

    one, other = _beside(one, other), _beside(other, one)
    if one == other and type(one) is type(other):
        return True
    if isinstance(one, sp.MatrixBase) and isinstance(other, sp.MatrixBase):
        return one.shape == other.shape and _in_order(one.flat(), other.flat())
    if isinstance(one, Relational) and isinstance(other, Relational):
        return _same_relation(one, other)
    if isinstance(one, sp.And | sp.Or) and isinstance(other, sp.And | sp.Or):
        return isinstance(one, sp.And) is isinstance(other, sp.And) and _in_any_order(one.args, other.args)
    if isinstance(one, sp.Set | sp.Tuple) or isinstance(other, sp.Set | sp.Tuple):
        return _same_collection(_collection(one), _collection(other))
    return isinstance(one, sp.Expr) and isinstance(other, sp.Expr) and _same_expression(one, other)


def _beside(one: "Basic | MatrixBase", other: "Basic | MatrixBase") -> "Basic | MatrixBase":
    """`one` as it compares with `other`: an assignment as its right side, an inequality as its solutions."""
    import sympy as sp
    from sympy.core.relational import Relational

    if isinstance(other, Relational | sp.And | sp.Or):
        return one
    if isinstance(one, sp.Eq) and (one.lhs.is_Symbol or one.lhs.is_Function):
        return one.rhs
    if isinstance(one, Relational | sp.And | sp.Or) and isinstance(other, sp.Set):
        return one.as_set() if len(one.free_symbols) == 1 else one
    return one


def _in_order(ones: "tuple | list", others: "tuple | list") -> bool:
    return len(ones) == len(others) and all(map(same, ones, others))


def _in_any_order(ones: "tuple | list", others: "tuple | list") -> bool:
    """Whether each of `ones` is one of `others`, none of them twice."""
    left = list(others)
    for one in ones:
        match = next((n for n, other in enumerate(left) if same(one, other)), None)
        if match is None:
            return False
        del left[match]
    return not left


def _collection(value: "Basic") -> "Basic":
    """A value by itself is the set of it."""
    import sympy as sp

    return value if isinstance(value, sp.Set | sp.Tuple) else sp.FiniteSet(value)


def _same_collection(one: "Basic", other: "Basic") -> bool:
    """Sets and tuples. `(1, 2)` may be read as an open interval, as a tuple or as a set of two."""
    import sympy as sp

    if isinstance(one, sp.Interval) and isinstance(other, sp.Interval):
        same_ends = (one.left_open, one.right_open) == (other.left_open, other.right_open)
        return same_ends and same(one.start, other.start) and same(one.end, other.end)
    one, other = (
        sp.Tuple(value.start, value.end)
        if isinstance(value, sp.Interval) and value.is_open and isinstance(beside, sp.Tuple | sp.FiniteSet)
        else value
        for value, beside in ((one, other), (other, one))
    )
    finite = [value for value in (one, other) if isinstance(value, sp.FiniteSet)]
    listed = [value for value in (one, other) if isinstance(value, sp.Tuple)]
    if len(finite) + len(listed) == 2:
        return (_in_any_order if finite else _in_order)(one.args, other.args)
    return not finite and not listed and _same_set(one, other)


def _same_set(one: "Set", other: "Set") -> bool:
    import sympy as sp

    if isinstance(one, sp.Union) and isinstance(other, sp.Union) and _in_any_order(one.args, other.args):
        return True
    return one.symmetric_difference(other).is_empty is True


def _same_relation(one: "Relational", other: "Relational") -> bool:
    """Whether both hold for the same values: their differences are multiples, positive ones with < and >."""
    import sympy as sp

    def facing_up(relation: "Relational") -> "tuple[type, Basic, Basic]":
        kinds = {sp.StrictLessThan: sp.StrictGreaterThan, sp.LessThan: sp.GreaterThan}
        kind = type(relation)
        if kind in kinds:
            return kinds[kind], relation.rhs, relation.lhs
        return kind, relation.lhs, relation.rhs

    (kind, *sides), (other_kind, *other_sides) = facing_up(one), facing_up(other)
    if kind is not other_kind:
        return False
    if _in_order(sides, other_sides):
        return True
    if not all(isinstance(side, sp.Expr) for side in (*sides, *other_sides)):
        return False
    ratio = sp.simplify((sides[0] - sides[1]) / (other_sides[0] - other_sides[1]))
    symmetric = kind in (sp.Eq, sp.Ne)
    return bool(ratio.is_number and (ratio.is_nonzero if symmetric else ratio.is_positive))


def _same_expression(one: "Expr", other: "Expr") -> bool:
    import sympy as sp

    if one.free_symbols or other.free_symbols:
        difference = sp.nsimplify(one, rational=True) - sp.nsimplify(other, rational=True)
        difference = sp.simplify(difference.doit())
        return difference == 0 or difference.equals(0) is True
    a, b = _number(one), _number(other)
    if a is None or b is None or not _to_15_digits(a, b):
        return False
    if one.has(sp.Float) or other.has(sp.Float):
        return True
    difference = sp.simplify((one - other).doit())
    return difference == 0 or difference.equals(0) is not False  # None: nobody can tell them apart


def _number(value: "Expr") -> "Expr | None":
    """A constant's value as a finite number, `a + b*I` if it is complex; None where it has none."""
    for form in (lambda: value, value.doit):  # doit can be far more work: 9^(9^9) written out
        number = form().evalf(WORKING_DIGITS)
        if number.is_finite and all(part.is_Float or part.is_Rational for part in number.as_real_imag()):
            return number
    return None


def _to_15_digits(one: "Expr", other: "Expr") -> bool:
    """Whether two numbers are apart by one in the 15th digit at the most."""
    import sympy as sp

    apart = abs(one - other).evalf(WORKING_DIGITS)
    largest = max(abs(number).evalf(WORKING_DIGITS) for number in (one, other))
    if apart == 0 or largest == 0:
        return apart == 0
    first_digit = sp.floor(sp.log(largest, 10).evalf(WORKING_DIGITS))
    return bool(apart <= sp.Float(10, WORKING_DIGITS) ** (first_digit - (DIGITS - 1)))
