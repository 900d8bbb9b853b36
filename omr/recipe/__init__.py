"""Every number of a recipe: models, rounds, corpus, evaluation. Standard library only.

The numbers stand in omr/recipes/*.toml, or in the file that RECIPE names. `reader` reads and checks one,
`types` says what it consists of, and `lookup` finds in the recipes in force what a user's words name;
`editions` has what the sources of the published recipe say differently about the training. MODELS,
CORPORA and the other tables are read at their first use: a faulty file is refused where errors are told.
"""

from typing import Any

from omr.recipe import lookup
from omr.recipe.chat import Chat
from omr.recipe.editions import EDITIONS, PINNED, Edition
from omr.recipe.lookup import (
    asked_modes,
    chat,
    context,
    corpus,
    data_words,
    derive,
    forget,
    in_force,
    model,
    model_words,
    modes,
    of_model,
    paths_of,
    round_,
    run,
    run_words,
    scaling,
    shipped,
    use,
    words,
)
from omr.recipe.types import (
    SHIPPED,
    Architecture,
    Columns,
    Corpus,
    Evaluation,
    Filter,
    Model,
    Number,
    Pin,
    Prompt,
    Recipe,
    Round,
    Run,
    Schedule,
    sequence_divisor,
)

__all__ = [
    "EDITIONS",
    "PINNED",
    "SHIPPED",
    "Architecture",
    "Chat",
    "Columns",
    "Corpus",
    "Edition",
    "Evaluation",
    "Filter",
    "Model",
    "Number",
    "Pin",
    "Prompt",
    "Recipe",
    "Round",
    "Run",
    "Schedule",
    "asked_modes",
    "chat",
    "context",
    "corpus",
    "data_words",
    "derive",
    "forget",
    "in_force",
    "model",
    "model_words",
    "modes",
    "of_model",
    "paths_of",
    "round_",
    "run",
    "run_words",
    "scaling",
    "sequence_divisor",
    "shipped",
    "use",
    "words",
]


def __getattr__(name: str) -> Any:
    """MODELS, CORPORA, ROUNDS, ARCHITECTURES, TRAINED_EPSILON, SPLITS: of the recipes in force."""
    if name in lookup.Tables.__annotations__:
        return getattr(lookup.tables(), name)
    raise AttributeError(name)
