"""The tiny base model's tokenizer: byte-pair encoding with the special tokens and chat template of Qwen2.5.

Its end of text is not the end of a message, as in the base models of the recipe. It needs tokenizers and
transformers, never torch.
"""

from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SPECIAL = (END_OF_TEXT, MESSAGE_START, MESSAGE_END)
_TOOL = ("<tool_call>", "</tool_call>")

# How text is cut into pieces: Qwen2's own pattern, because transformers 5 cuts by it whatever a Qwen2 model's
# tokenizer.json says.
_PIECE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Each piece of this text is one token; other text becomes parts of these tokens, and single bytes.
_TEXT = """system\nuser\nassistant\n
What is 1+1? Find the sum of 1 and 1. Compute 1+1.
Ann Bob has 1 apples and gets 1 more. How many apples are there?
1+1=1, so 1 and carry 1. 1+1+1=1. The sum is \\boxed{1}. The sum is 1. Check: 1-1=1.
Count: 1, 1.
Which solution of 1+1 is right?\nSolution 1: 1\nJudgment: 1
print(1+1)\n```output\n1\n```\n```system\nRemaining code executions: 1\nYou have run out of code executions!
Solve the problem, put the answer inside \\boxed{}.\n\nYou may use up to 1 Python calls.
"""

# ChatML, as Qwen2.5's template: a conversation that begins without a system message is given one.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- endif %}"
)


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that make each word one token: the most frequent pair first, then by spelling."""
    parts = [list(word) for word in words]
    merges = []
    while pairs := Counter(pair for word in parts for pair in pairwise(word)):
        first, second = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((first, second))
        for word in parts:
            for n in range(len(word) - 2, -1, -1):
                if word[n : n + 2] == [first, second]:
                    word[n : n + 2] = [first + second]
    return merges


def byte_pair_encoder() -> "Tokenizer":
    """The tokenizer in the form of the tokenizers library, whose JSON is the model's tokenizer.json."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"), byte_level])
    words = dict.fromkeys(word for word, _ in pieces.pre_tokenize_str(_TEXT))
    merges = _merges(list(words))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate([*alphabet, *dict.fromkeys(a + b for a, b in merges)])}
    encoder = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    encoder.normalizer, encoder.pre_tokenizer, encoder.decoder = (
        normalizers.NFC(),
        pieces,
        decoders.ByteLevel(),
    )
    encoder.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in _SPECIAL])
    encoder.add_tokens([AddedToken(t, normalized=False, special=False) for t in _TOOL])
    return encoder


def tiny_tokenizer() -> "PreTrainedTokenizerFast":
    """The tokenizer of the tiny base model: one token for a word of the tiny corpus, ChatML for a message."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=byte_pair_encoder(),
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def tokenizer_config(encoder: "Tokenizer") -> dict[str, str | int | bool | list | dict | None]:
    """The content of tokenizer_config.json, in the keys of Qwen2.5-Math's."""
    flags = dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False)
    added = {
        str(encoder.token_to_id(token)): {**flags, "content": token, "special": token in _SPECIAL}
        for token in (*_SPECIAL, *_TOOL)
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [MESSAGE_START, MESSAGE_END],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
        "model_max_length": 131072,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
