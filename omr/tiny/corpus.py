"""The tiny corpus: sums of two-digit numbers in the exact published schema, and held-out problems.

A model of 0.2 M parameters learns it in about a minute on two cores. It has everything that is awkward in the
real corpus: pass rates that are `n/a`, both ways in which tool use ends, an execution count of two digits,
names beyond ASCII, line separators at which only some readers split, rows longer than a training sequence.
Every byte follows from the seed. Writing it needs pyarrow.
"""

import random
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from omr import recipe

TEXT_COLUMNS = (
    "expected_answer",
    "problem_type",
    "problem_source",
    "generation_model",
    "pass_rate_72b_tir",
    "problem",
    "generated_solution",
    "inference_mode",
)
SHARDS = {"cot": 3, "tir": 2, "genselect": 1, "additional_problems": 1}
ROW_GROUP = 500  # rows; several groups a shard, as in the published files

_OTHER_SOURCES = ("aops_c4_high_school_math", "aops_c7_college_math", "MATH_training_set")
# Olympiad sources and low pass rates more often than in the real corpus: round 2 keeps a quarter of the rows.
_PASS_RATES = ("n/a", "0.34375", "0.90625", "1.0", "0.0", "0.0625", "0.125", "0.1875", "0.25", "0.3")
_NAMES = ("Ann", "Bob", "Zoë", "Łukasz", "Søren", "Đặng", "小明", "José", "Ольга")
_PROBLEMS = (
    "What is {a}+{b}?",
    "Find the sum of {a} and {b}.",
    "Compute {a}+{b}.",
    "{name} has {a} apples and gets {b} more. How many apples are there?",
)
# Text that careless readers get wrong: line separators other than newline, a decomposed accent, JSON's signs.
_AWKWARD = ("\u2028", "\u0085", "\t", "e\u0301", '"quoted"', "\\frac{1}{1}", "🙂", "{braces}", "\\u00e9")


def is_held_out(a: int, b: int) -> bool:
    """Whether the pair, in either order, is kept from training: about one in twenty."""
    low, high = sorted((a, b))
    return zlib.crc32(f"{low}+{high}".encode()) % 20 == 0


def held_out(count: int = 200) -> list[dict[str, str]]:
    """`count` problems that no row of the corpus contains, each with `problem` and `expected_answer`.

    They are the same for every seed, in an order that mixes sizes and wordings.
    """
    pairs = [(a, b) for a in range(10, 100) for b in range(10, 100) if is_held_out(a, b)]
    pairs.sort(key=lambda pair: zlib.crc32(f"{pair}".encode()))
    return [
        {
            "problem": _PROBLEMS[n % len(_PROBLEMS)].format(a=a, b=b, name=_NAMES[n % len(_NAMES)]),
            "expected_answer": str(a + b),
        }
        for n, (a, b) in enumerate(pairs[:count])
    ]


def sum_of(problem: str) -> str:
    """`12+30`: the sum that one of the corpus's problems asks for, as its genselect rows write it."""
    return "+".join(re.findall(r"\d+", problem)[:2])


def _pair(rng: random.Random) -> tuple[int, int]:
    """Two numbers of two digits that are not held out."""
    while True:
        a, b = rng.randrange(10, 100), rng.randrange(10, 100)
        if not is_held_out(a, b):
            return a, b


def _worked(a: int, b: int) -> str:
    """The sum worked out by column addition: the ones, the carry, the tens."""
    (tens_a, ones_a), (tens_b, ones_b) = divmod(a, 10), divmod(b, 10)
    carry, ones = divmod(ones_a + ones_b, 10)
    first = f"{a}+{b}: {ones_a}+{ones_b}={ones_a + ones_b}, so {ones} and carry {carry}."
    return f"{first} {tens_a}+{tens_b}+{carry}={tens_a + tens_b + carry}."


def _counted(a: int, b: int, times: int) -> str:
    """The sum by counting from `a` to `a` + `b`, written `times` times: a long solution."""
    return "\n".join(f"Count: {', '.join(map(str, range(a, a + b + 1)))}." for _ in range(times))


def _cot(rng: random.Random, a: int, b: int, number: int) -> str:
    """The written-out solution of row `number`."""
    answer = f"The sum is \\boxed{{{a + b}}}."
    if number % 400 == 7:  # longer than a training sequence
        return f"{_counted(a, b, 40)}\n{_worked(a, b)} {answer}"
    if number % 200 == 3:
        return f"{_counted(a, b, 1)}\n{_worked(a, b)} {answer}"
    # Half of the solutions end with a check, which makes them long enough for round 2.
    return f"{_worked(a, b)} {answer}" + (f" Check: {a + b}-{b}={a}." if rng.random() < 0.5 else "")


def _tool_use(code: str, output: int, left: int) -> str:
    """A call of Python, its output, and how many calls are left."""
    note = f"Remaining code executions: {left}" if left else "You have run out of code executions!"
    return f"<tool_call>\n{code}\n</tool_call>\n```output\n{output}\n```\n```system\n{note}\n```\n"


def _tir(rng: random.Random, a: int, b: int, number: int) -> str:
    """The solution of row `number` that calls Python, once or twice."""
    left = 12 if number % 250 == 11 else rng.choice((0, 0, 1, 2, 3, 7))
    text = f"{_worked(a, b)}\n" + _tool_use(f"print({a}+{b})", a + b, left)
    if left == 1 or rng.random() < 0.2 < left:
        text += _tool_use(f"print({b}+{a})", a + b, left - 1)
    return f"{text}The sum is \\boxed{{{a + b}}}."


def _genselect(rng: random.Random, a: int, b: int) -> tuple[str, str, int]:
    """The user message with two solutions, the judgment on them, and the index of the right one."""
    right = rng.randrange(2)
    wrong = a + b + rng.choice((-10, -1, 1, 10))
    answers = (a + b, wrong) if right == 0 else (wrong, a + b)
    lines = [f"Which solution of {a}+{b} is right?", *(f"Solution {n}: {x}" for n, x in enumerate(answers))]
    return "\n".join(lines), f"{_worked(a, b)} The sum is {a + b}.\nJudgment: {right}", right


def split_rows(split: str, count: int, seed: int = 0) -> Iterator[dict[str, str | bool]]:
    """The first `count` rows of a split, in the published columns; a larger count adds rows at the end."""
    [olympiads] = (f.one_of for f in recipe.shipped("tiny").corpus.filters if f.name == "source")
    sources = (*_OTHER_SOURCES, *2 * olympiads)
    rng = random.Random(f"{seed} {split}")  # a string gives the same numbers in every process
    for number in range(count):
        a, b = _pair(rng)
        problem = rng.choice(_PROBLEMS).format(a=a, b=b, name=rng.choice(_NAMES))
        answer, solution = str(a + b), "n/a"
        if number % 97 == 5:
            problem = f"{problem} ({_AWKWARD[number // 97 % len(_AWKWARD)]})"
        if split == "cot":
            solution = _cot(rng, a, b, number)
        elif split == "tir":
            solution = _tir(rng, a, b, number)
        elif split == "genselect":
            problem, solution, right = _genselect(rng, a, b)
            answer = str(right)
        with_solution = split != "additional_problems"
        values = (
            answer,
            "has_answer_extracted" if rng.random() < 0.8 else "converted_proof",
            rng.choice(sources),
            "written by rule" if with_solution else "n/a",
            rng.choice(_PASS_RATES),
            problem,
            solution,
            split if with_solution else "n/a",
        )
        yield {**dict(zip(TEXT_COLUMNS, values, strict=True)), "used_in_kaggle": rng.random() < 0.7}


def write_corpus(folder: Path, seed: int = 0, rows: dict[str, int] | None = None) -> list[Path]:
    """Write the parquet shards `data/<split>-00000-of-00003.parquet` under `folder`; return their paths.

    `rows` replaces the recipe's counts (`additional_problems` defaults to 100). The caller gives
    an empty folder and makes it final.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    counts = {"additional_problems": 100, **(rows or recipe.shipped("tiny").corpus.rows)}
    schema = pa.schema([(name, pa.string()) for name in TEXT_COLUMNS] + [("used_in_kaggle", pa.bool_())])
    target = Path(folder, "data")
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for split, shards in SHARDS.items():
        table = pa.Table.from_pylist(list(split_rows(split, counts.get(split, 0), seed)), schema=schema)
        each = -(-len(table) // shards)
        for shard in range(shards):
            path = target / f"{split}-{shard:05}-of-{shards:05}.parquet"
            pq.write_table(table.slice(shard * each, each), path, row_group_size=ROW_GROUP)
            written.append(path)
    return written
