"""Both ways of keeping rope: transformers 4.57 and the installed 5.x, for real, on the files that we write.

transformers 4.57 (without torch) goes into a small environment of its own, build/transformers-4.57, once.
"""

import json
import shutil
import subprocess
import sys

import pytest

from omr import recipe
from omr.models import rope, tokens
from omr.models.final import average
from omr.settings import ROOT

OLD = "4.57.6"
LOOK = """
import json, sys
import transformers
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
texts = [chr(a) + "<|im_end|> x" + chr(b) * 3 + "<think>" for a in range(40, 100) for b in range(40, 90)]
old = transformers.__version__.startswith("4.")
for folder in sys.argv[1:]:
    config = AutoConfig.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "user", "content": "1+1?"}]
    asked = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    said = {
        "version": transformers.__version__,
        "positions": config.max_position_embeddings,
        "theta": config.rope_theta if old else config.rope_parameters["rope_theta"],
        "eos": config.eos_token_id,
        "end": tokenizer.eos_token,
        "asked": asked,
        "ids": tokenizer(asked + "2<|im_end|>")["input_ids"],
        "many": hash(tuple(map(tuple, tokenizer(texts)["input_ids"]))),  # of numbers: alike everywhere
        "ends": GenerationConfig.from_pretrained(folder).eos_token_id,
    }
    try:
        import torch
        from transformers import AutoModelForCausalLM
        model = AutoModelForCausalLM.from_pretrained(folder)
        width = config.hidden_size // config.num_attention_heads
        said["computed"] = float(model.model.rotary_emb.inv_freq[-1]) ** (-width / (width - 2))
    except ImportError:
        pass
    print(json.dumps(said))
"""


def look(python, *folders):
    """What a transformers in a process of its own reads from each model folder."""
    done = subprocess.run([str(python), "-c", LOOK, *map(str, folders)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def old():
    """The python of an environment with transformers 4.57."""
    venv = ROOT / "build" / "transformers-4.57"
    python = venv / "bin" / "python"
    if not (venv / ".done").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", f"transformers=={OLD}", "jinja2"]
        done = subprocess.run(install, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(
                f"transformers {OLD} cannot be installed: {done.stderr.strip().splitlines()[-1][:200]}"
            )
        (venv / ".done").touch()
    return python


def right(said, finished):
    assert (said["positions"], said["theta"]) == (131072, 500000.0)
    if "computed" in said:
        assert said["computed"] == pytest.approx(500000.0, rel=1e-3)
    if finished:
        assert said["end"] == "<|im_end|>" and said["ids"][-1] in said["eos"] and len(said["eos"]) == 2
        user = "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
        assert said["asked"] == f"<|im_start|>system\n<|im_end|>\n{user}"


@pytest.mark.slow
def test_patched_converted_and_averaged_are_read_alike(trained, old):
    workspace, run = trained
    average.make(run, workspace)
    folder = workspace.run(run)
    models = [workspace.model("tiny"), folder.hf_step(run.schedule.averaged[0]), folder.final]
    for model, new, before in zip(models, look(sys.executable, *models), look(old, *models), strict=True):
        assert before["version"] == OLD and new["version"].startswith("5.")
        for said in (new, before):
            right(said, model == folder.final)
        for what in ("ids", "asked", "many", "ends"):
            assert new[what] == before[what]


@pytest.mark.slow
def test_a_tokenizer_that_transformers_5_saved_is_read_by_4(trained, old, tmp_path):
    """The converter of the pinned image saves with 5.3, whose list of further tokens 4.x fails on."""
    workspace, _ = trained
    for name in ("saved", "written"):
        shutil.copytree(workspace.model("tiny"), tmp_path / name)
        path = tmp_path / name / "tokenizer_config.json"
        settings = json.loads(path.read_text())
        settings["extra_special_tokens"] = settings.pop("additional_special_tokens")
        path.write_text(json.dumps(settings))
    with pytest.raises(AssertionError, match="'list' object has no attribute 'keys'"):
        look(old, tmp_path / "saved")
    assert tokens.write_old_name(tmp_path / "written") and not tokens.write_old_name(tmp_path / "written")
    folders = [tmp_path / "written", workspace.model("tiny")]
    said = [*look(old, *folders), *look(sys.executable, *folders)]
    assert len({each["many"] for each in said}) == 1 and len({each["asked"] for each in said}) == 1


@pytest.mark.slow
def test_one_home_alone_is_not_enough(trained, old, tmp_path):
    """Why both are written: each version computes with 10000 when its own home is missing or wrong."""
    workspace, _ = trained
    homes = {"rope_type": "default", "rope_theta": 500000.0}
    wanted = {
        "new home alone": ({"rope_theta": None, "rope_parameters": homes}, (500000.0, 10000.0)),
        "new home wrong": ({"rope_parameters": {**homes, "rope_theta": 10000.0}}, (10000.0, 500000.0)),
        "both": ({"rope_theta": None, "rope_parameters": homes}, (500000.0, 500000.0)),
    }
    for name, (change, _) in wanted.items():
        shutil.copytree(workspace.model("tiny"), tmp_path / name)
        path = tmp_path / name / "config.json"
        config = {**json.loads(path.read_text()), **change}
        path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    rope.write_both(tmp_path / "both", recipe.model("tiny"))
    folders = [tmp_path / name for name in wanted]
    seen = zip(look(sys.executable, *folders), look(old, *folders), strict=True)
    found = {name: (new["theta"], before["theta"]) for name, (new, before) in zip(wanted, seen, strict=True)}
    assert found == {name: thetas for name, (_, thetas) in wanted.items()}
