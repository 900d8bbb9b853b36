"""vLLM's command line, and how many GPUs a model takes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from omr.errors import OmrError
from omr.evaluation.servers import process, vllm
from omr.evaluation.servers.base import Engine
from omr.evaluation.servers.vllm import VllmServer, serve_command, tensor_parallel_size

PARSE = """
import json, sys
sys.path[:0] = sys.argv[1].split(":")
from vllm.entrypoints.openai.cli_args import make_arg_parser, validate_parsed_serve_args
from vllm.utils.argparse_utils import FlexibleArgumentParser
args = make_arg_parser(FlexibleArgumentParser()).parse_args(sys.argv[2:])
validate_parsed_serve_args(args)
print(json.dumps({name: value for name, value in vars(args).items() if isinstance(value, (int, str, list))}))
"""


def test_the_command_line(monkeypatch):
    monkeypatch.setattr(vllm.shutil, "which", lambda name: f"/bin/{name}")
    assert serve_command(Path("/w/final"), 8123, 4, 2, 40_960) == [
        *("/bin/vllm", "serve", "/w/final", "--host", "127.0.0.1", "--port", "8123"),
        *("--served-model-name", "/w/final", "--dtype", "bfloat16", "--seed", "0"),
        *("--tensor-parallel-size", "4", "--data-parallel-size", "2"),
        *("--max-model-len", "40960", "--max-num-seqs", "256"),
        *("--generation-config", "vllm", "--disable-uvicorn-access-log"),
    ]


def test_the_training_image_has_it_among_the_environments_of_its_workers(monkeypatch, tmp_path):
    monkeypatch.setattr(vllm.shutil, "which", lambda name: None)
    monkeypatch.setenv("NEMO_RL_VENV_DIR", str(tmp_path))
    assert not vllm.available()
    for worker in ("policy.workers.Worker", "generation.vllm.vllm_worker.VllmGenerationWorker"):
        path = tmp_path / f"nemo_rl.models.{worker}" / "bin" / "vllm"
        path.parent.mkdir(parents=True)
        path.touch()
    assert vllm.program() == str(path)


@pytest.mark.parametrize(
    ("gpus", "wanted", "size"), [(8, 1, 1), (8, 4, 4), (8, 8, 8), (2, 8, 2), (3, 8, 2), (1, 8, 1), (7, 4, 4)]
)
def test_a_model_takes_its_row_s_gpus_or_half_as_many(gpus, wanted, size):
    assert tensor_parallel_size(gpus, wanted) == size


@pytest.fixture
def program(tmp_path, monkeypatch):
    """A `vllm` on PATH that does what a test says."""

    def make(script):
        path = tmp_path / "bin" / "vllm"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")
        vllm.version.cache_clear()

    yield make
    vllm.version.cache_clear()


@pytest.mark.parametrize("said", ["0.17.1", "vLLM 0.17.1", "INFO starting\n0.17.1"])
def test_its_version(program, said):
    program(f"printf '{said}'")
    assert vllm.version() == "0.17.1"
    assert vllm.available()


@pytest.mark.parametrize(
    ("script", "told"), [("echo 'no CUDA' >&2; exit 1", "no CUDA"), ("exit 0", "it says nothing")]
)
def test_one_that_does_not_start_is_told(program, script, told):
    program(script)
    with pytest.raises(
        OmrError, match=rf"^vLLM does not start \({told}\); name a server that runs by SERVER="
    ):
        vllm.version()


STAND_IN = """#!{python}
import http.server, os, sys
if sys.argv[1:] == ["--version"]:
    sys.exit(print("0.17.1"))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
print(*sys.argv[1:3], os.environ["HF_HUB_OFFLINE"], flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.mark.slow
def test_one_model_after_the_other_is_served(program, tmp_path):
    program("")
    (tmp_path / "bin" / "vllm").write_text(STAND_IN.replace("{python}", sys.executable))
    with VllmServer(8, 4, 40_960, tmp_path / "logs") as server:
        assert server.engine == Engine("vllm", "0.17.1", "cuda", "bfloat16")
        for name in ("before", "after"):
            (endpoint,) = server.serve(tmp_path / name)
            assert (endpoint.model, endpoint.at_once) == (str(tmp_path / name), 512)
            assert process.answers(endpoint.address)
            (running,) = server.processes
            running.check()
    assert not process.answers(endpoint.address)
    assert (tmp_path / "logs" / "server.log").read_text().split() == [
        *("serve", str(tmp_path / "before"), "1"),
        *("serve", str(tmp_path / "after"), "1"),
    ]


@pytest.mark.nemo
def test_the_command_line_is_taken_by_vllm_s_own_parser(monkeypatch):
    """VLLM_SOURCE: the unpacked source of vLLM 0.17.1, then folders with what it imports, with colons."""
    source = os.environ.get("VLLM_SOURCE")
    if not source:
        pytest.skip("VLLM_SOURCE is not set to the source of vLLM 0.17.1")
    monkeypatch.setattr(vllm.shutil, "which", lambda name: f"/bin/{name}")
    command = serve_command(Path("/w/final"), 8123, 4, 2, 40_960)
    done = subprocess.run(
        [sys.executable, "-c", PARSE, source, *command[2:]], capture_output=True, text=True, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    parsed = json.loads(done.stdout.splitlines()[-1])
    assert parsed["model_tag"] == "/w/final"
    assert parsed["served_model_name"] == ["/w/final"]
    assert (parsed["host"], parsed["port"], parsed["seed"]) == ("127.0.0.1", 8123, 0)
    assert (parsed["tensor_parallel_size"], parsed["data_parallel_size"]) == (4, 2)
    assert (parsed["max_model_len"], parsed["max_num_seqs"], parsed["dtype"]) == (40_960, 256, "bfloat16")
    assert (parsed["generation_config"], parsed["disable_uvicorn_access_log"]) == ("vllm", True)
