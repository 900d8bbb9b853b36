"""The base's files under the name of a converted step; refuses an output that is there, as NeMo-RL's does."""

import json
import shutil
import sys
from pathlib import Path

words = dict(zip(sys.argv[1::2], sys.argv[2::2], strict=True))
out, base = (
    Path(words["--hf-ckpt-path"]),
    Path(json.loads(Path(words["--config"]).read_text())["policy"]["model_name"]),
)
assert not out.exists(), f"{out} exists"
out.mkdir(parents=True)
for path in base.iterdir():
    if path.name != "manifest.json":
        shutil.copy(path, out / path.name)
