"""Prints a configuration, all interpolations resolved, as the pinned NeMo-RL loads it.

Runs in the environment of `docker/venv nemo-rl`, from the folder of a checkout:
    load_config.py FILE [OVERRIDE…]
"""

import json
import sys
from pathlib import Path

from omegaconf import OmegaConf

sys.path.insert(0, str(Path.cwd()))
from nemo_rl.utils import config

config.register_omegaconf_resolvers()
values = config.load_config(sys.argv[1])
if overrides := sys.argv[2:]:
    values = config.parse_hydra_overrides(values, overrides)
print(json.dumps(OmegaConf.to_container(values, resolve=True)))
