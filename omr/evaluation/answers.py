"""A model's answers by transformers' generate: greedy, a batch at a time, on this machine."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omr.errors import OmrError, shown

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 100  # prompts that are answered together


class Answer(NamedTuple):
    """What a model wrote after a prompt."""

    text: str
    ended: bool  # by one of the model's end tokens, and not by the limit


def generate(
    folder: Path, prompts: Sequence[str], max_tokens: int, tokenizer: "PreTrainedTokenizerBase", gpu: bool
) -> Iterator[list[Answer]]:
    """Greedy answers of the model in `folder`, of at most `max_tokens` tokens each, a batch at a time."""
    import torch

    model = _load_model(folder, gpu)
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for first in range(0, len(prompts), BATCH):
        encoded = tokenizer(
            list(prompts[first : first + BATCH]), return_tensors="pt", padding=True, add_special_tokens=False
        ).to(model.device)
        with torch.inference_mode():
            output = model.generate(
                **encoded, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        answers = []
        for tokens in output[:, encoded["input_ids"].shape[1] :].tolist():
            end = next((n for n, token in enumerate(tokens) if token in ends), None)
            answers.append(Answer(tokenizer.decode(tokens[:end], skip_special_tokens=True), end is not None))
        yield answers


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer of a model folder, which pads on the left: an answer follows its prompt at once."""
    from transformers import AutoTokenizer

    with _loading(folder):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, padding_side="left")
    if not tokenizer("1+1", add_special_tokens=False)["input_ids"]:  # what transformers makes of no files
        raise OmrError(f"{folder}: its tokenizer has no tokens; name a whole model's folder")
    return tokenizer


@contextlib.contextmanager
def _loading(folder: Path) -> Iterator[None]:
    """An OmrError for a folder that transformers does not load, whatever is raised there."""
    try:
        yield
    except Exception as error:  # each kind of damage has an error of its own
        why = shown(" ".join(str(error).split()))
        raise OmrError(
            f"{folder}: transformers cannot load it ({why}); name a whole model's folder"
        ) from None


def gpu_is_there() -> bool:
    """Whether torch finds a CUDA GPU."""
    import torch

    return torch.cuda.is_available()


def _load_model(folder: Path, gpu: bool) -> "PreTrainedModel":
    """The model, in bf16 on a GPU, else in fp32; an OmrError if its weights lack a tensor."""
    import torch
    from transformers import AutoModelForCausalLM

    with _loading(folder):
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.bfloat16 if gpu else torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if missing := sorted(loaded["missing_keys"]):
        filled = "transformers fills it with random numbers"
        raise OmrError(f"{folder}: its weights lack {missing[0]}, {filled}; name a whole model's folder")
    return model.to("cuda" if gpu else "cpu").eval()
