"""Settings of torch and transformers for all that this toolkit does with them."""

import os
import warnings


def let_threads_sleep() -> None:
    """Make torch's threads sleep, not spin, while they wait for each other; call it before torch is imported.

    Spinning gains a little on an idle machine. Where another process wants the cores, it made a step of the
    tiny recipe nine times as long.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def no_advice() -> None:
    """Keep transformers from advising to install torch, which the data tier does without."""
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def quiet() -> None:
    """Turn off the warnings and progress bars of transformers, torch, TRL and accelerate."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore", module="torch|transformers|trl|accelerate")
