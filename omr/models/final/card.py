"""The model card, README.md of final/: front matter for the hub, then where everything came from.

`make average` writes it; `make publish` writes it again with what an evaluation has found since, and with the
name under which the model can be loaded.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from omr import recipe
from omr.errors import listing
from omr.files import Json
from omr.models import architecture
from omr.run.frozen import FrozenRun

FILE = "README.md"
_PATH = re.compile(r"(?<![\w./])~?/[^\s'\"]*[^\s'\"/]")  # an absolute one, as a word or after a =


@dataclass(frozen=True)
class Accuracy:
    """A number of an evaluation, for the table and for the hub's model-index."""

    benchmark: str
    subset: str
    mode: str  # cot, tir, genselect
    metric: str  # pass@1, majority@64
    value: float  # percent
    error: float | None = None  # its standard error, percent


def text(
    began: FrozenRun,
    data: Json,
    steps: list[int],
    known: Sequence[str] = (),
    found: Sequence[Accuracy] = (),
    repo: str | None = None,
) -> str:
    """The card of a run's final model: the mean of `steps`, with its `known` departures.

    `data` is the manifest of the training data, `found` what an evaluation of the model has found, `repo` the
    hub's name of the model, where it has one. It names no path of this machine.
    """
    name = f"{began.run.model.name} after {began.run.key}"
    end = recipe.chat(began.run.model).message_end
    front = "\n".join(f"{key}: {json.dumps(value)}" for key, value in _front(began, name, found).items())
    rows = "\n".join(f"| {key} | {value} |" for key, value in _facts(began, data, steps, known).items())
    return (
        f"---\n{front}\n---\n\n# {name}\n\n| | |\n| --- | --- |\n{rows}\n\n"
        f"Ask it with its chat template, with no system message; an answer ends with `{end}`, and its"
        " final result stands in `\\boxed{}`. The weights are the mean, in fp32, of the averaged steps.\n"
        + (_accuracy(found) if found else "")
        + (_use(repo) if repo else "")
    )


def _front(began: FrozenRun, name: str, found: Sequence[Accuracy]) -> Json:
    """The front matter, by the hub's keys."""
    model, corpus = began.run.model, recipe.corpus(began.run.model.corpus)
    shipped = corpus.name in recipe.SHIPPED
    return {
        # The bases of the shipped recipes are Apache-2.0; what another base asks for is its user's to know.
        "license": "apache-2.0" if shipped else "other",
        **({"base_model": model.base.repo} if model.base else {}),
        **({"datasets": [corpus.source.repo]} if corpus.source else {}),
        "language": ["en"],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["math", "sft"] if shipped else ["sft"],
        **({"model-index": [{"name": name, "results": [_result(one) for one in found]}]} if found else {}),
    }


def _result(one: Accuracy) -> Json:
    """An entry of model-index."""
    return {
        "task": {"type": "text-generation", "name": f"{one.mode} solutions"},
        "dataset": {"type": one.benchmark, "name": f"{one.benchmark}, {one.subset}", "config": one.subset},
        "metrics": [{"type": one.metric, "value": round(one.value, 2), "name": f"{one.metric}, {one.mode}"}],
    }


def _facts(began: FrozenRun, data: Json, steps: list[int], known: Sequence[str]) -> dict[str, str]:
    """What the card's first table says."""
    run, model, start = began.run, began.run.model, began.base
    corpus = recipe.corpus(model.corpus)
    folder = recipe.of_model(model).folders.get(model.name)
    loader = architecture.family(model).loader.removesuffix("ForCausalLM")
    made = folder.name if folder else f"a random tiny {loader}"
    own = listing([path.name for path in corpus.files.values()], "and") or f"the {corpus.name} corpus"
    corpus_line = f"{corpus.source.repo} at {corpus.source.revision}" if corpus.source else own
    trained = ", ".join(f"{key} {new:,.0f}" for key, (_, new) in recipe.context(model).items())
    left_out = sum(counts.get("dropped", {}).get("DROP", 0) for counts in data.get("splits", {}).values())
    held_out = data.get("validation")
    title = "OpenMathReasoning" if corpus.name in recipe.SHIPPED else corpus.name
    return {
        "Recipe": f"{title} SFT, {run.title}",
        "Base": f"{model.base.repo} at {model.base.revision}" if model.base else made,
        "Context": trained if model.patched else "as published",
        "Started from": f"`{start.path.name}`, identity `{start.identity[:16]}`",
        "Data": f"{corpus_line}; {began.data.rows:,} rows, sha256 `{began.data.sha256[:16]}`",
        "Splits": ", ".join(data.get("inputs", {}).get("modes") or ()),
        **({"Rows left out": f"{left_out:,}, by a list (DROP)"} if left_out else {}),
        **({"Held out": f"{held_out['problems']:,} problems, to measure a loss on"} if held_out else {}),
        "Steps": f"{run.schedule.steps:,} of {model.batch:,} rows, warmup {run.schedule.warmup:,}",
        "Learning rate": f"{model.lr:g} to {model.min_lr:g}, cosine",
        "Engine": began.engine,
        "Averaged steps": ", ".join(f"{step:,}" for step in steps),
        **({"Known departure": "; ".join(known)} if known else {}),
        "Code": began.code,
        "Command": f"`{_portable(began.command)}`",
    }


def _portable(command: str) -> str:
    """A command without the folders of this machine: of an absolute path its last name is left."""
    return _PATH.sub(lambda path: f"…/{PurePosixPath(path[0]).name}", command)


def _accuracy(found: Sequence[Accuracy]) -> str:
    """What the evaluation found, as a table."""
    rows = [
        f"| {one.benchmark}, {one.subset} | {one.mode} | {one.metric} | {one.value:.1f}"
        f"{'' if one.error is None else f' ± {one.error:.1f}'} |"
        for one in found
    ]
    head = "\n## Accuracy\n\nPercent, ± the standard error over the samples.\n"
    return "\n".join([head, "| problems | asked as | number | % |", "| --- | --- | --- | --- |", *rows, ""])


def _use(repo: str) -> str:
    """How the model is run under its name on the hub."""
    return (
        "\n## Use\n\n```python\nfrom transformers import pipeline\n\n"
        f'ask = pipeline("text-generation", "{repo}")\n'
        'messages = [{"role": "user", "content": "What is 12+34?"}]\n'
        'print(ask(messages)[0]["generated_text"][-1]["content"])\n```\n\n'
        f"or as an OpenAI-compatible server: `vllm serve {repo}`.\n"
    )
