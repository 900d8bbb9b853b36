"""The tiny tokenizer: ChatML, and text that survives it."""

import pytest

from omr.tiny.tokenizer import END_OF_TEXT, tiny_tokenizer


@pytest.mark.parametrize(
    ("messages", "prompt", "text"),
    [
        (
            [{"role": "system", "content": ""}, {"role": "user", "content": "1+1?"}],
            True,
            "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
            False,
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nx<|im_end|>\n"
            "<|im_start|>assistant\ny<|im_end|>\n",
        ),
    ],
)
def test_the_chat_template_is_chatml_with_a_system_message_of_its_own(messages, prompt, text):
    shown = tiny_tokenizer().apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert shown == text


TEXTS = [
    "7+8=15, so 5 and carry 1. The sum is \\boxed{95}.<|im_end|>\n",
    "Zoë  has\u2028 小明 \t}\n\n <tool_call>\nprint(1)\n</tool_call>",
    "x" * 3000,
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_text_survives_the_tokenizer_and_transformers_reads_the_same_one(base, text):
    from transformers import AutoTokenizer

    ours, theirs = tiny_tokenizer(), AutoTokenizer.from_pretrained(base)
    ids = ours.encode(text, add_special_tokens=False)
    assert ours.decode(ids) == text
    assert theirs.encode(text) == ids
    assert theirs.eos_token == END_OF_TEXT
    assert theirs.chat_template == ours.chat_template
