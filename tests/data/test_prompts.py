"""The compiled prompt fills as the prompt does, and knows when it cannot."""

import pytest

from bench import corpus as bench_corpus
from omr import recipe
from omr.data import prompts
from omr.errors import OmrError, RequestError
from omr.tiny.tokenizer import tiny_tokenizer
from tests.data.awkward import TEXTS
from tests.data.opaque import only_concatenates

TINY = recipe.CORPORA["tiny"]
COT = TINY.sources("cot")
MATH = prompts.read_yaml(prompts.config_file(TINY, "tiny/math"))


def with_template(old, new):
    tokenizer = tiny_tokenizer()
    assert old in tokenizer.chat_template
    tokenizer.chat_template = tokenizer.chat_template.replace(old, new)
    return tokenizer


@pytest.mark.parametrize("split", recipe.SPLITS)
def test_compiled_equals_filled(split):
    prompt = prompts.load(TINY, split, tiny_tokenizer())
    compiled = prompts.compile(prompt, TINY.sources(split))
    assert compiled.exact
    for text in TEXTS:
        values = {"problem": text} | ({"total_code_executions": 7} if split == "tir" else {})
        assert compiled.input(values) == prompt.fill(values)
        assert compiled.output(text) == prompt.format_assistant_response(text)
        prompts.prove(compiled, prompt, [(values, text)])


def test_what_the_tiny_prompts_say():
    cot, tir, genselect = (prompts.load(TINY, split, tiny_tokenizer()) for split in recipe.SPLITS)
    around = "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    assert genselect.fill({"problem": "{x} 1"}) == around.format("{x} 1")
    assert cot.fill({"problem": "P"}).startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>user\nSolve")
    assert "\\boxed{}" in cot.fill({"problem": "P"}) and "up to 3 Python" in tir.fill(
        {"problem": "P", "total_code_executions": 3}
    )
    assert cot.format_assistant_response("A") == "A<|im_end|>\n"


CONTENT = "message['content'] +"


@pytest.mark.parametrize(
    "template, exact",
    [
        (CONTENT, True),
        ("(message['content'] ~ '') +", True),
        ("('' if message['content'] is none else message['content']) +", True),
        ("message['content']|trim +", False),
        ("(message['content'] + ' ')|trim +", False),
        ("message['content'].strip() +", False),
        ("message['content']|replace('<', '(') +", False),
        ("message['content'].split('</think>')[-1] +", False),
        ("('' if '</think>' in message['content'] else message['content']) +", False),
        ("('' if message['content'] == 'no' else message['content']) +", False),
        ("(message['content'] or '') +", False),
        ("message['content'][0:] +", False),
    ],
)
def test_a_template_that_looks_into_the_text_is_not_compiled(template, exact):
    tokenizer = with_template(CONTENT, template)
    assert only_concatenates(tokenizer.chat_template, tokenizer.special_tokens_map) is exact
    # The two that look and change nothing are right, compiled.
    exact = exact or template in ("(message['content'] or '') +", "message['content'][0:] +")
    assert prompts.compile(prompts.load(TINY, "cot", tokenizer), COT).exact is exact


def test_a_template_of_the_published_form_only_concatenates():
    assert only_concatenates(bench_corpus.TEMPLATE)


def test_a_prompt_that_does_not_only_fill():
    class Shouting(prompts.YamlPrompt):
        def fill(self, values):
            return super().fill({k: v.upper() for k, v in values.items()})

    shouting = Shouting(MATH, tiny_tokenizer())
    compiled = prompts.compile(shouting, COT)
    with pytest.raises(OmrError, match=r"differs from its own filling of 'what'"):
        prompts.prove(compiled, shouting, [({"problem": "what"}, "answer")])
    formatted = prompts.load(TINY, "cot", tiny_tokenizer())
    formatted.user = "{problem!r}"
    assert not prompts.compile(formatted, COT).exact


def test_messages_instead_of_text_are_refused():
    class Later(prompts.YamlPrompt):
        def fill(self, values):
            return [{"role": "user", "content": values["problem"]}]

    with pytest.raises(OmrError, match=r"to a list, not to text.*make nemo"):
        prompts.compile(Later(MATH, tiny_tokenizer()), COT)


def test_without_nemo_skills(monkeypatch):
    import builtins

    real = builtins.__import__

    def no_nemo(name, *more):
        if name.startswith("nemo_skills"):
            raise ModuleNotFoundError(f"No module named {name!r}", name="nemo_skills")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", no_nemo)
    with pytest.raises(RequestError, match=r"run make nemo .its pinned commit 8b18f399; NEMO_SKILLS=folder"):
        prompts.load(recipe.CORPORA["openmathreasoning"], "cot", tiny_tokenizer())


@pytest.mark.nemo
@pytest.mark.parametrize("split", recipe.SPLITS)
def test_the_real_prompts_compile(split):
    pytest.importorskip("nemo_skills")
    prompt = prompts.load(recipe.CORPORA["openmathreasoning"], split, tiny_tokenizer())
    compiled = prompts.compile(prompt, TINY.sources(split))
    assert compiled.exact
    assert compiled.fields == (("total_code_executions",) if split == "tir" else ()) + ("problem",)
    for text in TEXTS:
        values = {"problem": text} | ({"total_code_executions": 7} if split == "tir" else {})
        prompts.prove(compiled, prompt, [(values, text)])
