"""Reads the configuration, prints the overrides, trains."""

import os
import sys
from pathlib import Path

import yaml
from nemo_rl.algorithms.sft import setup, sft_train

config = yaml.safe_load(Path(sys.argv[sys.argv.index("--config") + 1]).read_text())
for word in sys.argv:
    if word.startswith("++checkpointing.save_period="):
        config["checkpointing"]["save_period"] = int(word.partition("=")[2])
print("overrides", [word for word in sys.argv if word.startswith("++")], flush=True)
print("ray", os.environ.get("STAND_IN_RAY"), os.environ.get("RAY_AUTH_MODE"), flush=True)
sft_train(config, *setup(config, None, None, None))
