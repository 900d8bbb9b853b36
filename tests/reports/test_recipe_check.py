"""make check-recipe: a line for each fault that the file alone does not show."""

import json
import re

import pytest

from omr import recipe
from omr.errors import RequestError
from omr.recipe import lookup, reader
from omr.reports import recipe_check
from omr.workspace import Workspace

PUBLISHED = (lookup.FOLDER / "openmathreasoning.toml").read_text()
ROW = {"id": 1, "question": "1, 2", "reply": "2"}
OWN = """
[corpus]
files = "."
prompts = "prompts"
[columns]
names = ["id", "question", "reply"]
problem = "question"
solution = "reply"
[splits]
main = {file = "rows.jsonl", prompt = "mine"}
[rounds]
round1 = {number = 1, steps = 8}
[training]
engine = "trl"
nodes = 1
gpus = 0
batch = 8
sequence_length = 64
[models]
small = {lr = 4e-3, min_lr = 4e-6, tensor_parallel = 1, context_parallel = 1, parameters = 0.25e6}
[bases]
small = {made_by = "tiny"}
[context]
small = {max_position_embeddings = 512, rope_theta = 10000.0}
[architectures]
small = {family = "llama", hidden = 96, layers = 2, heads = 6, kv_heads = 2, inner = 256, vocabulary = 512, tied = true, norm_epsilon = 1e-5, dtype = "F32"}
[evaluation]
benchmark = "asked.jsonl"
"""  # fmt: skip  # noqa: E501


def test_the_shipped_recipes_have_no_fault(tmp_path):
    assert [
        fault
        for name in recipe.SHIPPED
        for fault in recipe_check.faults(recipe.shipped(name), Workspace(tmp_path))
    ] == []


def faults_of(folder, text):
    (folder / "mine.toml").write_text(text)
    return list(recipe_check.faults(reader.read(folder / "mine.toml"), Workspace(folder / "workspace")))


@pytest.mark.parametrize(
    "pattern, becomes, said",
    [
        (r'("7b" .*tensor_parallel = )4', r"\g<1>3", "tensor_parallel 3 does not divide heads 28; write 2"),
        (r'("7b" .*tensor_parallel = )4', r"\g<1>8", "tensor_parallel 8 does not divide kv_heads 4; write 4"),
        (
            r'("7b" .*context_parallel = )2',
            r"\g<1>3",
            "tensor_parallel 4 by context_parallel 3 do not divide 512",
        ),
        (r"batch = 1_024", "batch = 1_000", "batch 1,000 is no multiple of the 64 copies"),
        (r"sequence_length = 32_768", "sequence_length = 32_770", "is no multiple of 4, to which rows"),
        (
            r"sequence_length = 32_768",
            "sequence_length = 262_144",
            "is beyond max_position_embeddings 131,072",
        ),
        (
            r'("7b" .*parameters = +)7.6e9',
            r"\g<1>14e9",
            "are not those of its architecture; write 7,615,616,512",
        ),
        (
            r'("7b" .*context_parallel = )2',
            r"\g<1>1",
            "on each GPU, an H100 has 80 GB; raise tensor_parallel",
        ),
    ],
)
def test_sizes_that_do_not_go_together(tmp_path, pattern, becomes, said):
    text, changed = re.subn(pattern, becomes, PUBLISHED, count=1)
    found = faults_of(tmp_path, text)
    assert changed and any("models.7b" in fault and said in fault for fault in found), found
    assert all(fault.startswith(f"{tmp_path}/mine.toml: models.") for fault in found)


def own(folder, rows=(ROW,), prompt="user: |-\n  {problem}", **asked):
    """A recipe of files, with its rows and its prompt."""
    (folder / "prompts/config").mkdir(parents=True)
    (folder / "prompts/config/mine.yaml").write_text(prompt)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    (folder / "rows.jsonl").write_text("".join(f"{line}\n" for line in lines))
    problem = asked or {"problem": "1, 2", "expected_answer": "2"}
    (folder / "asked.jsonl").write_text(json.dumps(problem) + "\n")
    return faults_of(folder, OWN)


def test_a_recipe_of_files(tmp_path):
    assert own(tmp_path) == []


@pytest.mark.parametrize(
    "given, said",
    [
        ({"rows": []}, "has no row"),
        ({"rows": [{"question": "1", "reply": "2"}]}, "rows.jsonl:1: has no id; correct columns.names"),
        (
            {"rows": [ROW, {"id": 1, "questoin": "1", "reply": "2"}]},
            "rows.jsonl:2: has no question (did you mean",
        ),
        ({"rows": [ROW, "{"]}, "rows.jsonl:2: is no JSON"),
        ({"rows": ["[]"]}, "rows.jsonl:1: is no object"),
        ({"rows": [{**ROW, "reply": ["2"]}]}, 'rows.jsonl:1: reply is ["2"]; write a text or a number'),
        ({"rows": [{**ROW, "question": None}]}, "has a row with null where the prompt needs a text"),
        (
            {"rows": [{**ROW, "reply": "2 " * 99}]},
            "1 of its first 1 rows have over sequence_length 64 tokens",
        ),
        (
            {"prompt": "user: |-\n  {question}"},
            "the prompt needs the field 'question', and the recipe fills problem",
        ),
        ({"prompt": "user: |-\n  {"}, "the prompt cannot be filled"),
        ({"prompt": "system: x"}, "mine.yaml: has no user message"),
        ({"prompt": "a: [b"}, "mine.yaml: is not YAML"),
        ({"question": "1"}, "evaluation.benchmark: "),
    ],
)
def test_rows_and_prompts_that_do_not_go_together(tmp_path, given, said):
    [fault] = own(tmp_path, **given)
    assert said in fault and "\n" not in fault


@pytest.mark.parametrize("missing", ["rows.jsonl", "prompts/config/mine.yaml", "asked.jsonl"])
def test_a_file_that_is_not_there(tmp_path, missing):
    own(tmp_path)
    (tmp_path / missing).unlink()
    [fault] = faults_of(tmp_path, OWN)
    assert str(tmp_path / missing) in fault and "\n" not in fault


def test_a_folder_of_prompts_that_is_not_there(tmp_path):
    with pytest.raises(RequestError, match=r"mine.toml:4: corpus.prompts is 'prompts', and .* is no folder"):
        faults_of(tmp_path, OWN)


def test_a_template_that_the_final_model_would_not_have(tmp_path):
    """The prompts follow the tokenizer's template; a final model has ChatML where the recipe brings none."""
    from omr.tiny.tokenizer import tiny_tokenizer

    loaded = tiny_tokenizer()
    loaded.chat_template = loaded.chat_template.replace("<|im_end|>\\n", "<|im_end|>")
    loaded.save_pretrained(tmp_path / "other")
    own(tmp_path)
    text = OWN.replace('prompts = "prompts"', 'prompts = "prompts"\nprompt_tokenizer = {folder = "other"}')
    [fault] = faults_of(tmp_path, text)
    assert "the chat template gives" in fault and "write [chat] into the recipe" in fault
    (tmp_path / "own.jinja").write_text(recipe.Chat().template.replace("<|im_end|>\\n", "<|im_end|>"))
    chat = '[chat]\ntemplate = "own.jinja"\nmessage_end = "<|im_end|>"\n[columns]'
    assert faults_of(tmp_path, text.replace("[columns]", chat)) == []


def test_what_was_not_looked_at_is_said(tmp_path):
    lines = recipe_check.summary(recipe.shipped("openmathreasoning"), Workspace(tmp_path))
    assert lines[-1].startswith("note: the prompts were not filled: there is no Qwen/Qwen2.5-32B-Instruct")
    assert not any(
        "note" in line for line in recipe_check.summary(recipe.shipped("tiny"), Workspace(tmp_path))
    )
