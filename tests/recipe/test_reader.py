"""Recipe files: what they say is what stands there, and a broken one is one line with its number."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omr import recipe
from omr.errors import RequestError
from omr.recipe import lookup, reader
from omr.recipe.table import line_of

PUBLISHED = (lookup.FOLDER / "openmathreasoning.toml").read_text()


def read(folder, text, name="mine.toml"):
    path = folder / name
    path.write_text(text)
    return reader.read(path)


def test_a_copy_says_what_the_published_one_says(tmp_path):
    copy, published = read(tmp_path, PUBLISHED), recipe.shipped("openmathreasoning")
    assert (copy.architectures, copy.contexts) == (published.architectures, published.contexts)
    assert (copy.rounds, copy.published) == (published.rounds, published.published)
    assert [m.corpus for m in copy.models.values()] == 4 * ["mine"]
    assert [m.folder for m in copy.models.values()] == ["mine-1.5b", "mine-7b", "mine-14b", "mine-32b"]


def test_a_container_sees_a_template_that_lies_elsewhere(tmp_path):
    folder, template = tmp_path / "recipes", tmp_path / "templates" / "x.jinja"
    for path in (folder, template.parent):
        path.mkdir()
    template.write_text("{{ messages }}<|eot|>")
    chat = '[chat]\ntemplate = "../templates/x.jinja"\nmessage_end = "<|eot|>"\n'
    (folder / "mine.toml").write_text(PUBLISHED + chat)
    assert lookup.paths_of(str(folder / "mine.toml")) == [folder, template]


def test_numbers_of_the_paper():
    """Spot checks against the paper and the published documentation, by hand."""
    found = recipe.shipped("openmathreasoning")
    assert found.corpus.rows == {"cot": 3_201_061, "tir": 1_718_466, "genselect": 565_620}
    assert found.published["7b", "tir"] == ((72.9, 83.3), (57.5, 76.7), (54.6, 66.3))
    assert found.published["32b", "genselect"] == ((None, 93.3), (None, 80.0), (None, 73.5))
    assert found.contexts["7b"] == {
        "max_position_embeddings": (4096, 131072),
        "rope_theta": (10000, 500000.0),
    }
    assert [found.models[name].patched for name in ("1.5b", "7b", "14b", "32b")] == [True, True, False, False]
    assert found.corpus.min_tokens("cot") == 5_000 and found.corpus.min_tokens("genselect") is None


# What is changed of the published file: (a line's beginning, what it becomes or None, the rest of the message).
BROKEN = {
    "a table that nobody knows": ("[training]", "[trainnig]", "trainnig is unknown (did you mean training?)"),
    "a key that nobody knows": ("sequence_length", "sequence_lenght = 1", "(did you mean sequence_length?)"),
    "a key of a row": ('"7b"   = {lr', '"7b" = {learning = 1}', "models.7b.learning is unknown"),
    "a slip in a row": ('"7b"   = {lr', '"7b" = {lrr = 1e-4}', "models.7b.lrr is unknown (did you mean lr?)"),
    "no rate": ('"7b"   = {lr', '"7b" = {min_lr = 1e-7}', "models.7b has no lr; add lr = … (a number)"),
    "a rate in quotes": ('"7b"   = {lr', '"7b" = {lr = "2e-4"}', "models.7b.lr is a text; write a number"),
    "a negative rate": ('"7b"   = {lr', '"7b" = {lr = -1.0}', "models.7b.lr is -1; write a number above 0"),
    "no number": ('"7b"   = {lr', '"7b" = {lr = nan}', "models.7b.lr is nan; write a number above 0"),
    "min above lr": ('"7b"   = {lr', '"7b" = {lr = 1e-4, min_lr = 1e-3}', "models.7b.min_lr is 0.001, more"),
    "half a batch": ("batch = ", "batch = 0.5", "training.batch is 0.5, a number; write a whole number"),
    "no batch": ("batch = ", "batch = 0", "training.batch is 0; write a whole number from 1 up"),
    "an engine": ("engine = ", 'engine = "nemorl"', "is 'nemorl' (did you mean nemo-rl?); choose trl or nemo-rl"),
    "no revision": ("revision = ", None, "corpus has no revision; add revision = … (a text)"),
    "a branch": ("revision = ", 'revision = "main"', "corpus.revision is 'main'; write the commit, 40 hexa"),
    "no owner": ("hub = ", 'hub = "OpenMathReasoning"', "corpus.hub is 'OpenMathReasoning'; write owner/name"),
    "two sources": ("hub = ", 'hub = "a/b"\nfiles = "here"', "corpus has hub and files; write one of hub"),
    "a column": ("problem = ", 'problem = "problme"', "is 'problme' (did you mean problem?); choose expected"),
    "a column twice": ("names = ", 'names = ["problem", "problem"]', "columns.names has 'problem' twice; keep one"),
    "problem and solution": ("solution = ", 'solution = "problem"', "which is the problem; name the column"),
    "a formula": ("tir       = {", 'tir = {fields = {n = "execution_counts()"}}', "(did you mean execution_count()?)"),
    "no condition": ("at_most = ", None, "filters.2 needs one condition: one_of, at_least and at_most, or min_tokens"),
    "a filter's column": ('column = "pass', 'column = "pass_rate"', "filters.2.column is 'pass_rate'"),
    "a filter twice": ('name = "pass', 'name = "source"', "filters.2.name is 'source' twice"),
    "a filter's split": ('splits = ["cot"', 'splits = ["code"]', "filters.3.splits has 'code'; choose cot, tir"),
    "a round's split": ("round2-paper = ", 'round2-paper = {number = 2, steps = 9, variant = "x", filtered = ["co"]}', "(did you mean cot?)"),
    "a round's number": ("round2       = ", "round2 = {number = 1, steps = 9}", "and the round is named round2; write 2"),
    "the same variant": ("round2-paper = ", 'round2-paper = {number = 2, steps = 9, variant = "recommended"}', "is a second round 2 of the same variant"),
    "too few steps": ("round1       = ", "round1 = {number = 1, steps = 3}", "rounds.round1.steps is 3; write a whole number from 4"),
    "an average that is not saved": ("round1       = ", "round1 = {number = 1, steps = 40, warmup = 4, save_period = 10, averaged = [20, 35, 40]}", "has 35, which is not saved: saves are every 10 steps, and at 40; write 30"),
    "a warmup without end": ("round1       = ", "round1 = {number = 1, steps = 40, warmup = 40, save_period = 10, averaged = [40]}", "rounds.round1.warmup is 40 of 40 steps"),
    "no first round": ("round1       = ", None, "rounds has no round1; add round1"),
    "a base of no model": ('"7b"   = {hub', '"77b" = {hub = "a/b"}', "bases.77b is no model (did you mean 7b?)"),
    "no base": ('"7b"   = {hub', None, "bases has no table 7b; add bases.7b"),
    "an architecture of no family": ('"7b"   = {hidden', '"7b" = {hidden = 64, layers = 2, heads = 4, kv_heads = 2, inner = 8, vocabulary = 9, tied = true, norm_epsilon = 1e-6, family = "qwen4"}', "is 'qwen4' (did you mean qwen3?)"),
    "heads": ('"7b"   = {hidden', '"7b" = {hidden = 64, layers = 2, heads = 5, kv_heads = 2, inner = 8, vocabulary = 9}', "kv_heads is 2, which does not divide 5 heads"),
    "half a context": ('"7b"   = {max_position', '"7b" = {max_position_embeddings = [4096, "131072"], rope_theta = 1.0}', "is no whole number above 0"),
    "no rope base": ('"7b"   = {max_position', '"7b" = {max_position_embeddings = 4096}', "context.7b has no rope_theta; add it"),
    "a share": ("top_p = ", "top_p = 95", "evaluation.top_p is 95; write a number above 0 and at most 1"),
    "a percentage": ('"7b"   = [[74.8', '"7b" = [[748, 80], [1, 2], [3, 4]]', "published.cot.7b has no percentages"),
    "a subset too few": ('"7b"   = [[74.8', '"7b" = [[74.8, 80.0]]', "evaluation.subsets are aime24, aime25 and"),
    "shares and steps": ("round1       = ", "round1 = {number = 1, steps = 40, averaged = [0.5, 40]}", "has 40 among shares; write shares above 0.0, up to 1.0"),
    "a share of no step": ("round1       = ", "round1 = {number = 1, steps = 40, averaged = [0.33, 1.0]}", "has 0.33, which is no whole step of 40; write 0.325, or steps"),
    "a scaled rope": ('"7b"   = {hidden', '"7b" = {hidden = 64, layers = 2, heads = 4, kv_heads = 2, inner = 8, vocabulary = 9, tied = true, norm_epsilon = 1e-6, family = "llama", rope_scaling = {rope_type = "lama3"}}', "is 'lama3' (did you mean llama3?)"),
    "another family's rope": ('"7b"   = {hidden', '"7b" = {hidden = 64, layers = 2, heads = 4, kv_heads = 2, inner = 8, vocabulary = 9, tied = true, norm_epsilon = 1e-6, rope_scaling = {rope_type = "llama3"}}', "is llama3's, which qwen2 is not trained with"),
    "a template that is not there": ("[corpus]", 'chat = {template = "none.jinja"}\n[corpus]', "chat.template is 'none.jinja': No such file or directory; name a file of Jinja"),
    "an end without a template": ("[corpus]", 'chat = {message_end = "<|eot_id|>"}\n[corpus]', "chat.message_end is ChatML's <|im_end|> without a template"),
    "an end that the template has not": ("[corpus]", 'chat = {template = "mine.toml", message_end = "\\u003c|eot|>"}\n[corpus]', "is '<|eot|>', which mine.toml never writes"),
    "no code executions": ("code_executions = ", "code_executions = 0", "evaluation.code_executions is 0; write a whole number from 1 up"),
    "a brace": ('"7b"   = {lr', '"7b" = {lr = 2e-4', "is not TOML (Unclosed inline table"),
    "a key twice": ("batch = ", "nodes = 3", "is not TOML (Cannot overwrite a value); mend the line"),
}  # fmt: skip


def broken(start, becomes):
    """The published file with one line changed, and the number of the line that is wrong then."""
    lines = PUBLISHED.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith(start))
    lines[at : at + 1] = [] if becomes is None else becomes.split("\n")
    return "\n".join(lines), at + 1


@pytest.mark.parametrize("start, becomes, said", BROKEN.values(), ids=BROKEN)
def test_a_broken_recipe_is_one_line(tmp_path, start, becomes, said):
    text, at = broken(start, becomes)
    with pytest.raises(RequestError) as refused:
        read(tmp_path, text)
    line = str(refused.value)
    path, number, told = re.fullmatch(r"(.*mine\.toml):(\d+): (.*)", line).groups()
    assert path == str(tmp_path / "mine.toml") and said in told and "\n" not in line
    near = text.splitlines()[int(number) - 1]
    # The line itself; or, where something is missing, the beginning of the table that lacks it.
    assert int(number) == at or near.startswith("["), (number, at, near)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.toml"]


@pytest.mark.parametrize(
    "row, schedule",
    [
        ("steps = 40", (40, 4, 10, (10, 20, 30, 40))),
        ("steps = 42", (42, 4, 10, (10, 20, 30, 42))),
        ("steps = 40, averaged = [0.25, 0.5, 0.75, 1.0]", (40, 4, 10, (10, 20, 30, 40))),
        ("steps = 3_000, averaged = [0.7, 0.8, 0.9, 1.0]", (3000, 300, 300, (2100, 2400, 2700, 3000))),
        ("steps = 10, averaged = [0.5, 1.0], save_period = 1", (10, 1, 1, (5, 10))),
        ("steps = 10, averaged = [1.0]", (10, 1, 10, (10,))),
        ("steps = 10, warmup = 0", (10, 0, 2, (2, 4, 6, 10))),
    ],
)
def test_what_a_schedule_leaves_out(tmp_path, row, schedule):
    text, _ = broken("round1       = ", f"round1 = {{number = 1, {row}}}")
    found = read(tmp_path, text)
    made = found.models["7b"].schedules.get("round1") or recipe.derive(found.rounds["round1"].steps)
    assert (made.steps, made.warmup, made.save_period, made.averaged) == schedule


def test_there_are_thirty_of_them():
    assert len(BROKEN) >= 30


@pytest.mark.parametrize(
    "name, said",
    [
        ("tiny.toml", "is named as the shipped recipe tiny, for which its runs would be taken; rename it"),
        ("openmathreasoning.toml", "is named as the shipped recipe openmathreasoning"),
        ("my-recipe.toml", "is named 'my-recipe'; name it of small letters, digits and _"),
    ],
)
def test_a_name_that_would_be_taken_for_another(tmp_path, name, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        read(tmp_path, PUBLISHED, name)


@pytest.mark.parametrize(
    "word, said",
    [
        ("tinny", "RECIPE=tinny is no recipe (did you mean tiny?); choose openmathreasoning or tiny"),
        ("nowhere/mine.toml", "RECIPE=nowhere/mine.toml: no such file"),
    ],
)
def test_a_recipe_that_is_not_there(word, said):
    with pytest.raises(RequestError, match=re.escape(said)):
        lookup.path_of(word)


def test_what_is_no_text(tmp_path):
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="is not UTF-8 text"):
        reader.read(tmp_path / "mine.toml")


@pytest.mark.parametrize(
    "path, line",
    [
        ((), 1),
        (("a",), 2),
        (("b", "list"), 6),
        (("b", "after"), 11),
        (("c", "0", "x"), 13),
        (("c", "1", "y"), 16),
        (("b", "gone"), 5),
        (("row", "7b", "lr"), 18),
        (("row", "7b", "gone"), 18),
    ],
)
def test_the_line_of_a_key(path, line):
    text = """# first
a = 1
# b = 3

[b]
list = [
  1,
  # two
  2,
]
after = '''
text'''
[[c]]
x = 1
[[c]]
y = 2
[row]
"7b" = {lr = 1}
"""
    expected = {("b", "after"): 11, ("c", "0", "x"): 14, ("c", "1", "y"): 16}.get(path, line)
    assert line_of(text, path) == expected


LINES = PUBLISHED.splitlines()
VALUES = (
    "0",
    "-1",
    "1e400",
    "nan",
    '""',
    '"x"',
    "[]",
    "[[1]]",
    "{}",
    "true",
    "1979-05-27",
    "[{}]",
    '"\\u0007"',
)


@pytest.mark.slow
@settings(max_examples=150, derandomize=True, deadline=None, database=None)
@given(st.integers(0, len(LINES) - 1), st.one_of(st.none(), st.sampled_from(VALUES), st.integers(0, 200)))
def test_any_line_changed_is_read_or_refused_in_one_line(tmp_path_factory, at, change):
    """A line left out, with another value, or cut."""
    line = LINES[at]
    if isinstance(change, str):
        line = re.sub(r"=.*", lambda _: f"= {change}", line, count=1)
    new = [] if change is None else [line[:change] if isinstance(change, int) else line]
    try:
        read(tmp_path_factory.mktemp("any"), "\n".join([*LINES[:at], *new, *LINES[at + 1 :]]))
    except RequestError as refused:
        assert re.fullmatch(r".*mine\.toml:\d+: .*", str(refused))
