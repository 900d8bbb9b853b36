"""Which server answers: the one that SERVER names, vLLM on GPUs, else the one of transformers."""

from pathlib import Path

from omr import recipe
from omr.evaluation.request import Means
from omr.evaluation.servers import vllm
from omr.evaluation.servers.base import Server
from omr.evaluation.servers.hugging_face import HuggingFaceServer
from omr.evaluation.servers.named import NamedServer
from omr.evaluation.servers.vllm import VllmServer
from omr.training.trl.memory import gpu_memory


def server_for(model: recipe.Model, means: Means, context: int, logs: Path) -> Server:
    """The server for a row of the recipe; nothing is started yet.

    `context` is the most tokens of a prompt and its answer together, `logs` the folder for what it prints.
    """
    if means.server:
        return NamedServer(means.server, means.unproved)
    gpus = len(gpu_memory()) if model.gpus else 0
    if gpus and vllm.available():
        return VllmServer(gpus, model.tensor_parallel, context, logs)
    return HuggingFaceServer(model.parameters, logs, gpu=bool(gpus))
