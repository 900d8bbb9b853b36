"""A Llama 3 in small: tokens and chat template of its own, scaled rope, no padding token. Data to final/."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from omr import recipe
from omr.errors import OmrError, RequestError
from omr.models import base_model, passport
from omr.recipe import reader
from omr.settings import ROOT, SETTINGS
from omr.workspace import RunFolder, Workspace

BEGIN, END, TURN, PAD = "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>"
ROLE = ("<|start_header_id|>", "<|end_header_id|>")
# The scaled rope of Llama 3.1, and of 3.2 with another factor: config.json of meta-llama's repositories.
SCALING = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
    "rope_type": "llama3",
}
TEMPLATE = """
{{- '<|begin_of_text|>' }}
{%- for message in messages %}
    {%- if message['content'] %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
        {{- message['content'] + '<|eot_id|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
RECIPE = """
[corpus]
files = "."
prompts = "prompts"
prompt_tokenizer = {folder = "base"}

[columns]
names = ["question", "reply"]
problem = "question"
solution = "reply"

[splits]
main = {file = "train.jsonl", prompt = "plain"}

[rounds]
round1 = {number = 1, steps = 8, averaged = [0.5, 1.0]}

[training]
engine = "trl"
nodes = 1
gpus = 0
batch = 8
sequence_length = 96

[models]
small = {lr = 1e-3, min_lr = 1e-6, tensor_parallel = 1, context_parallel = 1, parameters = 0.2e6}

[bases]
small = {folder = "base"}

[context]
small = {max_position_embeddings = 131072, rope_theta = 500000.0}

[architectures.small]
family = "llama"
hidden = 96
layers = 2
heads = 6
kv_heads = 2
inner = 256
vocabulary = 320
tied = true
norm_epsilon = 1e-5
dtype = "F32"

[architectures.small.rope_scaling]
factor = 8.0
low_freq_factor = 1.0
high_freq_factor = 4.0
original_max_position_embeddings = 8192
rope_type = "llama3"

[chat]
template = "llama3.jinja"
message_end = "<|eot_id|>"
pad = "<|finetune_right_pad_id|>"

[evaluation]
benchmark = "held_out.jsonl"
samples = 1
max_tokens = 8
"""


def write_base(folder):
    """Files as in a Llama 3's repository: bytes as tokens, no chat template, no padding token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    encoder = Tokenizer(models.BPE({letter: n for n, letter in enumerate(letters)}, []))
    encoder.pre_tokenizer, encoder.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
    encoder.add_special_tokens([BEGIN, END, TURN, PAD, *ROLE])
    # As Llama 3's: whoever asks for special tokens gets another BEGIN.
    encoder.post_processor = processors.TemplateProcessing(
        f"{BEGIN} $A", special_tokens=[(BEGIN, encoder.token_to_id(BEGIN))]
    )
    PreTrainedTokenizerFast(tokenizer_object=encoder, bos_token=BEGIN, eos_token=END).save_pretrained(folder)
    ids = {"bos_token_id": encoder.token_to_id(BEGIN), "eos_token_id": encoder.token_to_id(END)}
    torch.manual_seed(0)
    config = LlamaConfig(
        **ids,
        hidden_size=96,
        num_hidden_layers=2,
        num_attention_heads=6,
        num_key_value_heads=2,
        intermediate_size=256,
        vocab_size=320,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        max_position_embeddings=131072,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    path = folder / "config.json"
    said = json.loads(path.read_text())
    del said["rope_parameters"]  # the repositories spell it as transformers 4 does
    path.write_text(json.dumps(said | {"rope_theta": 500000.0, "rope_scaling": SCALING}))


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A folder with the base, the rows and the recipe."""
    folder = tmp_path_factory.mktemp("llama3")
    (folder / "prompts/config").mkdir(parents=True)
    (folder / "prompts/config/plain.yaml").write_text("user: |-\n  {problem}\n")
    (folder / "llama3.jinja").write_text(TEMPLATE)
    rows = [{"question": f"{n} + 1", "reply": f"\\boxed{{{n + 1}}}"} for n in range(64)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "held_out.jsonl").write_text('{"problem": "70 + 1", "expected_answer": "71"}\n')
    (folder / "own.toml").write_text(RECIPE.lstrip())
    write_base(folder / "base")
    return folder


@pytest.fixture
def model(there, monkeypatch):
    monkeypatch.setenv("RECIPE", str(there / "own.toml"))
    recipe.forget()
    yield recipe.model("small")
    monkeypatch.undo()
    recipe.forget()


def make(there, *words):
    env = {k: v for k, v in os.environ.items() if k not in SETTINGS and not k.startswith(("MAKE", "MFLAGS"))}
    env |= {"OMR_ENV_FILE": "/dev/null", "OMR_VENV": sys.prefix, "WORKSPACE": str(there / "workspace")}
    command = ["make", *words, f"RECIPE={there / 'own.toml'}"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=ROOT, timeout=600)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_from_rows_to_the_final_model(there):
    assert make(there, "check-recipe").endswith("nothing wrong was found\n")
    make(there, "data")
    line = json.loads((there / "workspace/data/own-round1.jsonl").open().readline())
    head, tail = f"{BEGIN}{ROLE[0]}user{ROLE[1]}\n\n", f"{TURN}{ROLE[0]}assistant{ROLE[1]}\n\n"
    assert (
        line["input"].startswith(head)
        and line["input"].endswith(tail)
        and line["output"].endswith("}" + TURN)
    )
    make(there, "model", "MODEL=small")
    make(there, "train", "MODEL=small")
    folder = RunFolder(there / "workspace/runs/own-small/round1")
    assert sorted(path.name for path in folder.hf.glob("step_*")) == ["step_4", "step_8"]
    final = folder.final

    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(final)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": line["input"][len(head) : -len(tail)]}],
        tokenize=False,
        add_generation_prompt=True,
    )
    assert asked == line["input"]
    assert (tokenizer.eos_token, tokenizer.pad_token) == (TURN, PAD)
    config = json.loads((final / "config.json").read_text())
    # transformers 4 reads rope_scaling and rope_theta, 5 reads rope_parameters.
    assert config["rope_theta"] == 500000.0
    assert config["rope_parameters"] == config["rope_scaling"] == SCALING | {"rope_theta": 500000.0}
    generation = json.loads((final / "generation_config.json").read_text())
    known = {token: tokenizer.convert_tokens_to_ids(token) for token in (TURN, END, PAD)}
    assert (
        generation["eos_token_id"] == [known[TURN], known[END]] and generation["pad_token_id"] == known[PAD]
    )
    model = AutoModelForCausalLM.from_pretrained(final)
    plain = [500000.0 ** (-2 * n / 16) for n in range(8)]
    scaled = model.model.rotary_emb.inv_freq.tolist()
    assert scaled[0] == pytest.approx(plain[0]) and scaled[-1] == pytest.approx(plain[-1] / 8)
    assert f"an answer ends with `{TURN}`" in (final / "README.md").read_text()
    assert "pass@1" in make(there, "eval", "MODEL=small")


WRONG = [
    ({"rope_scaling": None}, "rope_scaling is absent"),
    ({"rope_scaling": SCALING | {"factor": 32.0}}, "rope_scaling.factor is 32.0, .* the llama3 rope"),
    ({"rope_scaling": {"rope_type": "llama3"}}, "rope_scaling.factor is absent"),
    ({"rope_scaling": SCALING | {"rope_type": "yarn"}}, "rope_scaling.rope_type is yarn"),
]


@pytest.mark.parametrize("keys, said", WRONG)
def test_another_rope_is_refused(there, tmp_path, model, keys, said):
    for path in (there / "base").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    passport.check(tmp_path, model, "published")
    config = json.loads((tmp_path / "config.json").read_text()) | keys
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(OmrError, match=said):
        passport.check(tmp_path, model, "published")


@pytest.mark.parametrize(
    "old, new, said",
    [
        ('pad = "<|finetune_right_pad_id|>"\n', "", "pad_token is None, training says a token of its own"),
        ('pad = "<|finetune_right_pad_id|>"', 'pad = "<|no|>"', "pad_token is None, training says a token"),
        ('message_end = "<|eot_id|>"', f'message_end = "{ROLE[0]}"', None),
    ],
)
def test_tokens_that_the_base_has_not(there, model, monkeypatch, old, new, said):
    file = there / "other.toml"
    file.write_text(RECIPE.lstrip().replace(old, new))
    monkeypatch.setenv("RECIPE", str(file))
    recipe.forget()
    if said is None:  # a token of the template: it cannot be told that no message ends with it
        passport.check(there / "base", recipe.model("small"), "published")
        return
    with pytest.raises(OmrError, match=said):
        passport.check(there / "base", recipe.model("small"), "published")


def test_chatml_is_what_a_recipe_has_that_says_nothing():
    assert reader.read(reader.FOLDER / "tiny.toml").corpus.chat == recipe.Chat()


def test_another_model_in_the_recipe_s_folder_is_noticed(there, tmp_path, model, monkeypatch):
    """The folder that [bases] names is held by its content, as BASE is; where it is gone, the copy stays."""
    shutil.copytree(there, tmp_path / "mine", ignore=shutil.ignore_patterns("workspace"))
    monkeypatch.setenv("RECIPE", str(tmp_path / "mine/own.toml"))
    recipe.forget()
    model, workspace, base = recipe.model("small"), Workspace(tmp_path / "ws"), tmp_path / "mine/base"
    made = base_model.make(model, workspace, None)
    assert base_model.make(model, workspace, None) == made
    path = base / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(RequestError, match=rf"another {path.name} than now stands in {base}; FORCE=1 makes"):
        base_model.make(model, workspace, None)
    shutil.rmtree(base)
    assert base_model.make(model, workspace, None) == made
