"""What an evaluation would lack on its node, as far as the login node can know."""

from pathlib import Path

from omr import recipe, settings
from omr.errors import RequestError
from omr.recipe import nemo_skills

JUDGED = ("hle",)  # whose answers a second model compares, because they are no numbers or formulas


def problems(run: recipe.Run) -> None:
    """A RequestError where an evaluation by the settings would have no problems to ask, or no prompt."""
    benchmark, file = settings.get("BENCHMARK"), settings.get("PROBLEMS")
    refuse_judged(benchmark)
    if file and not Path(file).is_absolute():
        raise RequestError(f"PROBLEMS={file}: a job stands in another folder; give the whole path")
    if file and not Path(file).exists():
        raise RequestError(f"PROBLEMS={file} is not there; correct it, or leave it out for the recipe's own")
    if file and benchmark:
        raise RequestError(f"BENCHMARK={benchmark} and PROBLEMS={file} are both set; leave one out")
    found = recipe.of_model(run.model)
    needs_prompts = found.corpus.prompt_folder is None
    wanted = None if file or found.evaluation.own else found.evaluation.benchmark
    # What an image has of nemo-skills, a node finds out.
    if (needs_prompts or benchmark or wanted) and not settings.get("CONTAINER"):
        nemo_skills.folder()
        if asked := benchmark or wanted:
            nemo_skills.data_set(asked)


def refuse_judged(benchmark: str | None) -> None:
    """A RequestError for a benchmark that is graded by a judge."""
    if benchmark in JUDGED:
        raise RequestError(
            f"BENCHMARK={benchmark}: its answers are compared by a judge, a second model, which NeMo-Skills"
            " alone runs; add LAUNCHER=ns, or choose another benchmark"
        )
