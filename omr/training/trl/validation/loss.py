"""The loss of a model on held-out rows: the mean over their trained tokens, of each split and of all."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from omr.run.validation import LOSS, loss_of
from omr.training.trl.feed import EncodedRow
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.validation.rows import HeldOutSplit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

Collate = Callable[[list[EncodedRow]], dict[str, Any]]


def collator(tokenizer: "PreTrainedTokenizerBase", packed: bool) -> "DataCollatorForLanguageModeling":
    """What makes a model's input of the rows of a micro-batch: set end to end, or padded."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    return DataCollatorForLanguageModeling(pad, padding_free=packed)


def measure(
    model: "PreTrainedModel",
    held_out: Sequence[HeldOutSplit],
    collate: Collate,
    device: "torch.device",
    processes: ProcessGroup,
    done: Callable[[int], object] = lambda tokens: None,
) -> dict[str, float]:
    """The loss of each split and of all of them, by their names in metrics.jsonl; the same in each process.

    The sum over all trained tokens divided by their number; a split without one is left out. `model` has
    TRL's fused head, and is left in the mode that it was in; no random number is drawn. `device`: of the
    model's input; `done` is told the tokens of each micro-batch.
    """
    if not held_out:
        return {}
    import torch
    from torch import distributed

    sums = torch.zeros(len(held_out), 2, dtype=torch.float64)  # of each split: loss, trained tokens
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for n, split in enumerate(held_out):
                for rows in split.micro_batches:
                    sums[n] += _loss_and_tokens(model, collate([row.encoded() for row in rows]), device)
                    done(sum(len(row.ids) for row in rows))
    finally:
        model.train(was_training)
    if not processes.is_alone:
        sums = sums.to(device)
        distributed.all_reduce(sums)
    names = [LOSS, *(loss_of(split.name) for split in held_out)]
    totals = [sums.sum(dim=0).tolist(), *sums.tolist()]
    return {name: loss / tokens for name, (loss, tokens) in zip(names, totals, strict=True) if tokens}


def _loss_and_tokens(
    model: "PreTrainedModel", inputs: dict[str, Any], device: "torch.device"
) -> "torch.Tensor":
    """The sum of the losses of a micro-batch, and the number of its trained tokens.

    The head that training has, too: it makes no logits of all tokens, and it asks for no cache. With a cache
    transformers would not look for packed rows in `position_ids`, and where flash attention is not installed,
    as on a CPU, each row would see those before it.
    """
    import torch

    there = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    output = model(**there, use_cache=False, fused_lm_head=True)
    return torch.stack([-output.log_probs.double().sum(), output.label_mask.sum().double()]).cpu()
