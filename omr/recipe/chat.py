"""How a conversation is written: the chat template, the token that ends a message, and whether rows agree."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# ChatML, with an empty system message where the conversation begins with none: the recipe's prompts.
CHATML = (
    "{%- if not messages or messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\\n<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- endif %}"
)


@dataclass(frozen=True)
class Chat:
    """How a conversation is written: in training, and when the final model is asked."""

    template: str = CHATML  # of the final model
    message_end: str = "<|im_end|>"  # the token that ends every message, and so every trained answer
    pad: str | None = None  # the token that fills batches, where the base's tokenizer names none
    own: bool = False  # the recipe brings the template: it wraps the prompts, too


class Rendering:
    """A chat template at work, to be held against rows of the training data."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", template: str | None = None) -> None:
        """The template is the tokenizer's own where none is given."""
        self._tokenizer, self._template = tokenizer, template
        mark = "\x00"
        self._head, self._tail = self._render(("user", mark), answer=True).split(mark)
        self._close = self._render(("user", mark), ("assistant", mark)).rpartition(mark)[2]

    def _render(self, *messages: tuple[str, str], answer: bool = False) -> str:
        chat = [{"role": role, "content": content} for role, content in messages]
        return self._tokenizer.apply_chat_template(
            chat, chat_template=self._template, tokenize=False, add_generation_prompt=answer
        )

    def fault(self, text: str, output: str) -> str | None:
        """How a row's `input` and `output` differ from what the template makes of their message, or None.

        The user message of a row is what stands in `input` between the template's constant head and tail.
        Rendered again it must give `input`, and with the answer `input + output`.
        """
        user, answer = text[len(self._head) : len(text) - len(self._tail)], output.removesuffix(self._close)
        asked = self._render(("user", user), answer=True)
        if asked != text:
            return _difference("input", asked, text)
        whole = self._render(("user", user), ("assistant", answer))
        return None if whole == text + output else _difference("input and output", whole, text + output)


def _difference(what: str, template: str, trained: str) -> str:
    """The first place that differs, with 20 characters to each side."""
    at = next(
        (n for n, (a, b) in enumerate(zip(template, trained, strict=False)) if a != b),
        min(len(template), len(trained)),
    )
    here = slice(max(0, at - 20), at + 20)
    return f"the chat template gives {template[here]!r} where {what} has {trained[here]!r}"
