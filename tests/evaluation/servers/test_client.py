"""The client against a loopback server that misbehaves."""

import asyncio
import dataclasses

import pytest

from omr.errors import OmrError
from omr.evaluation.request import Sampling
from omr.evaluation.servers import client
from omr.evaluation.servers.client import Client, Endpoint
from omr.evaluation.servers.process import free_port
from tests.evaluation.kit import DummyServer

SAMPLING = Sampling(1, 0.6, 0.95, 50)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(client, "RETRIES", 2)


def complete(endpoint, prompt="1+1?", **more):
    """One completion."""

    async def ask():
        asking = Client(endpoint)
        try:
            return await asking.complete(prompt, SAMPLING, 7, **more)
        finally:
            await asking.close()

    return asyncio.run(ask())


@pytest.mark.slow
def test_a_request_carries_the_text_as_it_stands_and_all_that_decides_its_sampling():
    with DummyServer(lambda body: "2") as server:
        endpoint = dataclasses.replace(server.endpoint(), body={"generation_config": "{}"})
        done = complete(endpoint, " <|im_start|>user\n1+1?\n", max_tokens=9, stop=["</x>"])
    assert (done.text, done.tokens, done.ended) == ("2", 1, True)
    (body,) = server.requests
    assert body == {
        "model": "dummy",
        "prompt": " <|im_start|>user\n1+1?\n",
        "max_tokens": 9,
        "temperature": 0.6,
        "top_p": 0.95,
        "seed": 7,
        "stop": ["</x>"],
        "generation_config": "{}",
    }


@pytest.mark.slow
def test_an_answer_at_the_limit_has_not_ended():
    with DummyServer(lambda body: "and so on…") as server:
        assert not complete(server.endpoint()).ended
    assert server.requests[0]["max_tokens"] == 50


@pytest.mark.slow
@pytest.mark.parametrize(
    "faults", [[500], [503, 429], ["cut"], ["stall"], ["cut", 502]], ids=lambda faults: str(faults)
)
def test_what_may_pass_is_asked_again(faults):
    with DummyServer(lambda body: "2", faults=faults) as server:
        assert complete(server.endpoint()).text == "2"
    assert len(server.requests) == len(faults) + 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "told"),
    [
        ([500] * 9, "refuses a request"),
        ([400], "refuses a request"),
        ([404], "refuses a request"),
        (["rubbish"], "answers what is no completion"),
        (["cut"] * 9, "does not answer"),
    ],
    ids=str,
)
def test_what_does_not_pass_is_one_line(faults, told):
    with DummyServer(lambda body: "2", faults=faults) as server, pytest.raises(OmrError) as failure:
        complete(server.endpoint())
    assert str(failure.value).startswith(f"{server.address}: {told}")
    assert "\n" not in str(failure.value)
    assert len(server.requests) == (3 if len(faults) > 1 else 1)


@pytest.mark.slow
def test_a_server_that_is_away_is_told():
    address = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(OmrError, match=f"^{address}: does not answer; see whether the server runs"):
        complete(Endpoint(address, "m", 1))


@pytest.mark.slow
def test_a_key_goes_along_and_into_no_message():
    with DummyServer(lambda body: "2", faults=[401]) as server, pytest.raises(OmrError) as failure:
        complete(dataclasses.replace(server.endpoint(), key="sk-secret"))
    assert "sk-secret" not in str(failure.value)


@pytest.mark.slow
def test_a_proxy_of_the_site_is_not_asked_about_this_machine(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with DummyServer(lambda body: "2") as server:
        assert complete(server.endpoint()).text == "2"
