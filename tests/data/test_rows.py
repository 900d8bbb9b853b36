"""Columns in, lines and reasons out: each rule of the recipe against its plainest reading."""

import json

import pyarrow as pa
import pytest

from omr import recipe
from omr.data import json_lines, prompts, rows
from omr.data.by_recipe import filters, formulas
from omr.recipe import formulas as known
from tests.data.awkward import ENDINGS, NO_RATES, RATES, TEXTS
from tests.data.kit import COLUMNS

CORPUS = recipe.CORPORA["openmathreasoning"]
FILTERS = CORPUS.filters_of("cot")
REQUIRED, COUNT = CORPUS.required("cot"), "total_code_executions"
OLYMPIADS = FILTERS[0].one_of


def batch(**columns):
    """A batch of the published columns; those not given are all alike."""
    size = len(next(iter(columns.values())))
    given = {name: columns.get(name, [name] * size) for name in COLUMNS.texts}
    arrays = [v if isinstance(v, pa.Array) else pa.array(v, pa.string()) for v in given.values()]
    flags = pa.array(columns.get("used_in_kaggle", [True] * size), pa.bool_())
    return pa.RecordBatch.from_arrays([*arrays, flags], names=list(COLUMNS.names))


def rename(schema, old, new):
    index = schema.get_field_index(old)
    return schema.set(index, schema.field(index).with_name(new))


SCHEMA = pa.schema([(name, pa.string()) for name in COLUMNS.texts] + [("used_in_kaggle", pa.bool_())])


@pytest.mark.parametrize(
    "schema, fault",
    [
        (SCHEMA, None),
        (SCHEMA.set(0, pa.field("expected_answer", pa.large_string())), None),
        (SCHEMA.set(1, pa.field("problem_type", pa.dictionary(pa.int32(), pa.string()))), None),
        (pa.schema(list(reversed(list(SCHEMA)))), None),
        (SCHEMA.set(0, pa.field("expected_answer", pa.string_view())), None),
        (SCHEMA.set(0, pa.field("expected_answer", pa.dictionary(pa.int8(), pa.large_string()))), None),
        (SCHEMA.set(0, pa.field("expected_answer", pa.json_(pa.string()))), None),
        (SCHEMA.set(0, pa.field("expected_answer", pa.null())), None),
        (SCHEMA.set(8, pa.field("used_in_kaggle", pa.null())), None),
        (SCHEMA.append(pa.field("__index_level_0__", pa.int64())), None),
        (
            SCHEMA.append(pa.field("__index_level_0__x", pa.int64())),
            "column __index_level_0__x is not in the",
        ),
        (SCHEMA.append(pa.field("problem", pa.string())), "column problem is there 2 times"),
        (SCHEMA.set(5, pa.field("problem", pa.null())), "column problem is null in every row"),
        (SCHEMA.set(5, pa.field("problem", pa.list_(pa.string()))), "column problem is list<"),
        (pa.schema([]), "has no columns"),
        (SCHEMA.remove(5), "column problem is missing"),
        (rename(SCHEMA, "generated_solution", "solution"), "column generated_solution is missing"),
        (SCHEMA.set(5, pa.field("problem", pa.int64())), "column problem is int64, not text"),
        (SCHEMA.set(5, pa.field("problem", pa.binary())), "column problem is binary, not text"),
        (SCHEMA.set(8, pa.field("used_in_kaggle", pa.string())), "column used_in_kaggle is string, not true"),
        (SCHEMA.append(pa.field("extra", pa.string())), "column extra is not in the published schema"),
    ],
)
def test_schema(schema, fault):
    said = rows.schema_fault(schema, COLUMNS)
    assert said is None if fault is None else said.startswith(fault)


def test_the_filter_reads_pass_rates_as_float_does():
    sources = [*OLYMPIADS, "MATH_training_set", None]
    table = [(source, rate) for source in sources for rate in (*RATES, *NO_RATES)]
    tally = rows.Tally()
    mask, bad = filters.candidates(
        FILTERS, batch(problem_source=[s for s, _ in table], pass_rate_72b_tir=[r for _, r in table]), tally
    )
    expected = [source in OLYMPIADS and RATES.get(rate, False) for source, rate in table]
    assert mask.tolist() == expected
    # Only an olympiad's rate is read, so only there can it be wrong.
    wrong = [n for n, (source, rate) in enumerate(table) if source in OLYMPIADS and rate in NO_RATES]
    assert [entry.row for entry in bad] == wrong
    assert {entry.reason for entry in bad} == {
        "pass rate is null, no number",
        *(f"pass rate is {rate!r}, no number" for rate in NO_RATES if rate is not None),
    }
    others = len(RATES) + len(NO_RATES)
    over = sum(not stays for rate, stays in RATES.items() if rate != "n/a")
    assert tally.dropped == {"source": 2 * others, "pass rate n/a": 2, "pass rate": 2 * over}


def test_a_pass_rate_that_is_no_text_is_malformed():
    rates = pa.array([b"0.1", b"\xff", "\u0660.\u0662".encode()], pa.binary()).view(pa.string())
    sources = [OLYMPIADS[0]] * 3
    mask, bad = filters.candidates(
        FILTERS, batch(problem_source=sources, pass_rate_72b_tir=rates), rows.Tally()
    )
    assert mask.tolist() == [True, False, True]  # float() reads the digits of any script
    assert bad == [rows.Bad(1, "pass rate is not UTF-8")]


def test_executions_as_the_recipe_reads_them():
    solutions = [f"text {ending}" for ending in ENDINGS]
    counts, bad, two_digits = formulas.executions(pa.array(solutions))
    expected = list(ENDINGS.values())
    assert [entry.row for entry in bad] == [n for n, count in enumerate(expected) if count is None]
    assert {entry.reason for entry in bad} == {"the solution has neither ending of tool use"}
    good = [n for n, count in enumerate(expected) if count is not None]
    assert counts[good].tolist() == [expected[n] for n in good]
    assert two_digits == 5  # 10 to 14


def test_executions_against_the_published_lines():
    """The seed's own expression, as far as Python can evaluate it."""
    for ending, expected in ENDINGS.items():
        try:
            if "Remaining code executions: " not in ending:
                assert "You have run out of code executions!" in ending
                count = 1
            else:
                count = int(ending.split("Remaining code executions: ")[1].split()[0][0]) + 1
        except (AssertionError, IndexError, ValueError):
            count = None
        assert count == expected, ending


def test_executions_of_a_slice():
    """A batch that is a view into a longer one has offsets of its own."""
    column = pa.array(["Remaining code executions: 9", "Remaining code executions: 3 x", "no", None]).slice(
        1, 1
    )
    counts, bad, _ = formulas.executions(column)
    assert counts.tolist() == [4] and not bad


def test_unreadable_rows():
    broken = pa.array([b"good", b"\xff\xfe", b"caf\xc3\xa9", b"cut \xe2\x82", None], pa.binary()).view(
        pa.string()
    )
    found = rows.unreadable(
        batch(problem=broken, expected_answer=["1", "2", "3", "4", "5"]), COLUMNS, REQUIRED
    )
    assert [(entry.row, entry.reason) for entry in found] == [
        (1, "problem is not UTF-8"),
        (3, "problem is not UTF-8"),
        (4, "problem is null"),
    ]
    found = rows.unreadable(
        batch(generated_solution=["a", None], problem_type=[None, "b"]), COLUMNS, REQUIRED
    )
    assert [(entry.row, entry.reason) for entry in found] == [(1, "generated_solution is null")]
    surrogate = pa.array([b"\xed\xa0\x80"], pa.binary()).view(pa.string())
    assert [
        entry.reason for entry in rows.unreadable(batch(inference_mode=surrogate), COLUMNS, REQUIRED)
    ] == ["inference_mode is not UTF-8"]


COMPILED = prompts.Compiled(
    ('<|user|>\n"say" \\boxed{} 100% %b up to ', " calls\n\n", "<|end|>\n"),
    (COUNT, prompts.PROBLEM),
    "%s>",
    '<|im_end|>\n"\\',
)
SOURCES = {"problem": "problem"}


def with_counts(table, counts):
    """The batch with the column that the formula makes."""
    return table.append_column("execution_count()", pa.array(map(str, counts)))


SIMPLE = prompts.Compiled(("<", ">"), (prompts.PROBLEM,), "", "!")


def expected_rows(table, compiled, counts):
    """The same in plain Python."""
    for number, row in enumerate(table.to_pylist()):
        values = {prompts.PROBLEM: row["problem"], COUNT: None if counts is None else counts[number]}
        yield {
            **{name: row[name] for name in COLUMNS.names[:5]},
            "input": compiled.input(values),
            "output": compiled.output(row["generated_solution"]),
            "inference_mode": row["inference_mode"],
            "used_in_kaggle": row["used_in_kaggle"],
        }


@pytest.mark.parametrize("compiled, counts", [(COMPILED, list(range(1, 13))), (SIMPLE, None)])
def test_lines_are_what_json_writes(compiled, counts):
    texts = list(TEXTS)
    table = batch(
        expected_answer=texts,
        problem_type=texts[::-1],
        generation_model=[None, *texts[1:]],
        pass_rate_72b_tir=[*texts[:-1], None],
        problem=texts[3:] + texts[:3],
        generated_solution=texts[5:] + texts[:5],
        used_in_kaggle=[True, False, None] * 4,
    )
    sources = {field: {COUNT: "execution_count()"}.get(field, field) for field in compiled.fields}
    template = json_lines.Template(compiled, COLUMNS, sources)
    made = b"".join(template.lines(table if counts is None else with_counts(table, counts)))
    expected = list(expected_rows(table, compiled, counts))
    assert made == b"".join(json_lines.dump(row) for row in expected)
    lines = made.split(b"\n")[:-1]
    assert [json.loads(line) for line in lines] == expected
    keys = (*COLUMNS.names[:5], "input", "output", "inference_mode", "used_in_kaggle")
    assert all(tuple(json.loads(line)) == keys for line in lines)
    assert len(lines) == len(texts) and not any(b"\r" in line for line in lines)


def test_lines_without_nulls_take_the_fast_way():
    table = batch(problem=list(TEXTS), generated_solution=list(TEXTS))
    template = json_lines.Template(SIMPLE, COLUMNS, SOURCES)
    taken = template.lines(table)
    assert all(isinstance(line, memoryview) for line in taken)
    expected = [json_lines.dump(row) for row in expected_rows(table, SIMPLE, None)]
    assert taken == expected
    assert template.lines(table.slice(0, 0)) == []
    assert b"".join(template.lines(table.slice(2, 3))) == b"".join(expected[2:5])


def test_a_prompt_that_is_not_exact_fills_every_row_itself():
    class Shouting:
        def fill(self, values):
            return f"{values['problem'].upper()} {values.get(COUNT)}"

        def format_assistant_response(self, content):
            return content[::-1]

    inexact = prompts.Compiled(("never",), (), "", "", exact=False)
    template = json_lines.Template(inexact, COLUMNS, SOURCES | {COUNT: "execution_count()"}, Shouting())
    table = batch(problem=["a", "b"], generated_solution=["xy", "zw"])
    made = [json.loads(line) for line in b"".join(template.lines(with_counts(table, [3, 4]))).splitlines()]
    assert [(row["input"], row["output"]) for row in made] == [("A 3", "yx"), ("B 4", "wz")]


def test_texts_however_they_are_stored():
    stored = pa.RecordBatch.from_pydict(
        {
            "large": pa.array(["a", None], pa.large_string()),
            "view": pa.array(["a", None], pa.string_view()),
            "categories": pa.array(["x", "x"]).dictionary_encode(),
            "json": pa.array(["1", None], pa.json_(pa.string())),
            "nulls": pa.nulls(2),
            "used_in_kaggle": pa.nulls(2),
        }
    )
    plain = rows.plain(stored, COLUMNS)
    assert plain.to_pydict() == {**stored.to_pydict(), "json": ["1", None]}
    assert [str(kind) for kind in plain.schema.types] == [*5 * ["string"], "bool"]


def test_the_prompt_table_asks_for_counts_of_tir_alone():
    assert [CORPUS.formulas(split) for split in CORPUS.splits] == [(), ("execution_count()",), ()]


def test_every_formula_that_a_recipe_may_name_is_there():
    assert set(formulas.FORMULAS) == set(known.FORMULAS)
