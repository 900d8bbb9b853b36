"""What the evaluations of a run found, as sections of its page: numbers by subset, majority by samples."""

from collections.abc import Iterator, Mapping

from omr.evaluation import results
from omr.evaluation.published import published
from omr.evaluation.results import ALL, EvalResult
from omr.reports import pages
from omr.reports.pages import Section

NOTE = (
    "pass@1 is the mean over all samples, ± its standard error over the samples; majority is the most"
    " frequent answer. All numbers are percent, but for problems and tokens."
)


def sections(found: Mapping[str, EvalResult], model: str, words: str) -> Iterator[Section]:
    """A section for each mode that was evaluated; `model` is a row of the recipes, `words` name the run."""
    if not found:
        yield Section("Accuracy", text=f"Not evaluated yet: make eval {words}.")
    for mode, result in found.items():
        drawn, engine = result.inputs.sampling, result.inputs.engine
        text = (
            f"{result.benchmark}, {drawn.samples} samples a problem, temperature {drawn.temperature:g}, top_p"
            f" {drawn.top_p:g}, up to {drawn.max_tokens:,} tokens, by {engine.name} {engine.version}. {NOTE}"
        )
        yield Section(
            f"Accuracy, {mode}",
            text,
            [cell or " " for cell in results.header(result)],
            results.table(result, model),
            list(_figures(result, model)),
        )


def _figures(result: EvalResult, model: str) -> Iterator[pages.Figure]:
    """pass@1 with its error for each subset, beside the published; majority by the number of samples."""
    bars: dict[str, dict[str, tuple[float, float]]] = {}
    for when, of_model in result.models.items():
        for subset, numbers in _subsets(of_model.scores):
            bars.setdefault(when, {})[subset] = (100 * numbers.pass1, 100 * (numbers.error or 0))
            known = published(model, result.mode, result.benchmark, subset)
            if known and known.pass1 is not None:
                bars.setdefault("published", {})[subset] = (known.pass1, 0.0)
    beside = ", beside the published numbers" if "published" in bars else ""
    caption = f"pass@1 with its standard error{beside}."
    yield pages.error_bars(bars, "pass@1 (%)", caption)
    if result.inputs.sampling.samples > 1:
        curves = [
            pages.Series(
                f"{when}, {subset}", [(k, 100 * share) for k, share in enumerate(n.majority_by_k, 1)]
            )
            for when, of_model in result.models.items()
            if when != "before"
            for subset, n in _subsets(of_model.scores)
        ]
        caption = "How often the most frequent answer of the first k samples is right."
        yield pages.line_plot(curves, "samples k", "majority@k (%)", caption)


def _subsets(scores: Mapping[str, results.Score]) -> Iterator[tuple[str, results.Score]]:
    """The subsets, or all problems where there are none."""
    return ((name, one) for name, one in scores.items() if name != ALL or len(scores) == 1)


def sentence(found: Mapping[str, EvalResult]) -> str:
    """Accuracy in a sentence, of the first mode that was evaluated; empty where none was."""
    models = next(iter(found.values())).models if found else {}
    if "after" not in models:
        return ""
    after, before = models["after"].scores[ALL], models.get("before")
    shares = [*([f"{before.scores[ALL].pass1:.3f} before"] if before else []), f"{after.pass1:.3f} after"]
    return f" Accuracy on {after.problems} problems: {', '.join(shares)}."
