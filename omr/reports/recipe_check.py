"""What can be wrong with a recipe that its file alone does not show: sizes, prompts, real rows, memory."""

import itertools
from collections.abc import Iterator
from pathlib import Path

from omr.data import prompts
from omr.data.by_recipe import local
from omr.errors import OmrError, RequestError, listing
from omr.evaluation.problems import read as read_problems
from omr.recipe import Architecture, Corpus, Model, Pin, Recipe, memory, nemo_skills, sequence_divisor
from omr.recipe.chat import Rendering
from omr.recipe.families import head_width
from omr.workspace import Workspace

ROWS = 200  # of each split that are filled and counted
ROUNDED = 0.25  # share by which a rounded count of parameters may differ


def faults(recipe: Recipe, workspace: Workspace) -> Iterator[str]:
    """A line for each fault: the key, what is wrong, and what to write."""
    longest = min(row.sequence_length for row in recipe.models.values())
    for name, row in recipe.models.items():
        for fault in _of_model(row, recipe.architectures[name], recipe):
            yield f"{recipe.path}: models.{name}: {fault}"
    for split in recipe.corpus.splits:
        for fault in _of_split(recipe.corpus, split, longest, workspace):
            yield f"{recipe.path}: splits.{split}: {fault}"
    if recipe.evaluation.benchmark.endswith(".jsonl"):
        try:
            next(read_problems(Path(recipe.evaluation.benchmark)))
        except OmrError as error:
            yield f"{recipe.path}: evaluation.benchmark: {error}"


def _of_model(model: Model, architecture: Architecture, recipe: Recipe) -> Iterator[str]:
    """Sizes that do not go together."""
    parallel, gpus = model.tensor_parallel, model.nodes * model.gpus
    sizes = {
        "heads": architecture.heads,
        "kv_heads": architecture.kv_heads,
        "inner": architecture.inner,
        "vocabulary": architecture.vocabulary,
    }
    for key, size in sizes.items():
        if size % parallel:
            other = _divisor(size, parallel)
            yield f"tensor_parallel {parallel} does not divide {key} {size:,}; write {other}"
    copies, context = parallel * model.context_parallel, model.context_parallel
    if gpus and gpus % copies:
        yield f"tensor_parallel {parallel} by context_parallel {context} do not divide {gpus} GPUs"
    elif gpus and model.batch % (gpus // copies):
        yield f"batch {model.batch:,} is no multiple of the {gpus // copies} copies of the model; write one"
    tokens, divisor = model.sequence_length, sequence_divisor(parallel, context)
    if tokens % divisor:
        yield f"sequence_length {tokens:,} is no multiple of {divisor}, to which rows are padded"
    most = recipe.contexts[model.name]["max_position_embeddings"][1]
    if tokens > most:
        yield f"sequence_length {tokens:,} is beyond max_position_embeddings {most:,}; write less"
    if head_width(architecture) % 2:
        yield f"a head has {head_width(architecture)} dimensions; rope needs an even number"
    count = memory.parameters(architecture)
    if abs(count / model.parameters - 1) > ROUNDED:
        yield f"parameters {model.parameters:,.0f} are not those of its architecture; write {count:,}"
    if gpus and model.engine == "nemo-rl":
        need = memory.estimate(model, architecture)
        if need.total > memory.GPU:
            more = "raise tensor_parallel or context_parallel"
            yield f"{told(need)} on each GPU, an H100 has {memory.GPU / 1e9:.0f} GB; {more}"


def _divisor(size: int, most: int) -> int:
    return max(n for n in range(1, most + 1) if size % n == 0)


def told(need: memory.Estimate) -> str:
    """An estimate in words."""
    parts = {"weights": need.weights, "optimiser": need.optimizer, "activations": need.activations}
    return f"needs {need.total / 1e9:.0f} GB ({', '.join(f'{k} {v / 1e9:.1f}' for k, v in parts.items())})"


def _of_split(corpus: Corpus, split: str, longest: int, workspace: Workspace) -> Iterator[str]:
    """A prompt that cannot be filled, or that the final model would not be asked with; rows of one's own
    files that are malformed or too long.
    """
    if not_there(corpus, workspace):
        return  # make data proves them
    try:
        loaded = prompts.tokenizer(corpus, _tokenizer(corpus, workspace))
        prompt = prompts.load(corpus, split, loaded)
        compiled = prompts.compile(prompt, corpus.sources(split))
        rows = _rows(corpus, split)
        if corpus.files and not rows:
            yield f"{corpus.files[split]} has no row; write some, a line of JSON each"
        values = [{f: row[s] for f, s in corpus.sources(split).items() if s in row} for row in rows]
        rendering, texts = Rendering(loaded, corpus.chat.template), []
        for row, value in zip(rows, values, strict=True):
            if None in (*value.values(), row[corpus.columns.solution]):
                yield f"{corpus.files[split]} has a row with null where the prompt needs a text; leave it out"
                return
            if len(value) == len(corpus.sources(split)):  # no formula
                solution = row[corpus.columns.solution]
                if compiled.exact:
                    prompts.prove(compiled, prompt, [(value, solution)])
                prompts.prove_asked(rendering, prompt, value, solution)
                texts.append(prompt.fill(value) + prompt.format_assistant_response(solution))
        if not rows:
            example = dict.fromkeys(corpus.sources(split), "7")
            prompts.prove_asked(rendering, prompt, example, "7")
        counts = [len(loaded.encode(text, add_special_tokens=False)) for text in texts]
        if long := sum(count > longest for count in counts):
            yield (
                f"{long:,} of its first {len(counts):,} rows have over sequence_length {longest:,} tokens (up"
                f" to {max(counts):,}), and would not be learned from; raise it"
            )
    except (OmrError, RequestError) as error:
        yield str(error)


def _tokenizer(corpus: Corpus, workspace: Workspace) -> Path | None:
    """The folder of the prompts' tokenizer, where make data puts it; None: the tiny one."""
    pin = corpus.prompt_tokenizer
    return workspace.tokenizer(pin.repo) if isinstance(pin, Pin) else pin


def not_there(corpus: Corpus, workspace: Workspace) -> str | None:
    """What of a corpus's prompts is not on this machine, and how to get it; None if all is."""
    folder = _tokenizer(corpus, workspace)
    if isinstance(corpus.prompt_tokenizer, Pin) and not folder.is_dir():
        return f"{corpus.prompt_tokenizer.repo}, whose template the prompts have (make data brings it)"
    if corpus.prompt_folder is None and not nemo_skills.installed():
        return "nemo-skills, whose prompts these are (make nemo)"
    return None


def _rows(corpus: Corpus, split: str) -> list[dict]:
    """The first rows of a split's own files."""
    if not corpus.files:
        return []
    return list(itertools.islice(local.rows(corpus, split), ROWS))


def summary(recipe: Recipe, workspace: Workspace) -> list[str]:
    """What was looked at, and what a training needs, in lines for a person."""
    lines = [f"{recipe.path}: {recipe.name}, splits {listing(recipe.corpus.splits, 'and')}"]
    for name, row in recipe.models.items():
        if name not in recipe.unlisted:
            need = told(memory.estimate(row, recipe.architectures[name])) if row.gpus else "trains on the CPU"
            lines.append(f"{name}: {memory.parameters(recipe.architectures[name]):,} parameters, {need}")
    if missing := not_there(recipe.corpus, workspace):
        lines.append(f"note: the prompts were not filled: there is no {missing}")
    return lines
