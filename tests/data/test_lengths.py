"""Counts equal to `encode` of transformers, on text that means harm."""

import json
import random

import numpy as np
import pytest

from bench import corpus
from omr.data import lengths
from omr.tiny import corpus as tiny
from omr.tiny.tokenizer import tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tokenizer of Qwen2.5's make."""
    return corpus.tokenizer(tmp_path_factory.mktemp("tokenizer"), vocabulary=3_000)


@pytest.fixture(scope="module")
def reference(folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def counter(folder, reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("engine") / "length.json"
    lengths.export(reference, path)
    return lengths.Counter(path)


def encoded(reference, texts):
    return [len(reference.encode(text)) for text in texts]


AWKWARD = (
    "",
    " ",
    "\n\n\n \n",
    "   leading and trailing   ",
    "a  b   c    d",
    "x\r\ny\r\rz",
    "tab\tand\x0bmore\x0cspace\u00a0here\u2003there\u3000",
    "1234567890 12 345",
    "٣٤٥ ²³ ½ Ⅷ",
    "don't I'LL we've 'sx 'ſ K\u212a",
    "e\u0301 a\u0323\u0301 \u1100\u1161\u11a8 \ufb1d \u2adc \u0958 \U0001d15e",
    "<|im_start|>user\n<|im_end|>\n<|endoftext|><tool_call> </tool_call>",
    "<|im_en <|im_end|>x y<|im_end|> z",
    "中文 測試 日本語 한국어 Ελληνικά русский עברית العربية",
    "🙂👩‍👩‍👧‍👦 🇫🇷 ①②③ ∀x∈ℝ → ⟨a|b⟩",
    "\u0000\u0001\u001f\u007f\u0085\u2028\u2029\ufeff",
    "\u07fd \u0897 \u088f \u1abf \ua7ce \U00011db0 \U0002b73a \U000323b0",  # younger than some tables
    "\ue000\uf8ff\U000f0000\U0010ffff\ufffd",
    "\\frac{a}{b} \\[\n\\sum_{i=1}^{n} i\n\\]",
    "def f(x):\n    return x**2  # note\n\n\nprint(f(3))\n",
)


def test_awkward_texts(counter, reference):
    assert counter.fast
    assert counter.count(AWKWARD).tolist() == encoded(reference, AWKWARD)


def random_text(dice):
    """Pieces of every kind in any order."""
    parts = []
    for _ in range(dice.randrange(60)):
        roll = dice.random()
        if roll < 0.25:
            parts.append(dice.choice(AWKWARD))
        elif roll < 0.4:
            parts.append(dice.choice((" ", "\n", "\t", "\r\n", "\u00a0")) * dice.randrange(1, 30))
        elif roll < 0.5:
            parts.append(str(dice.randrange(10 ** dice.randrange(1, 15))))
        elif roll < 0.6:
            parts.append(dice.choice(corpus.SPECIAL + corpus.ADDED))
        elif roll < 0.8:
            low, high = dice.choice(lengths.COMMON)
            code = dice.randrange(low, high + 1)
            parts.append(chr(code))
        elif roll < 0.85:
            code = dice.randrange(0x110000)
            parts.append("" if 0xD800 <= code < 0xE000 else chr(code))
        else:
            parts.append("".join(dice.choices("abcdefgh XYZ.,!'\n", k=dice.randrange(1, 20))))
    return "".join(parts)


@pytest.mark.slow
def test_random_texts(counter, reference, monkeypatch):
    monkeypatch.setattr(lengths, "PART", 50)  # so that most of them are counted in parts
    dice = random.Random(7)
    texts = [random_text(dice) for _ in range(1500)]
    assert counter.count(texts).tolist() == encoded(reference, texts)
    parts = [list(counter._parts(text, 50, 20)) for text in texts]
    assert ["".join(each) for each in parts] == texts
    assert sum(len(each) > 1 for each in parts) > 500
    sums = [int(counter._tokens(each).sum()) for each in parts]
    assert sums == encoded(reference, texts)


@pytest.mark.slow
def test_fewest_is_never_more(counter, reference):
    """A lower bound of the tokens: of random text, of the awkward, of what is only begun."""
    dice = random.Random(8)
    texts = [random_text(dice) for _ in range(1500)]
    texts += [f"a{text}1" for text in AWKWARD] + [f"({text}x" for text in AWKWARD]
    texts += ["'" + "".join(dice.choices("st'rem l?!1 \u0301\u0338\r\n<K\u212aé", k=30)) for _ in range(3000)]
    least = [lengths.fewest(counter.named.sub("\0", text)) for text in texts]
    counts = encoded(reference, texts)
    assert all(low <= count for low, count in zip(least, counts, strict=True))
    assert sum(least) > 0.05 * sum(counts)
    for text, count in zip(texts[:500], counts, strict=False):
        for end in range(0, len(text), 7):
            begun = counter.named.sub("\0", text[:end])
            if text[:end].count("<") == begun.count("<") == 0:  # no added token is cut
                assert lengths.fewest(begun) <= count


def test_fewest_of_plain_text_is_near():
    text = "Let $x = 12$. Then f(x) is 3,\nso it's \\frac{1}{2}."  # 26 pieces
    assert lengths.fewest(text) == 20 and lengths.fewest("") == lengths.fewest("é") == 0


def test_texts_that_enough_pieces_decide_are_not_encoded(counter, monkeypatch):
    monkeypatch.setattr(counter, "_tokens", None)
    text = "<tool_call> x <|im_end|>" + " a b 1" * 2500
    assert counter.at_least([text, "1" * 4999], 5000).tolist() == [True, False]


@pytest.mark.parametrize("tokens", [4999, 5000, 5001])
@pytest.mark.parametrize(
    "unit",
    [" sum", "a b c. ", "1", "\n", "é ", "x ", "<|im_end|>", " <tool_call> word ", "\u0897 rare words here "],
)
@pytest.mark.slow
def test_the_boundary(counter, reference, unit, tokens):
    """Texts of exactly 4,999, 5,000 and 5,001 tokens, and their neighbours by one unit."""
    each = max(1, len(reference.encode(unit * 50)) // 50)
    text = unit * (tokens // each)
    while len(reference.encode(text)) < tokens:
        text += "!" if text.endswith("?") else "?"
    texts = [text, text + " end", text[:-1]]
    counts = np.array(encoded(reference, texts))
    assert abs(counts[0] - tokens) <= 2
    for least in (tokens - 1, tokens, tokens + 1):
        assert counter.at_least(texts, least).tolist() == (counts >= least).tolist()


@pytest.mark.slow
def test_long_rows(counter, reference):
    maker = corpus.Maker(3)
    texts = [maker.row(split)["generated_solution"] for split in ("cot", "tir") for _ in range(15)]
    counts = np.array(encoded(reference, texts))
    assert counter.count(texts).tolist() == counts.tolist()
    for least in (1, 1000, 5000, 20_000):
        assert counter.at_least(texts, least).tolist() == (counts >= least).tolist()


def other_kinds():
    """Tokenizers that are not of Qwen2's make: what was changed in the file."""
    yield (
        "another pattern",
        lambda e: e["pre_tokenizer"]["pretokenizers"][0]["pattern"].update(Regex=r"\s+|\S+"),
    )
    yield "NFKC", lambda e: e["normalizer"].update(type="NFKC")
    yield "a token with a space", lambda e: e["added_tokens"][0].update(content="a b")
    yield "a token that eats spaces", lambda e: e["added_tokens"][0].update(lstrip=True)
    yield "a prefix space", lambda e: e["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True)


@pytest.mark.parametrize("change", [change for _, change in other_kinds()], ids=[n for n, _ in other_kinds()])
def test_another_make_is_counted_by_the_reference(counter, tmp_path, change):
    from tokenizers import Tokenizer

    engine = json.loads(counter.slow.to_str())
    change(engine)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(engine))
    other, library = lengths.Counter(path), Tokenizer.from_file(str(path))
    assert other.fast is None
    texts = [*AWKWARD, " ".join(AWKWARD)]
    assert other.count(texts).tolist() == [len(library.encode(text).ids) for text in texts]


def normalized(engine):
    engine["added_tokens"][0].update(normalized=True)


def named_otherwise(engine):
    engine["added_tokens"][0].update(content="ab")


@pytest.mark.parametrize("change", [normalized, named_otherwise])
def test_added_tokens_of_another_kind_are_encoded(counter, tmp_path, change):
    engine = json.loads(counter.slow.to_str())
    change(engine)
    path = tmp_path / "other.json"
    path.write_text(json.dumps(engine))
    other = lengths.Counter(path)
    assert other.fast and other.named is None
    text = " ab" * 20
    count = len(other.slow.encode(text).ids)
    assert other.at_least([text, text], count).tolist() == [True, True]
    assert other.at_least([text], count + 1).tolist() == [False]


def test_what_a_tokenizer_adds_is_counted(counter, tmp_path):
    """A beginning-of-text token, as `encode` puts it."""
    from tokenizers import Tokenizer, processors

    library = Tokenizer.from_str(counter.slow.to_str())
    library.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", library.token_to_id("<|endoftext|>"))]
    )
    library.save(str(tmp_path / "with_start.json"))
    other = lengths.Counter(tmp_path / "with_start.json")
    assert other.count(["a b"]).tolist() == [len(library.encode("a b").ids)]
    assert other.at_least(["1" * 9, "1" * 8], 10).tolist() == [True, False]


def test_the_tiny_tokenizer(tmp_path):
    engine = tiny_tokenizer()
    lengths.export(engine, tmp_path / "tiny.json")
    texts = [row["generated_solution"] for row in tiny.split_rows("cot", 300)]
    assert lengths.Counter(tmp_path / "tiny.json").count(texts).tolist() == encoded(engine, texts)


@pytest.mark.slow
def test_every_common_character(counter):
    """The two libraries' tables agree on COMMON: each character alone, beside every class, under accents."""
    for low, high in lengths.COMMON:
        for code in range(low, high + 1):
            if 0xD800 <= code < 0xE000:
                continue
            c = chr(code)
            for text in (
                f"{c}a{c}1 {c}{c}\n{c} .{c}a x{c} {c}'s{c}\n{c}",
                f"e{c}\u0301 a{c}\u0323\u0301{c} \u1100{c}\u0301",
            ):
                assert not lengths._RARE.search(c)
                assert len(counter.fast.encode(text, False)) == len(counter.slow.encode(text).ids), hex(code)
