"""The server of transformers: what it is started with, and what its requests carry."""

import json

import pytest

from omr import processes
from omr.errors import OmrError
from omr.evaluation.servers import hugging_face
from omr.evaluation.servers.base import Engine
from omr.evaluation.servers.hugging_face import HuggingFaceServer


@pytest.fixture
def started(monkeypatch):
    """The processes that a server starts, none of which runs."""
    found = []

    def start(self, listed, seconds):
        self.processes = listed
        found.extend(listed)

    monkeypatch.setattr(HuggingFaceServer, "_start", start)
    return found


@pytest.fixture
def model(tmp_path):
    (tmp_path / "generation_config.json").write_text(
        json.dumps({"eos_token_id": [7, 3], "pad_token_id": 3, "max_new_tokens": 9, "top_k": 20})
    )
    return tmp_path


def test_a_small_model_has_a_server_for_each_core(started, model, tmp_path):
    server = HuggingFaceServer(2e5, tmp_path / "logs")
    endpoints = server.serve(model)
    assert len(endpoints) == processes.cores() == len(started)
    assert len({one.address for one in endpoints}) == len(endpoints)
    assert {one.at_once for one in endpoints} == {1}  # its seed is the whole process's
    assert {process.environment.get("OMP_NUM_THREADS") for process in started} == (
        {"1"} if processes.cores() > 1 else {None}
    )
    server.serve(model)
    assert len(started) == len(endpoints)  # it loads what a request names


def test_a_large_one_has_one_with_all_the_threads(started, model, tmp_path):
    (endpoint,) = HuggingFaceServer(1.5e9, tmp_path).serve(model)
    assert endpoint.model == str(model)
    assert "OMP_NUM_THREADS" not in started[0].environment
    assert started[0].environment["HF_HUB_OFFLINE"] == "1"
    command = started[0].command
    assert command[command.index("--host") + 1] == "127.0.0.1"
    assert (
        command[command.index("--device") + 1] == "cpu" and command[command.index("--dtype") + 1] == "float32"
    )


def test_requests_carry_the_model_s_end_tokens_and_nothing_that_narrows_the_sampling(
    started, model, tmp_path
):
    (endpoint,) = HuggingFaceServer(1.5e9, tmp_path).serve(model)
    assert json.loads(endpoint.body["generation_config"]) == {
        "eos_token_id": [7, 3],
        "pad_token_id": 3,
        "do_sample": True,
        "top_k": 0,
    }


def test_a_model_without_end_tokens_is_not_served(started, tmp_path):
    with pytest.raises(OmrError, match=r"generation_config\.json: is missing, and names the tokens that end"):
        HuggingFaceServer(1.5e9, tmp_path).serve(tmp_path)


def test_the_engine_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(hugging_face.importlib.metadata, "version", lambda name: "5.0")
    assert HuggingFaceServer(1, tmp_path).engine == Engine("transformers", "5.0", "cpu", "float32")
    assert HuggingFaceServer(1, tmp_path, gpu=True).engine == Engine(
        "transformers", "5.0", "cuda", "bfloat16"
    )
