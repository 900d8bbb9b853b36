"""Editions of the recipe: where its sources differ about the training itself, and which one says what.

The published models were trained with NeMo-Aligner; NeMo-Skills' page was then written anew for NeMo-RL, and
once more after a comparison of the old defaults with NeMo-RL's. Nothing else differs between the editions.
"""

from dataclasses import dataclass

PINNED = "pinned"
SKILLS = (
    "8b18f3992854bcb668095228a146e214c567b370"  # of NeMo-Skills: the recipe's text, as in docker/pins.env
)
ALIGNER = "3a3eba81d38cfda7742c11c17a64203486ea9603"  # its last commit before it left NeMo-Aligner
PAGE = "18fc72c36a19c9e6be3cdf0eb6c8247fa22d4ff9"  # of NeMo-Skills#1381, 2026: the newest page that is known


@dataclass(frozen=True)
class Edition:
    """What an edition says of a training, where they do not all say the same."""

    name: str
    text: str  # which recipe it is
    clip: float  # largest norm of a step's gradient; 0.0: it is not clipped
    own_epsilon: bool  # RMSNorm computes with the epsilon of each model's config.json, not the recipe's one
    trains_full_rows: bool  # a row of exactly the sequence length is trained; a longer one never is
    memory_level: int  # how often NeMo-RL gives unused memory back: 0 never, 1 once a step, 2 more


EDITIONS = {
    edition.name: edition
    for edition in (
        Edition(
            PINNED,
            "the text that this toolkit implements",
            clip=1.0,
            own_epsilon=False,
            trains_full_rows=True,
            memory_level=0,
        ),
        Edition(
            "published",
            "as the published models were trained, as far as that is known",
            clip=0.0,
            own_epsilon=True,
            trains_full_rows=True,
            memory_level=0,
        ),
        Edition(
            "current",
            "the newest official page",
            clip=0.0,
            own_epsilon=False,
            trains_full_rows=False,
            memory_level=1,
        ),
    )
}


@dataclass(frozen=True)
class Source:
    """Where a value of an edition is from."""

    file: str  # of NeMo-Skills, unless another repository is named
    commit: str  # of that repository
    says: str

    def __str__(self) -> str:
        return f"{self.says} (`{self.file}` at {self.commit[:8]})"


_PINNED_YAML, _PAGE = (
    "nemo_skills/training/nemo_rl/configs/sft.yaml",
    "docs/releases/openmathreasoning/training.md",
)
_CLIP = {
    PINNED: Source(_PINNED_YAML, SKILLS, "`clip_grad` left out: Megatron-Core's default"),
    "published": Source("nemo_skills/training/sft_config.yaml", ALIGNER, "`gradient_clip_val: null`"),
    "current": Source(_PAGE, PAGE, "written out"),
}
# By NeMo-RL's key: where each edition's value is from.
SOURCES = {
    "policy.max_grad_norm": _CLIP,
    "policy.megatron_cfg.optimizer.clip_grad": _CLIP,
    "policy.megatron_cfg.layernorm_epsilon": {
        PINNED: Source(_PINNED_YAML, SKILLS, "one for all models"),
        "published": Source("nemo_skills/conversion/hf_to_nemo_qwen.py", ALIGNER, "taken from config.json"),
        "current": Source(_PAGE, PAGE, "one for all models"),
    },
    "policy.megatron_cfg.empty_unused_memory_level": {
        PINNED: Source(_PINNED_YAML, SKILLS, "written out"),
        "published": Source("nemo_skills/training/sft_config.yaml", ALIGNER, "no such key, as pinned"),
        "current": Source(_PAGE, PAGE, "written out"),
    },
    "data.max_input_seq_length": {
        PINNED: Source("nemo_skills/training/nemo_rl/start_sft.py", SKILLS, "masks longer rows"),
        "published": Source(
            "nemo_skills/training/prepare_packed_ft_dataset.py", ALIGNER, "cuts longer rows alone"
        ),
        "current": Source(_PAGE, PAGE, "left to NeMo-RL, which masks rows of this length and more"),
    },
}
