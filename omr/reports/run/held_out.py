"""The loss on held-out rows: at the saves of the training, and of the averaged model beside its parts."""

from collections.abc import Mapping, Sequence

from omr.errors import listing
from omr.reports import pages
from omr.reports.pages import Section
from omr.reports.run.training import numbers
from omr.run.frozen import FrozenRun
from omr.run.validation import LOSS, loss_of

AXIS = "loss (nats per trained token)"


def section(
    began: FrozenRun, rows: Sequence[dict], models: Mapping[str, Mapping[str, float]], words: str
) -> Section | None:
    """None where nothing was held out.

    `rows` are the metrics, each step once, `models` the losses that make validate found and that
    still hold, `words` name the run.
    """
    held_out = began.data.validation
    if not held_out:
        return None
    counts = listing([f"{file.rows:,} of {file.split}" for file in held_out], "and")
    text = f"Rows of problems that no training row is of: {counts}, without those too long to be trained."
    names = {LOSS: "all"} if len(held_out) > 1 else {}
    names |= {loss_of(file.split): file.split for file in held_out}
    series = [pages.Series(name, numbers(rows, key)) for key, name in names.items()]
    series = [one for one in series if len(one.points) > 1]
    caption = "The training's loss on them at its saves."
    figures = [pages.line_plot(series, "optimiser step", AXIS, caption)] if series else []
    header, table = ["model", *names.values()], []
    for model, losses in models.items():
        table.append([model, *(f"{losses[key]:.4f}" if key in losses else "–" for key in names)])
    after = (
        "" if table else f"The averaged model and its parts were not looked at yet: make validate {words}."
    )
    return Section("Held-out problems", text, header if table else (), table, figures, after=after)
