"""Reads the configuration, prints the overrides, trains."""

import os
import sys
from pathlib import Path

import yaml
from nemo_rl.algorithms.sft import setup, sft_train


class HeldOut:
    """Two rows of each split, as NeMo-RL keeps the held-out rows: of one data set, with the sets' names."""

    def __init__(self, splits):
        self.dataset = {"task_name": [f"3f-validation-{split}" for split in splits for _ in range(2)]}

    def __len__(self):
        return len(self.dataset["task_name"])

    def __getitem__(self, number):
        question = {"role": "user", "tokens": 5, "loss": 99.0}
        answer = {"role": "assistant", "tokens": 10 + number, "loss": float(number)}
        return {"message_log": [question, answer], "loss_multiplier": 1.0}


def held_out(config):
    """None where data.validation names no set."""
    splits = [Path(values["data_path"]).stem for values in config["data"]["validation"] or ()]
    return HeldOut(splits) if splits else None


config = yaml.safe_load(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
for word in sys.argv:
    if word.startswith("++checkpointing.save_period="):
        config["checkpointing"]["save_period"] = int(word.partition("=")[2])
print("overrides", [word for word in sys.argv if word.startswith("++")], flush=True)
print("ray", os.environ.get("STAND_IN_RAY"), os.environ.get("RAY_AUTH_MODE"), flush=True)
sft_train(*setup(config, held_out(config)))
