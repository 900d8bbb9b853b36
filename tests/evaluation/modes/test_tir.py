"""Solutions that call Python: where they stop, what is run, what the model reads of it."""

import asyncio

import pytest

from omr.evaluation.modes import tir
from omr.evaluation.modes.prompts import CodeTags
from omr.evaluation.modes.tir import Tir, closed, code_at_end
from omr.evaluation.request import Sampling
from omr.evaluation.samples import SampleId
from omr.evaluation.sandbox import Output, Status
from omr.evaluation.servers.client import Client
from tests.evaluation.kit import DummyServer

TAGS = CodeTags("<tool_call>\n", "</tool_call>\n", "```output\n", "```\n", "qwen", own=True)
EXECUTIONS = 8


class PretendSandbox:
    """Runs nothing; says what it was asked to."""

    def __init__(self):
        self.ran, self.open = [], 0

    def session(self):
        return self

    async def __aenter__(self):
        self.open += 1
        return self

    async def __aexit__(self, *_):
        self.open -= 1

    async def run(self, code):
        self.ran.append(code)
        return Output(f"{len(self.ran)}\n", Status.COMPLETED)

    async def close(self):
        assert self.open == 0


@pytest.fixture
def sandbox(monkeypatch):
    made = PretendSandbox()
    monkeypatch.setattr(tir.Sandbox, "create", lambda kind: made)
    return made


def solve(server, max_tokens=1000):
    """The answer to one problem."""

    async def ask():
        client = Client(server.endpoint())
        try:
            async with Tir({"a": "Q: "}, Sampling(1, 0.6, 0.95, max_tokens), EXECUTIONS, TAGS, None) as mode:
                return await mode.answer(client, SampleId("a", 3))
        finally:
            await client.close()

    return asyncio.run(ask())


@pytest.mark.slow
@pytest.mark.parametrize("with_end", [True, False])  # vLLM leaves the text that stopped it out
def test_code_is_run_and_its_output_read(sandbox, with_end):
    pieces = iter(["I try.\n<tool_call>\nprint(1)\n</tool_call>\n", "So \\boxed{1}."])

    def model(body):
        text = next(pieces)
        return text if with_end else text.removesuffix("</tool_call>\n")

    with DummyServer(model) as server:
        answer = solve(server)
    assert sandbox.ran == ["print(1)\n"]
    whole = (
        "I try.\n<tool_call>\nprint(1)\n</tool_call>\n"
        "```output\n1\n```\n```system\nRemaining code executions: 7\n```\nSo \\boxed{1}."
    )
    assert (answer.text, answer.given, answer.executions, answer.ended) == (whole, "1", 1, True)
    first, second = server.requests
    assert (first["prompt"], second["prompt"]) == ("Q: ", "Q: " + whole.removesuffix("So \\boxed{1}."))
    assert first["stop"] == ["</tool_call>\n"] and first["seed"] == second["seed"] == 3
    written = len("I try.\n<tool_call>\nprint(1)\n") + (len("</tool_call>\n") if with_end else 0)
    assert (first["max_tokens"], second["max_tokens"]) == (1000, 1000 - written)
    assert answer.tokens == written + len("So \\boxed{1}.")


@pytest.mark.slow
def test_after_the_last_execution_the_model_has_one_more_word(sandbox):
    with DummyServer(lambda body: "<tool_call>\nx\n</tool_call>\n") as server:
        answer = solve(server)
    assert len(sandbox.ran) == EXECUTIONS == answer.executions
    assert len(server.requests) == EXECUTIONS + 1
    assert "```system\nYou have run out of code executions!\n```\n" in answer.text
    assert answer.text.endswith("```\n<tool_call>\nx\n</tool_call>\n")
    assert answer.given is None


@pytest.mark.slow
def test_the_limit_of_tokens_is_that_of_all_pieces(sandbox):
    text = "<tool_call>\nx\n</tool_call>\n"
    with DummyServer(lambda body: text) as server:
        answer = solve(server, max_tokens=2 * len(text))
    assert [body["max_tokens"] for body in server.requests] == [2 * len(text), len(text)]
    # As in NeMo-Skills, what ends at the limit is not run any more: nothing could follow.
    assert (answer.ended, answer.tokens, answer.executions) == (False, 2 * len(text), 1)
    assert answer.text.endswith("```\n" + text)


@pytest.mark.slow
def test_code_that_the_limit_cuts_is_not_run(sandbox):
    with DummyServer(lambda body: "<tool_call>\nprint(1…") as server:
        answer = solve(server, max_tokens=20)
    assert (answer.ended, answer.executions, sandbox.ran) == (False, 0, [])


@pytest.mark.slow
def test_an_answer_without_code_is_one_request(sandbox):
    with DummyServer(lambda body: "It goes on…") as server:
        answer = solve(server)
    assert (len(server.requests), sandbox.ran, answer.ended) == (1, [], False)


B, E = TAGS.begin, TAGS.end


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (f"a{B}x{E}", "x"),
        (f"{B}x{E}and {B}y{E}", "y"),
        (f"{B}x{E} and words", None),
        (f"a{E}", None),
        ("", None),
        (f"{B}", None),
        (f"{B}x{E}y{E}", None),  # the last end ends nothing
        (f"{B}x{B}y{E}", "y"),
        (f"{E}{B}x{E}", "x"),
        (f"{B}{E}", ""),
    ],
)
def test_which_code_is_run(text, code):
    assert code_at_end(text, TAGS) == code


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        (f"a{B}x", f"a{B}x{E}"),
        (f"a{B}x{E}", f"a{B}x{E}"),
        ("a", "a"),
        (f"{B}x{E}{B}y", f"{B}x{E}{B}y{E}"),
        (f"{B}{B}x", f"{B}{B}x"),
    ],
)
def test_code_whose_end_the_server_left_out(text, whole):
    assert closed(text, TAGS) == whole
