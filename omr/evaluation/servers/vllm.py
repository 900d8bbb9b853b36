"""vLLM, the server for GPUs: the one that NeMo-RL's workers use in the training image, or one on PATH."""

import functools
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from omr.errors import OmrError
from omr.evaluation.servers.base import Engine, Server
from omr.evaluation.servers.client import Endpoint
from omr.evaluation.servers.process import ServerProcess, free_port
from omr.run.nemo_rl_version import PINNED_VERSION

START_SECONDS = 1800  # loading 65 GB from a shared file system, compiling, capturing graphs
SEQUENCES = 256  # that an H100 works on together; vLLM's own default there is no less


class VllmServer(Server):
    """One process for a node, which shares requests out to as many replicas as fit on the GPUs."""

    def __init__(self, gpus: int, tensor_parallel: int, context: int, logs: Path) -> None:
        """`context` is the most tokens of a prompt and its answer together."""
        super().__init__()
        self._tensor = tensor_parallel_size(gpus, tensor_parallel)
        self._replicas = max(1, gpus // self._tensor)
        self._context, self._logs = context, logs
        self.engine = Engine("vllm", version(), "cuda", "bfloat16")

    def serve(self, model: Path) -> Sequence[Endpoint]:
        self.stop()  # the GPUs hold one model
        port = free_port()
        command = serve_command(model, port, self._tensor, self._replicas, self._context)
        address = f"http://127.0.0.1:{port}"
        environment = {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
        process = ServerProcess(command, address, self._logs / "server.log", environment)
        self._start([process], START_SECONDS)
        return [Endpoint(address, str(model), SEQUENCES * self._replicas)]


def tensor_parallel_size(gpus: int, wanted: int) -> int:
    """The tensor parallel size of a model's row, or where there are fewer GPUs the largest half of it."""
    size = wanted
    while size > max(1, gpus):
        size //= 2
    return size


def serve_command(model: Path, port: int, tensor_parallel: int, replicas: int, context: int) -> list[str]:
    """vLLM's command line, by the names of 0.17.1."""
    return [
        *(program(), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--served-model-name", str(model), "--dtype", "bfloat16", "--seed", "0"),
        *("--tensor-parallel-size", str(tensor_parallel), "--data-parallel-size", str(replicas)),
        *("--max-model-len", str(context), "--max-num-seqs", str(SEQUENCES)),
        # The model's own generation config would narrow what a request asks for.
        *("--generation-config", "vllm", "--disable-uvicorn-access-log"),
    ]


def program() -> str | None:
    """vLLM's program: on PATH, else in an environment of NeMo-RL's workers, which its image has."""
    if found := shutil.which("vllm"):
        return found
    workers = Path(os.environ.get("NEMO_RL_VENV_DIR", PINNED_VERSION.workers))
    return next((str(path) for path in sorted(workers.glob("*.vllm.*/bin/vllm"))), None)


def available() -> bool:
    """Whether this machine has vLLM."""
    return program() is not None


@functools.cache
def version() -> str:
    """The version of vLLM that would serve; an OmrError where it does not say."""
    done = subprocess.run([program(), "--version"], capture_output=True, text=True, errors="replace")
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise OmrError(f"vLLM does not start ({last}); name a server that runs by SERVER=http://…")
    return lines[-1].split()[-1]
