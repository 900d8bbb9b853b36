"""A loopback server of completions that misbehaves as it is told, and what evaluations are made of."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from omr import files, manifest, recipe
from omr.evaluation.metrics import Graded
from omr.evaluation.problems import Problem, ProblemSet
from omr.evaluation.request import EvalRequest, Means, Sampling, sampling_of
from omr.evaluation.results import EvalInputs, EvalResult, model_result
from omr.evaluation.servers.base import Engine
from omr.evaluation.servers.client import Endpoint
from omr.tiny.model import write_base
from omr.workspace import Workspace

RUN = recipe.run("tiny")


class DummyServer:
    """An OpenAI-compatible server whose model is a function of the request; a context manager.

    `faults` are taken one by one, each for one request: a status to answer with, `cut` (the connection closes
    within the answer), `stall` (a second of silence, then the connection closes), `rubbish`.
    """

    def __init__(self, model: Callable[[dict], str], name: str = "dummy", faults: list | None = None) -> None:
        self.model, self.name, self.faults = model, name, list(faults or [])
        self.requests: list[dict] = []
        self.hangs: threading.Event | None = None  # once it is set, nothing is answered in time
        self.most_at_once = self._now = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_) -> None:
                pass

            def do_GET(self) -> None:
                if server.hangs and server.hangs.is_set():
                    time.sleep(5)
                if self.path == "/v1/models":
                    self._json({"data": [{"id": server.name, "root": server.name}]})
                elif self.path == "/version":
                    self._json({"version": "9.9"})
                else:
                    self._json({}, 200 if self.path == "/health" else 404)

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with server._lock:
                    server.requests.append(body)
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                    fault = server.faults.pop(0) if server.faults else None
                try:
                    self._answer(body, fault)
                finally:
                    with server._lock:
                        server._now -= 1

            def _answer(self, body: dict, fault: int | str | None) -> None:
                if isinstance(fault, int):
                    self._json({"error": {"message": "not\nnow"}}, fault)
                    return
                if fault == "stall":
                    time.sleep(1)
                    self.close_connection = True
                    return
                text = server.model(body)
                answer = {
                    "id": "x",
                    "object": "text_completion",
                    "created": 0,
                    "model": body["model"],
                    "choices": [{"index": 0, "text": text, "logprobs": None, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": 1, "completion_tokens": len(text), "total_tokens": 1},
                }
                if text.endswith("…"):
                    answer["choices"][0]["finish_reason"] = "length"
                if fault == "rubbish":
                    answer = {"never": "mind"}
                self._json(answer, cut=fault == "cut")

            def _json(self, value: dict, status: int = 200, cut: bool = False) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if cut else content)
                if cut:
                    self.close_connection = True

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_address[1]}"

    def endpoint(self, at_once: int = 4) -> Endpoint:
        """Where it is asked."""
        return Endpoint(self.address, self.name, at_once)

    def __enter__(self) -> "DummyServer":
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._http.shutdown()
        self._http.server_close()


def station(folder, seed=0):
    """A finished model folder: the tiny base, unless another is written there."""
    write_base(folder, seed)
    listed = {p.name: {"size": p.stat().st_size, "sha256": files.sha256(p)} for p in folder.iterdir()}
    manifest.write(folder, {}, files=listed)
    return folder


def finished_run(root, run=RUN):
    """A workspace in which a run is finished (untrained, but nobody looks)."""
    workspace = Workspace(root)
    folder = workspace.run(run)
    if not workspace.model("tiny").exists():
        station(workspace.model("tiny"))
    station(folder.final, seed=run.round.number)
    files.write_json(folder.run_json, {"request": {"base": {"path": str(workspace.model("tiny"))}}})
    return workspace


def problems(count=3, subset=None):
    """Sums, each with what is expected."""
    return ProblemSet(
        "sums", tuple(Problem(str(n + n), f"What is {n}+{n}?", subset=subset) for n in range(10, 10 + count))
    )


def request(workspace, server=None, modes=("cot",), run=RUN, asked=None, before=False, **sampling):
    """A request for the run's final model, answered by a server of ours."""
    drawn = Sampling(**{"samples": 2, "temperature": 0.6, "top_p": 0.95, "max_tokens": 50, **sampling})
    models = {"before": workspace.model("tiny")} if before else {}
    models["after"] = workspace.run(run).final
    means = Means(server.address if server else None, True, "none", "cot")
    return EvalRequest(run, asked or problems(), modes, drawn, models, means)


def sum_in(body):
    """The right answer to the sum in a prompt, as a model would give it."""
    question = body["prompt"].rsplit("What is ", 1)[1].split("?")[0]
    return f"It is \\boxed{{{sum(map(int, question.split('+')))}}}."


ENGINE = Engine("vllm", "0.17.1", "cuda", "bfloat16")


def graded(right, given="7"):
    return Graded(given, right, right, False, True, 100, 0)


def found(
    benchmark="comp-math-24-25",
    subsets=("aime24", "aime25"),
    differences=(),
    sampling=sampling_of(recipe.run("7b")),
    mode="cot",
):
    """Two problems of each subset, two samples each, of which one and both are right."""
    problems = [Problem("7", f"{subset} {n}", subset=subset) for subset in subsets for n in range(2)]
    rows = [[graded(True), graded(n % 2 == 0, "7" if n % 2 == 0 else None)] for n in range(len(problems))]
    result = model_result(problems, rows, list(differences), (Path("final"), Path("eval/x")))
    inputs = EvalInputs("p", "q", {"after": "id"}, sampling, ENGINE, "grading 1")
    return EvalResult(benchmark, mode, inputs, {"after": result})
