"""`transformers serve`: the small server that transformers brings, for machines without a GPU.

It answers one request after the other, and its seed is the whole process's; so one request at a time is sent
to it, and several of it run where the model is small.
"""

import importlib.metadata
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from omr import processes
from omr.errors import OmrError
from omr.evaluation.servers.base import Engine, Server
from omr.evaluation.servers.client import Endpoint
from omr.evaluation.servers.process import ServerProcess, free_port
from omr.files import read_json

START_SECONDS = 300
SMALL = 1e8  # parameters: several copies of such a model take no memory to speak of


class HuggingFaceServer(Server):
    """As many servers as there are cores for a small model, else one."""

    def __init__(self, parameters: float, logs: Path, gpu: bool = False) -> None:
        super().__init__()
        self._replicas = processes.cores() if parameters < SMALL and not gpu else 1
        self._logs, self._gpu = logs, gpu
        device, dtype = ("cuda", "bfloat16") if gpu else ("cpu", "float32")
        self.engine = Engine("transformers", importlib.metadata.version("transformers"), device, dtype)

    def serve(self, model: Path) -> Sequence[Endpoint]:
        if not self.processes:
            self._start([self._process(number) for number in range(self._replicas)], START_SECONDS)
        return [Endpoint(process.address, str(model), 1, body=body(model)) for process in self.processes]

    def _process(self, number: int) -> ServerProcess:
        port = free_port()
        command = [
            *(sys.executable, "-P", "-m", "transformers.cli.transformers", "serve"),
            *("--host", "127.0.0.1", "--port", str(port), "--log-level", "error"),
            *("--device", self.engine.device, "--dtype", self.engine.dtype, "--model-timeout", "-1"),
        ]
        environment = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        if self._replicas > 1:
            environment["OMP_NUM_THREADS"] = "1"
        return ServerProcess(
            command, f"http://127.0.0.1:{port}", self._logs / f"server-{number}.log", environment
        )


def body(model: Path) -> dict[str, str]:
    """What a request carries: the model's own end tokens, and nothing that narrows the sampling.

    The server takes `do_sample` and `top_k` from here, or else from defaults that differ by version.
    """
    path = model / "generation_config.json"
    if not path.exists():
        raise OmrError(f"{path}: is missing, and names the tokens that end an answer; make the model again")
    own = read_json(path)
    ends = {name: own[name] for name in ("eos_token_id", "pad_token_id", "bos_token_id") if name in own}
    return {"generation_config": json.dumps({**ends, "do_sample": True, "top_k": 0})}
