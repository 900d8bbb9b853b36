"""What a link checks before it trains, in seconds: data, base, image, disk, NeMo-RL's file and prepared data.

Every failure is an OmrError of one line, which stops the chain: another link would fail in the same way.
"""

import os
import shutil

from omr import manifest, settings
from omr.cluster import frozen_code, slurm, train
from omr.cluster.allocation.attempt import Attempt
from omr.errors import OmrError
from omr.run import frozen, lease
from omr.run.chain_state import ChainState
from omr.run.frozen import FrozenRun
from omr.training import preflight
from omr.training.nemo_rl import checks, engine_file


def check_inputs(attempt: Attempt) -> None:
    """Freeze the run, or check that it is the one that was begun, and that all it needs is unchanged."""
    folder, state = attempt.folder, ChainState.load(attempt.folder)
    frozen_code.check(folder)
    preflight.secrets_file()
    preflight.image(os.environ.get("CONTAINER"))
    began = frozen.freeze(folder, frozen.inputs(attempt.request, attempt.workspace))
    how = preflight.data(began.data, state.data, settings.on("VERIFY"))
    if how == preflight.WHOLE:
        state.data = manifest.fingerprint(began.data.path)
        state.save(folder)
    preflight.base(began.base, attempt.run)
    preflight.disk(folder.root, attempt.run.model)
    if began.engine == "nemo-rl":
        check_nemo_rl(attempt, began)
    print(f"data proved by {how}; base, image and disk are as they must be", flush=True)


def check_nemo_rl(attempt: Attempt, began: FrozenRun) -> None:
    """NeMo-RL reads what the run was submitted with: its file, and the prepared data."""
    from omr.training.nemo_rl import prepared_data

    file = train.engine_file_of(attempt.request, attempt.workspace)
    path = file.path
    if not path.exists():
        raise OmrError(f"{path}: is gone; make train writes it again")
    if changed := checks.changes(path.read_text(), file.text, but=("logger",)):
        raise OmrError(f"{path}: is not what this run reads: {'; '.join(changed)}; make train says more")
    engine_file.check(file, began)
    data = began.data
    if folder := prepared_data.unfinished(attempt.workspace, data.sha256, began.limit, data.validation):
        raise OmrError(
            f"{folder}: the prepared data is not there, or not whole; make train prepares it again"
        )


def reused_inputs(attempt: Attempt) -> dict[str, str]:
    """Variables that tell NeMo-RL's driver where the data set and the converted base are already made.

    The converted base counts only once a run has loaded from it; a half-made one is removed. Where another
    live job is converting it, this run makes one of its own. Empty for the one-box engine.
    """
    if attempt.request.engine != "nemo-rl":
        return {}
    from omr.models import convert
    from omr.training.nemo_rl import prepared_data

    began = frozen.need(attempt.run, attempt.folder)
    cache = convert.cache(attempt.workspace, began.base.path)
    if not convert.cached(cache):
        try:
            lease.take(cache.with_name(f"{cache.name}.lease"), attempt.job, attempt.restart, slurm.is_active)
        except lease.Held:
            cache = attempt.folder.root / "megatron"
        if not convert.cached(cache):
            shutil.rmtree(cache, ignore_errors=True)
    return {
        **prepared_data.environment(attempt.workspace, began.data, began.limit),
        "NRL_MEGATRON_CHECKPOINT_DIR": str(cache),
    }
