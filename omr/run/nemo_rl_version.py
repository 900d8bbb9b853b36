"""The versions of NeMo-RL that this toolkit can run: everything of ours that depends on one, a row each.

Another version is another row, its list of keys beside omr/training/nemo_rl/keys.txt, and its tag and image
in docker/pins.env, which chooses the row. `make engine-check NEMO_RL_SOURCE=` holds a row against a checkout.
"""

from dataclasses import dataclass

from omr.settings import get, pins


@dataclass(frozen=True)
class NemoRlVersion:
    """What a version is like; paths without a slash before them are seen from NeMo-RL's folder."""

    tag: str
    folder: str  # of the code in its image
    python: str  # of its driver's environment in the image
    workers: str  # the folder in the image with its workers' environments
    keys: str  # file beside omr/training/nemo_rl/keys.py with its keys
    example: str  # the configuration that ours begins with
    script: str  # that trains
    converter: str  # of a checkpoint to Hugging Face's format
    converter_extra: str  # of `uv run --extra`
    weights: str  # the folder that Megatron's weights have within a checkpoint
    parts: tuple[str, ...]  # files of a whole checkpoint
    hooks: tuple[str, ...]  # names in nemo_rl/algorithms/sft.py that our driver puts its own in place of
    taken: tuple[tuple[str, ...], ...]  # a function among them, and the first parameters that ours takes


VERSIONS = {
    row.tag: row
    for row in (
        NemoRlVersion(
            tag="v0.6.0",
            folder="/opt/nemo-rl",
            python="/opt/nemo_rl_venv/bin/python",
            workers="/opt/ray_venvs",
            keys="keys.txt",
            example="examples/configs/sft.yaml",
            script="examples/run_sft.py",
            converter="examples/converters/convert_megatron_to_hf.py",
            converter_extra="mcore",
            weights="policy/weights/iter_0000000",
            parts=(
                *("training_info.json", "config.yaml", "train_dataloader.pt"),
                "policy/weights/iter_0000000/.metadata",
            ),
            hooks=("TimeoutChecker", "CheckpointManager", "Logger", "setup", "validate"),
            taken=(
                ("setup", "master_config", "tokenizer", "train_dataset", "val_dataset"),
                ("validate", "policy", "val_dataloader"),
            ),
        ),
    )
}
PINNED_VERSION = VERSIONS[pins()["NEMO_RL_VERSION"]]  # the one that is trained with


def nemo_rl_folder() -> str:
    """The folder that NeMo-RL is run from: NEMO_RL, else the one in the training image."""
    return get("NEMO_RL") or PINNED_VERSION.folder
