"""vLLM, the server for GPUs: an extra of NeMo-RL in the training image, elsewhere its own program."""

import functools
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from omr import settings
from omr.errors import OmrError
from omr.evaluation.servers.base import Engine, Server
from omr.evaluation.servers.client import Endpoint
from omr.evaluation.servers.process import ServerProcess, free_port

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
        cwd = None if shutil.which("vllm") else Path(settings.nemo_rl_folder())
        process = ServerProcess(
            command,
            address,
            self._logs / "server.log",
            {"VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
            cwd,
        )
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
        *(*program(), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)),
        *("--served-model-name", str(model), "--dtype", "bfloat16", "--seed", "0"),
        *("--tensor-parallel-size", str(tensor_parallel), "--data-parallel-size", str(replicas)),
        *("--max-model-len", str(context), "--max-num-seqs", str(SEQUENCES)),
        # The model's own generation config would narrow what a request asks for.
        *("--generation-config", "vllm", "--disable-uvicorn-access-log"),
    ]


def program() -> list[str]:
    """What comes before `serve`: vLLM's own program, or NeMo-RL's environment, in its folder."""
    return ["vllm"] if shutil.which("vllm") else ["uv", "run", "--extra", "vllm", "vllm"]


def available() -> bool:
    """Whether this machine has vLLM: its program, or NeMo-RL's folder and uv."""
    nemo_rl = Path(settings.nemo_rl_folder(), "pyproject.toml")
    return shutil.which("vllm") is not None or (shutil.which("uv") is not None and nemo_rl.exists())


@functools.cache
def version() -> str:
    """The version of vLLM that would serve; an OmrError where it does not say."""
    folder = None if shutil.which("vllm") else settings.nemo_rl_folder()
    done = subprocess.run([*program(), "--version"], cwd=folder, capture_output=True, text=True)
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise OmrError(f"vLLM does not start ({last}); name a server that runs by SERVER=http://…")
    return lines[-1].split()[-1]
