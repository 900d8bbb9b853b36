"""The loss of a model on held-out rows: the mean over their trained tokens, of each split and of all.

torch and transformers alone: what measures a model need not be the environment that trained it.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from omr.run.validation import LOSS, loss_of
from omr.training.trl.feed import NO_LOSS
from omr.training.trl.process_group import ProcessGroup
from omr.training.trl.validation.rows import HeldOutRow, HeldOutSplit

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

TOKENS_AT_ONCE = 512  # whose logits are made together: 0.3 GB in fp32, at 152,064 words


def measure(
    model: "PreTrainedModel",
    held_out: Sequence[HeldOutSplit],
    packed: bool,
    device: "torch.device",
    processes: ProcessGroup,
    done: Callable[[int], object] = lambda tokens: None,
) -> dict[str, float]:
    """The loss of each split and of all of them, by their names in metrics.jsonl; the same in each process.

    The sum over all trained tokens divided by their number; a split without one is left out. `packed`: the
    rows of a micro-batch are set end to end, else padded. On a GPU it computes in bf16. The model is left in
    the mode that it was in, and no random number is drawn. `device`: of the model's input; `done` is told the
    tokens of each micro-batch.
    """
    if not held_out:
        return {}
    import torch
    from torch import distributed

    sums = torch.zeros(len(held_out), 2, dtype=torch.float64)  # of each split: loss, trained tokens
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            for n, split in enumerate(held_out):
                for rows in split.micro_batches:
                    inputs, labels = _packed(rows) if packed else _padded(rows)
                    sums[n] += _loss_and_tokens(model, {k: v.to(device) for k, v in inputs.items()}, labels)
                    done(sum(len(row.ids) for row in rows))
    finally:
        model.train(was_training)
    if not processes.is_alone:
        sums = sums.to(device)
        distributed.all_reduce(sums)
    names = [LOSS, *(loss_of(split.name) for split in held_out)]
    totals = [sums.sum(dim=0).tolist(), *sums.tolist()]
    return {name: loss / tokens for name, (loss, tokens) in zip(names, totals, strict=True) if tokens}


def _packed(rows: Sequence[HeldOutRow]) -> "tuple[dict[str, torch.Tensor], torch.Tensor]":
    """A model's input and the labels of rows that are set end to end; their positions keep them apart."""
    import torch

    positions = [torch.arange(len(row.ids)) for row in rows]
    ids, labels = (torch.cat(some)[None] for some in zip(*map(_tensors, rows), strict=True))
    return {"input_ids": ids, "position_ids": torch.cat(positions)[None]}, labels


def _padded(rows: Sequence[HeldOutRow]) -> "tuple[dict[str, torch.Tensor], torch.Tensor]":
    """A model's input and the labels of rows that are padded to the longest one."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    ids, labels = zip(*map(_tensors, rows), strict=True)
    mask = pad_sequence([torch.ones_like(some) for some in ids], batch_first=True)
    return (
        {"input_ids": pad_sequence(ids, batch_first=True), "attention_mask": mask},
        pad_sequence(labels, batch_first=True, padding_value=NO_LOSS),
    )


def _tensors(row: HeldOutRow) -> "tuple[torch.Tensor, torch.Tensor]":
    """A row's tokens, and its labels: its first token has no loss, whatever stands before it in a pack."""
    import torch

    ids = torch.tensor(row.ids.tolist())
    labels = ids.clone()
    labels[: max(1, row.prompt)] = NO_LOSS
    return ids, labels


def _loss_and_tokens(
    model: "PreTrainedModel", inputs: dict[str, "torch.Tensor"], labels: "torch.Tensor"
) -> "torch.Tensor":
    """The sum of the losses of a micro-batch, and the number of its trained tokens.

    Without a cache: with one, transformers would not look for packed rows in `position_ids`, and where flash
    attention is not installed, as on a CPU, each row would see those before it. Logits are made of trained
    tokens alone, and of few of them at a time.
    """
    import torch

    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state[:, :-1]
    trained = labels[:, 1:] != NO_LOSS
    hidden, wanted = hidden[trained.to(hidden.device)], labels[:, 1:][trained]
    head, total = model.get_output_embeddings(), torch.zeros((), dtype=torch.float64)
    for some, next_ones in zip(hidden.split(TOKENS_AT_ONCE), wanted.split(TOKENS_AT_ONCE), strict=True):
        logits = head(some).float()
        losses = torch.nn.functional.cross_entropy(logits, next_ones.to(logits.device), reduction="none")
        total += losses.double().sum().cpu()
    return torch.stack([total, trained.sum().double()])
