"""`make serve` and `make ask`: the final model of a run, served to whoever asks, or asked one problem."""

import asyncio
import contextlib
import json
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace

from omr import recipe
from omr.evaluation import evaluation
from omr.evaluation.modes.prompts import Prompts, tokenizer_of
from omr.evaluation.problems import Problem, ProblemSet
from omr.evaluation.request import EvalRequest, Means, Sampling, models_of
from omr.evaluation.servers import process
from omr.evaluation.servers.choose import server_for
from omr.evaluation.servers.client import Client, Endpoint
from omr.evaluation.servers.process import ServerProcess
from omr.evaluation.stage import context
from omr.workspace import Workspace

Say = Callable[[str], None]
EXAMPLE = {"tiny": "What is 12+34?"}
FOR_OTHERS = "What is the sum of the first 100 positive integers?"


def request_of(
    run: recipe.Run, workspace: Workspace, sampling: Sampling, means: Means, problem: str | None = None
) -> EvalRequest:
    """One problem for a run's final model; without one an example."""
    asked = Problem("", problem or EXAMPLE.get(run.model.corpus, FOR_OTHERS))
    models = models_of(run, workspace.run(run), before=False)
    return EvalRequest(
        run,
        ProblemSet("one", (asked,)),
        recipe.modes(None, run.model.corpus)[:1],
        replace(sampling, samples=1),
        models,
        means,
    )


def serve(request: EvalRequest, workspace: Workspace, say: Say) -> None:
    """Serve until interrupted; `say` gets a command line that asks."""
    with _serving(request, workspace, say) as (endpoint, prompt, processes):
        body = {
            "model": endpoint.model,
            "prompt": prompt,
            "max_tokens": request.sampling.max_tokens,
            "temperature": request.sampling.temperature,
            "top_p": request.sampling.top_p,
            **endpoint.body,
        }
        say(f"{request.run.title} is served at {endpoint.address}; end it with Ctrl-C. Ask it:")
        say(
            f"curl -s {endpoint.address}/v1/completions -H 'Content-Type: application/json'"
            f" -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
        )
        asyncio.run(process.watch(processes))


def ask(request: EvalRequest, workspace: Workspace, write: Say, say: Say) -> None:
    """Ask the one problem; `write` gets the pieces of the answer as they come."""
    with _serving(request, workspace, say) as (endpoint, prompt, _):
        asyncio.run(_stream(endpoint, prompt, request.sampling, write))


async def _stream(endpoint: Endpoint, prompt: str, sampling: Sampling, write: Say) -> None:
    client = Client(endpoint)
    try:
        async for piece in client.stream(prompt, sampling, seed=0):
            write(piece)
    finally:
        await client.close()


@contextlib.contextmanager
def _serving(
    request: EvalRequest, workspace: Workspace, say: Say
) -> Iterator[tuple[Endpoint, str, list[ServerProcess]]]:
    """Where the model is served, what its problem is asked with, and the processes to watch."""
    run, model = request.run, request.models["after"]
    evaluation.prove(model, run, "after")
    of = recipe.of_model(run.model)
    prompts = Prompts(of.corpus, tokenizer_of(model), of.evaluation.code_executions)
    prompt = prompts.of(request.modes[0], request.problems.problems[0])
    server = server_for(run.model, request.means, context(request), workspace.run(run).logs)
    with server:
        if not request.means.server:
            say(f"starting {server.engine.name} {server.engine.version}")
        yield server.serve(model)[0], prompt, server.processes
