"""What a GPU holds while a model trains under NeMo-RL, estimated from the recipe alone."""

from dataclasses import dataclass
from math import prod

from omr.recipe.families import head_width, tensors
from omr.recipe.types import Architecture, Model

GPU = 80e9  # bytes of an H100


@dataclass(frozen=True)
class Estimate:
    """Bytes on each GPU."""

    weights: float  # bf16, and their gradients
    optimizer: float  # fp32 weights and two moments, spread over the copies of the model
    activations: float  # of one full-length row

    @property
    def total(self) -> float:
        """All of it."""
        return self.weights + self.optimizer + self.activations


def parameters(architecture: Architecture) -> int:
    """The parameters of an architecture; a tied head is counted once."""
    return sum(map(prod, tensors(architecture).values()))


def estimate(model: Model, architecture: Architecture) -> Estimate:
    """The memory of one GPU of a training, without what a library holds for itself (some GB).

    Weights and gradients in bf16, and an optimiser spread over all GPUs that have the same part of the model,
    are NeMo-Skills' SFT configuration. Activations are those that a layer keeps for its backward pass with
    flash attention, 2 bytes each, and the logits in fp32 with their gradient.
    """
    part = parameters(architecture) / model.tensor_parallel
    copies = max(
        1, model.nodes * model.gpus // model.tensor_parallel
    )  # context parallel ranks are copies, too
    tokens, split = model.sequence_length / model.context_parallel, model.tensor_parallel
    heads = head_width(architecture) * (2 * architecture.heads + 2 * architecture.kv_heads)
    # Whole on each GPU: the layer's input, the two norms' outputs and the residual; in parts: the rest.
    layer = 4 * architecture.hidden + (heads + 4 * architecture.inner) / split
    logits = 2 * 4 * architecture.vocabulary / split
    return Estimate(4 * part, 12 * part / copies, tokens * (2 * layer * architecture.layers + logits))
