"""Code as models write it, and what NeMo-Skills' server shows of it: (code, text, status), each by itself."""

OK, ERROR = "completed", "error"
HEAD = "Traceback (most recent call last):\n"
SNIPPETS = [
    ("1 + 1", "2\n", OK),
    ("x = 1", "", OK),
    ("1;", "1\n", OK),
    ("", "", OK),
    ("# nothing", "", OK),
    ("None", "", OK),
    ("print(1)\n2", "1\n2\n", OK),
    ("'a\\nb'", "'a\\nb'\n", OK),
    ("    a = 1\n    a\n    ", "1\n", OK),
    ("print('a', end='')", "a\n", OK),
    ("print('a', end='')\n5", "aOut[0]: 5\n", OK),
    ("print('   \\n\\n a   \\n\\n')", "   \n\n a\n", OK),
    ("print('\\n\\n  a')", "  a\n", OK),
    ("print('\\x1b[31mred\\x1b[0m')", "red\n", OK),
    ("print('Out[1]: 7')", "7\n", OK),
    ("import sys\nprint('err', file=sys.stderr)\nprint('out')", "out\nerr\n", OK),
    ("print('x' * 1500)", "x" * 1000 + "<output cut>", OK),
    ("print('é' * 1000)", "é" * 1000 + "<output cut>", OK),
    ("print('é' * 999)", "é" * 999 + "\n", OK),
    (
        "import sys\nprint('a' * 2000)\nprint('b' * 2000, file=sys.stderr)",
        "a" * 1000 + "<output cut>" + "b" * 1000 + "<output cut>",
        OK,
    ),
    ("list(range(5))", "[0, 1, 2, 3, 4]\n", OK),
    ("list(range(1001))", ("[" + "".join(f"{n},\n " for n in range(1000)))[:1000] + "<output cut>", OK),
    ("{1: 'a', 2: 'b'}", "{1: 'a', 2: 'b'}\n", OK),
    ("from fractions import Fraction\nFraction(3, 6)", "Fraction(1, 2)\n", OK),
    (
        "import sympy as sp\nx = sp.symbols('x')\nsp.solve(x**2 - 2, x)",
        "[-sqrt(2), sqrt(2)]\n",
        OK,
    ),
    ("import sympy as sp\nsp.Matrix([[1, 2], [3, 4]])", "Matrix([\n[1, 2],\n[3, 4]])\n", OK),
    ("import numpy as np\nnp.array([1, 2])", "array([1, 2])\n", OK),
    ("import asyncio\nawait asyncio.sleep(0)\n3", "3\n", OK),
    ("exit()", "", OK),
    ("!echo hi", "", OK),
    ("undefined?", "Object `undefined` not found.\n", OK),
    ("1 / 0", f"{HEAD}    1 / 0\nZeroDivisionError: division by zero\n", ERROR),
    (
        "def f():\n    return g()\nf()",
        f"{HEAD}    f()\n    return g()\nNameError: name 'g' is not defined\n",
        ERROR,
    ),
    ("print('before')\n[][1]", f"before\n{HEAD}    [][1]\nIndexError: list index out of range\n", ERROR),
    ("a = 2\n b = 3", "    b = 3\n    ^\nIndentationError: unexpected indent\n", ERROR),
    ("assert 1 == 2, 'no'", f"{HEAD}    assert 1 == 2, 'no'\nAssertionError: no\n", ERROR),
    ("raise KeyError('k')", f"{HEAD}    raise KeyError('k')\nKeyError: 'k'\n", ERROR),
    ("input()", f"{HEAD}    input()\nEOFError: EOF when reading a line\n", ERROR),
    ("raise KeyboardInterrupt", f"{HEAD}    raise KeyboardInterrupt\nKeyboardInterrupt\n", ERROR),
    (
        "try:\n  1/0\nexcept Exception as e:\n  raise ValueError('x') from e",
        f"{HEAD}    1/0\nZeroDivisionError: division by zero\n\n"
        "The above exception was the direct cause of the following exception:\n"
        f"{HEAD}    raise ValueError('x') from e\nValueError: x\n",
        ERROR,
    ),
    (
        "print(10**5000)",
        f"{HEAD}    print(10**5000)\n"
        "ValueError: Exceeds the limit (4300 digits) for integer string conversion;"
        " use sys.set_int_max_str_digits() to increase the limit\n",
        ERROR,
    ),
    (
        "def f(n):\n    return f(n + 1)\nf(0)",
        (f"{HEAD}    f(0)\n" + "    return f(n + 1)\n" * 99)[:1000] + "<output cut>",
        ERROR,
    ),
    ("import os\nos._exit(3)", "connection closed\n", ERROR),
]
# What the server fails to pass on, because it pickles exceptions; here the model sees what it did.
OURS_ALONE = [
    (
        "class Mine(Exception):\n    pass\nraise Mine('why')",
        f"{HEAD}    raise Mine('why')\nMine: why\n",
        ERROR,
    ),
]
