"""SERVER=: a server that runs already, and whether it serves the model that is asked for."""

import json

import pytest

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.evaluation.request import Means
from omr.evaluation.servers import choose, hugging_face
from omr.evaluation.servers.base import Engine
from omr.evaluation.servers.choose import server_for
from omr.evaluation.servers.hugging_face import HuggingFaceServer
from omr.evaluation.servers.named import NamedServer
from omr.evaluation.servers.process import free_port
from omr.evaluation.servers.vllm import VllmServer
from tests.evaluation.kit import DummyServer


@pytest.mark.slow
def test_it_is_the_model_by_its_path_or_by_where_it_says_that_it_lies(tmp_path):
    with DummyServer(lambda body: "") as server:
        server.name = str(tmp_path)
        named = NamedServer(f"{server.address}/v1/")
        (endpoint,) = named.serve(tmp_path)
        assert (endpoint.address, endpoint.model) == (server.address, str(tmp_path))
        assert named.engine == Engine("server", "9.9", "unknown", "unknown")
        link = tmp_path / "link"
        link.symlink_to(tmp_path)
        assert named.serve(link)[0].model == str(tmp_path)


@pytest.mark.slow
def test_another_model_is_refused_unless_its_word_is_taken(tmp_path):
    with DummyServer(lambda body: "") as server:
        with pytest.raises(RequestError, match=r"serves dummy, and not .*; start it on that folder, or add"):
            NamedServer(server.address).serve(tmp_path)
        (endpoint,) = NamedServer(server.address, allow_unproved=True).serve(tmp_path)
        assert endpoint.model == "dummy"


def test_a_server_of_transformers_is_asked_for_the_folder_one_request_at_a_time(tmp_path, monkeypatch):
    """As `make serve` starts it: without this it would take none of the sampling."""
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [7]}')
    answers = {"/openapi.json": {"paths": {"/load_model": {}, "/v1/completions": {}}}}
    monkeypatch.setattr(NamedServer, "_get", lambda self, path, optional=False: answers.get(path))
    (endpoint,) = NamedServer("http://127.0.0.1:1").serve(tmp_path)
    assert (endpoint.model, endpoint.at_once, endpoint.body) == (
        str(tmp_path),
        1,
        hugging_face.body(tmp_path),
    )
    assert json.loads(endpoint.body["generation_config"])["do_sample"] is True


@pytest.mark.slow
def test_one_that_is_away_or_something_else_is_told(tmp_path, monkeypatch):
    away = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(
        OmrError, match=rf"^SERVER={away} does not answer \(.*\); start it, or leave SERVER out"
    ):
        NamedServer(away)
    with DummyServer(lambda body: "") as server:
        named = NamedServer(server.address)
        for answer in ({"data": []}, {"data": "x"}, [], {"data": ["x"]}, None):
            monkeypatch.setattr(NamedServer, "_get", lambda *_, answer=answer, **__: answer)
            with pytest.raises(OmrError, match="lists no model; name an OpenAI-compatible server"):
                named.serve(tmp_path)


@pytest.mark.slow
def test_a_key_is_sent(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with DummyServer(lambda body: "") as server:
        (endpoint,) = NamedServer(server.address, allow_unproved=True).serve(tmp_path)
    assert endpoint.key == "sk-secret"


@pytest.mark.parametrize(
    ("name", "gpus", "has_vllm", "kind"),
    [
        ("7b", 8, True, VllmServer),
        ("7b", 8, False, HuggingFaceServer),
        ("7b", 0, True, HuggingFaceServer),
        ("tiny", 8, True, HuggingFaceServer),
    ],
)
def test_which_server_answers(tmp_path, monkeypatch, name, gpus, has_vllm, kind):
    monkeypatch.setattr(choose, "gpu_memory", lambda: [80 << 30] * gpus)
    monkeypatch.setattr(choose.vllm, "available", lambda: has_vllm)
    monkeypatch.setattr(choose.vllm, "version", lambda: "0.17.1")
    server = server_for(recipe.MODELS[name], Means(), 40_960, tmp_path)
    assert type(server) is kind
    if kind is VllmServer:
        assert server.engine == Engine("vllm", "0.17.1", "cuda", "bfloat16")


@pytest.mark.slow
def test_the_named_one_goes_first(tmp_path):
    with DummyServer(lambda body: "") as server:
        assert type(server_for(recipe.MODELS["7b"], Means(server.address), 1, tmp_path)) is NamedServer
