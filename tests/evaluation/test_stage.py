"""Evaluations against a loopback server: kept sample by sample, asked once, counted as they were drawn."""

import dataclasses
import json
import random
import shutil
import threading
import time

import pytest

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.evaluation import asking, evaluation, results, stage
from omr.evaluation.evaluation import Part
from omr.evaluation.grading import rules
from omr.evaluation.results import ALL
from omr.evaluation.servers import base, client
from omr.evaluation.servers.process import ServerEnded
from omr.evaluation.stage import Evaluator, context
from tests.evaluation.kit import RUN, DummyServer, finished_run, problems, request, station, sum_in

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def final_is_what_it_is(monkeypatch):
    """An untrained model has no final's end tokens; test_evaluation.py looks at the proof itself."""
    monkeypatch.setattr(evaluation, "prove", lambda *_: None)
    monkeypatch.setattr(client, "RETRIES", 1)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def trained(trained_once, tmp_path):
    """A workspace in which tiny's round 1 is finished."""
    shutil.copytree(trained_once.root, tmp_path / "w", copy_function=shutil.copy2)
    workspace = dataclasses.replace(trained_once, root=tmp_path / "w")
    run = json.loads(workspace.run(RUN).run_json.read_text())
    run["request"]["base"]["path"] = str(workspace.model("tiny"))
    workspace.run(RUN).run_json.write_text(json.dumps(run))
    return workspace


def carry_out(asked, workspace, modes=None, force=False, part=None):
    """Ask and count; the results by mode."""
    said, found = [], {}
    with Evaluator(asked, workspace, said.append, part or Part()) as evaluator:
        for mode in modes or asked.modes:
            finished = None if force else evaluator.finished(mode)
            if finished is None:
                evaluator.ask(mode, force)
            if part is None:
                found[mode] = finished or evaluator.result(mode)
    return found, said


def wrong_in_one_of_four(body):
    """A model whose answer depends on the prompt and the seed alone."""
    rng = random.Random(f"{body['prompt']} {body['seed']}")
    return "It is \\boxed{1}." if rng.random() < 0.25 else sum_in(body)


def test_a_model_is_asked_once_and_its_numbers_are_those_of_its_answers(trained):
    with DummyServer(wrong_in_one_of_four) as server:
        asked = request(trained, server, samples=5)
        (result,) = carry_out(asked, trained)[0].values()
        assert len(server.requests) == 15
        # Asked again, by another evaluation: nothing is.
        assert carry_out(asked, trained)[0]["cot"] == result
        trained.run(RUN).eval_json.unlink()
        assert carry_out(asked, trained)[0]["cot"] == result
        assert len(server.requests) == 15
    scores = result.models["after"].scores[ALL]
    bodies = server.requests
    assert {body["seed"] for body in bodies} == set(range(5))
    right = sum("{1}" not in wrong_in_one_of_four(body) for body in bodies)
    assert scores.pass1 == right / 15 and 0 < right < 15
    assert results.read(trained.run(RUN).eval_json) == {"cot": result}


def test_more_samples_ask_for_those_alone(trained):
    with DummyServer(wrong_in_one_of_four) as server:
        carry_out(request(trained, server, samples=2), trained)
        carry_out(request(trained, server, samples=4), trained)
        assert sorted(body["seed"] for body in server.requests) == sorted([0, 1, 2, 3] * 3)
        (result,) = carry_out(request(trained, server, samples=2), trained)[0].values()
        assert result.models["after"].scores[ALL].samples == 2
        assert len(server.requests) == 12


@pytest.mark.parametrize("change", [{"temperature": 0.5}, {"top_p": 0.9}, {"max_tokens": 51}])
def test_another_sampling_is_another_evaluation(trained, change):
    with DummyServer(sum_in) as server:
        carry_out(request(trained, server), trained)
        carry_out(request(trained, server, **change), trained)
        assert len(server.requests) == 12


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "model.safetensors"])
def test_any_file_of_a_model_decides(trained, name):
    folder = trained.run(RUN).final
    with DummyServer(sum_in) as server:
        carry_out(request(trained, server), trained)
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(
            content[:-1] + bytes([content[-1] ^ 1]) if path.suffix == ".safetensors" else content + b"\n"
        )
        carry_out(request(trained, server), trained)
        assert len(server.requests) == 12


def test_the_order_of_answers_changes_nothing(trained, monkeypatch):
    def late(body):
        time.sleep(random.Random(body["prompt"]).random() / 20)
        return wrong_in_one_of_four(body)

    with DummyServer(late) as server:
        first = carry_out(request(trained, server, samples=3), trained)[0]["cot"]
        assert server.most_at_once > 1
        shutil.rmtree(trained.evaluations)
        trained.run(RUN).eval_json.unlink()
        monkeypatch.setattr(client.Endpoint, "at_once", 1, raising=False)
        again = carry_out(request(trained, server, samples=3), trained)[0]["cot"]
    assert again == first


def test_a_killed_evaluation_goes_on_at_its_last_answer(trained):
    with DummyServer(wrong_in_one_of_four) as server:
        asked = request(trained, server, samples=4)
        whole = carry_out(asked, trained)[0]["cot"]
        (path,) = trained.evaluations.glob("*/answers-*.jsonl")
        lines = path.read_text().splitlines(keepends=True)
        for kept, cut in ((0, 0), (1, 10), (7, 0), (11, 40), (12, 0)):
            path.write_text("".join(lines[:kept]) + (lines[kept][:cut] if cut else ""))
            trained.run(RUN).eval_json.unlink(missing_ok=True)
            server.requests.clear()
            assert carry_out(asked, trained)[0]["cot"] == whole
            assert len(server.requests) == 12 - kept


def test_parts_are_asked_apart_and_counted_together(trained):
    with DummyServer(wrong_in_one_of_four) as server:
        asked = request(trained, server, samples=5)
        carry_out(asked, trained, part=Part(1, 2))
        assert {body["seed"] for body in server.requests} == {1, 3}
        with (
            Evaluator(asked, trained) as evaluator,
            pytest.raises(OmrError, match=r": 9 of 15 answers are missing"),
        ):
            evaluator.result("cot")
        # The rest is shared out anew: what another number of parts answered counts.
        for number in range(3):
            carry_out(asked, trained, part=Part(number, 3))
        assert len(server.requests) == 15
        in_parts = carry_out(asked, trained)[0]["cot"]
        assert len(server.requests) == 15
        shutil.rmtree(trained.evaluations)
        trained.run(RUN).eval_json.unlink()
        assert carry_out(asked, trained)[0]["cot"] == in_parts


def test_force_asks_again(trained):
    with DummyServer(sum_in) as server:
        asked = request(trained, server)
        carry_out(asked, trained)
        carry_out(asked, trained, force=True)
        assert len(server.requests) == 12


def test_another_grader_grades_again_and_asks_nothing(trained, monkeypatch):
    with DummyServer(lambda body: "\\boxed{20.}") as server:
        asked = request(trained, server, asked=problems(1))
        assert carry_out(asked, trained)[0]["cot"].models["after"].scores[ALL].pass1 == 1
        (path,) = trained.evaluations.glob("*/verdicts-*.jsonl")
        assert len(path.read_text().splitlines()) == 1
        monkeypatch.setattr(rules, "VERSION", rules.VERSION + 1)
        result = carry_out(asked, trained)[0]["cot"]
        assert result.inputs.grader == rules.identity()
        assert len(path.read_text().splitlines()) == 2
        assert len(server.requests) == 2


def test_before_and_after(trained):
    with DummyServer(sum_in) as server:
        result = carry_out(request(trained, server, before=True), trained)[0]["cot"]
        assert list(result.models) == ["before", "after"]
        assert len(server.requests) == 12
        # Round 2 began with round 1's end: that is not asked again.
        second = recipe.run("tiny", 2)
        station(trained.run(second).final, seed=2)
        asked = request(trained, server, run=second)
        asked = dataclasses.replace(asked, models={"before": trained.run(RUN).final, **asked.models})
        again = carry_out(asked, trained)[0]["cot"]
        assert again.models["before"].answers == result.models["after"].answers
        assert len(server.requests) == 18
        assert len(list(trained.evaluations.iterdir())) == 3


def test_any_folder_may_be_asked(trained, tmp_path):
    folder = station(tmp_path / "other", seed=5)
    with DummyServer(sum_in) as server:
        asked = dataclasses.replace(request(trained, server), models={"alone": folder})
        assert carry_out(asked, trained)[0]["cot"].models["alone"].scores[ALL].pass1 == 1
    assert not trained.run(RUN).eval_json.exists()


def test_subsets_are_counted_apart(trained):
    asked = problems(2, "easy")
    asked = dataclasses.replace(asked, problems=(*asked.problems, *problems(1, "hard").problems[:1]))
    hard = dataclasses.replace(asked.problems[2], problem="What is 90+9?", expected_answer="99")
    asked = dataclasses.replace(asked, problems=(*asked.problems[:2], hard))
    with DummyServer(lambda body: "\\boxed{99}") as server:
        result = carry_out(request(trained, server, asked=asked), trained)[0]["cot"]
    scores = result.models["after"].scores
    assert {name: (one.problems, one.pass1) for name, one in scores.items()} == {
        **{"easy": (2, 0.0), "hard": (1, 1.0)},
        ALL: (3, pytest.approx(1 / 3)),
    }


def test_genselect_chooses_among_the_solutions(trained):
    def model(body):
        if "Which solution" in body["prompt"]:
            solutions = [line for line in body["prompt"].splitlines() if line.startswith("Solution")]
            return f"Judgment: {next(n for n, line in enumerate(solutions) if '30' not in line)}"
        return f"\\boxed{{{30 if body['seed'] % 2 else 20}}}"

    with DummyServer(model) as server:
        asked = request(trained, server, modes=("genselect",), asked=problems(1), samples=4)
        with pytest.raises(
            RequestError, match="of which 4 are missing; run make eval MODE=cot with the same"
        ):
            carry_out(asked, trained)
        found = carry_out(dataclasses.replace(asked, modes=("cot", "genselect")), trained)[0]
    assert found["cot"].models["after"].scores[ALL].pass1 == 0.5
    assert found["genselect"].models["after"].scores[ALL].pass1 == 1.0
    assert found["genselect"].inputs.solutions == "cot"
    assert found["genselect"].models["after"].compared == found["cot"].models["after"].scores
    rows = results.table(found["genselect"], "tiny")
    assert [row[:4] for row in rows] == [["after", "all", "1", "100.0"], ["", "  cot alone", "1", "50.0"]]
    assert set(results.read(trained.run(RUN).eval_json)) == {"cot", "genselect"}


def test_a_server_that_fails_leaves_what_was_answered(trained):
    with DummyServer(sum_in, faults=[*[200] * 0]) as server:
        asked = request(trained, server, samples=4)
        answered = []

        def model(body):
            answered.append(1)
            return sum_in(body) if len(answered) < 8 else 1 / 0  # the connection is cut

        server.model = model
        with pytest.raises(OmrError, match="does not answer; see whether the server runs"):
            carry_out(asked, trained)
        server.model = sum_in
        server.requests.clear()
        result = carry_out(asked, trained)[0]["cot"]
        assert len(server.requests) == 12 - 7
        assert result.models["after"].scores[ALL].pass1 == 1


def test_a_server_that_hangs_is_given_up(trained, monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 1.0)
    with DummyServer(wrong_in_one_of_four) as server:
        hung = threading.Event()

        def model(body):
            hung.set()
            time.sleep(6)
            return sum_in(body)

        server.model, server.hangs = model, hung
        begin = time.monotonic()
        with pytest.raises(
            OmrError, match=r"has not answered anything for 1 s; see whether the server hangs"
        ):
            carry_out(request(trained, server), trained)
        assert time.monotonic() - begin < 6


class EndingServer(base.Server):
    """A server of ours that ends after so many answers, each time that it is started."""

    engine = base.Engine("ending", "1", "cpu", "float32")

    def __init__(self, dummy, answers):
        super().__init__()
        self.dummy, self.answers, self.starts = dummy, answers, 0

    def serve(self, model):
        self.starts += 1
        begin, server = len(self.dummy.requests), self

        class Process:
            def check(self):
                if len(server.dummy.requests) - begin >= server.answers:
                    raise ServerEnded("the server ended (exit code -9: nothing)", server.log)

            def stop(self):
                pass

        self.processes = [Process()]
        return [self.dummy.endpoint(at_once=1)]


@pytest.mark.parametrize(("answers", "ends"), [(3, True), (0, False)])
def test_a_server_that_ends_is_started_again_while_answers_come(
    trained, monkeypatch, tmp_path, answers, ends
):
    monkeypatch.setattr(asking.process.watch, "__defaults__", (0.01,))

    def late(body):
        time.sleep(0.1)
        return sum_in(body)

    with DummyServer(late) as dummy:
        server = EndingServer(dummy, answers)
        server.log = tmp_path / "server.log"
        monkeypatch.setattr(stage, "server_for", lambda *_: server)
        asked = request(trained, None, samples=4)
        if ends:
            found, said = carry_out(asked, trained)
            assert found["cot"].models["after"].scores[ALL].pass1 == 1
            assert server.starts > 2
            assert said[0] == "note: the server ended (exit code -9: nothing); it is started again"
        else:
            with pytest.raises(ServerEnded, match="then run the same command again"):
                carry_out(asked, trained)
            assert server.starts == 1


def test_a_server_of_another_model_is_refused(trained):
    with DummyServer(sum_in) as server:
        asked = request(trained, server)
        asked = dataclasses.replace(asked, means=dataclasses.replace(asked.means, unproved=False))
        with pytest.raises(RequestError, match=r"serves dummy, and not .*/final; start it on"):
            carry_out(asked, trained)
        assert server.requests == []
        server.name = str(trained.run(RUN).final)
        carry_out(asked, trained)
        assert {body["model"] for body in server.requests} == {server.name}


def test_the_context_holds_the_longest_prompt_and_answer(trained):
    asked = request(trained)
    longest = dataclasses.replace(asked.problems.problems[0], problem="x" * 300)
    (trained.run(RUN).final / "config.json").write_text('{"max_position_embeddings": 512}')
    assert context(asked) == 512
    (trained.run(RUN).final / "config.json").write_text('{"max_position_embeddings": 131072}')
    asked = dataclasses.replace(asked, problems=dataclasses.replace(asked.problems, problems=(longest,)))
    assert context(asked) == 3 * 1024
    assert context(dataclasses.replace(asked, modes=("cot", "tir"))) == 22 * 1024
