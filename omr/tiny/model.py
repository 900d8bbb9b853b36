"""The tiny base model: a Qwen2 with random weights, laid out as Qwen2.5-Math's repository is.

Its config.json spells `max_position_embeddings` and `rope_theta` as the published ones do, so that the
recipe's sed patch applies; its end of text is not the end of a message, as in the base models of the recipe.
Needs numpy, tokenizers, transformers and safetensors, never torch.
"""

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

END_OF_TEXT, MESSAGE_START, MESSAGE_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_SPECIAL = (END_OF_TEXT, MESSAGE_START, MESSAGE_END)
_TOOL = ("<tool_call>", "</tool_call>")

# Qwen2's own pattern: transformers 5 splits by it whatever a Qwen2 model's tokenizer.json says.
_PIECE = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Each piece of this text is one token; other text is spelt in parts of these and in bytes.
_TEXT = """system\nuser\nassistant\n
What is 1+1? Find the sum of 1 and 1. Compute 1+1.
Ann Bob has 1 apples and gets 1 more. How many apples are there?
1+1=1, so 1 and carry 1. 1+1+1=1. The sum is \\boxed{1}. The sum is 1. Check: 1-1=1.
Count: 1, 1.
Which solution of 1+1 is right?\nSolution 1: 1\nJudgment: 1
print(1+1)\n```output\n1\n```\n```system\nRemaining code executions: 1\nYou have run out of code executions!
Solve the problem, put the answer inside \\boxed{}.\n\nYou may use up to 1 Python calls.
"""

# As Qwen2.5's: a system message of its own where the conversation begins without one.
CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|im_start|>assistant\\n' }}"
    "{%- endif %}"
)

_SHAPE = {
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_attention_heads": 6,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
}
_DEVIATION = 0.05  # of the random weights; Qwen2's own 0.02 starts a model this narrow too slowly
_VOCABULARY = 512  # rows of the embedding; more than the tokenizer's, as Qwen's are


def _merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges that make each word one token: the most frequent pair first, ties by spelling."""
    parts = [list(word) for word in words]
    merges = []
    while pairs := Counter(pair for word in parts for pair in pairwise(word)):
        first, second = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append((first, second))
        for word in parts:
            for n in range(len(word) - 2, -1, -1):
                if word[n : n + 2] == [first, second]:
                    word[n : n + 2] = [first + second]
    return merges


def _engine() -> "Tokenizer":
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"), byte_level])
    words = dict.fromkeys(word for word, _ in pieces.pre_tokenize_str(_TEXT))
    merges = _merges(list(words))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate([*alphabet, *dict.fromkeys(a + b for a, b in merges)])}
    engine = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    engine.normalizer, engine.pre_tokenizer, engine.decoder = normalizers.NFC(), pieces, decoders.ByteLevel()
    engine.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in _SPECIAL])
    engine.add_tokens([AddedToken(t, normalized=False, special=False) for t in _TOOL])
    return engine


def tokenizer() -> "PreTrainedTokenizerFast":
    """The tokenizer of the tiny base model: a word of the tiny corpus is a token; with a ChatML template."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_engine(),
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )


def _weights(seed: int) -> dict[str, "numpy.ndarray"]:
    """Tensors by their Qwen2 names, fp32, normally distributed."""
    import numpy as np

    dice = np.random.default_rng(seed)
    width, inner, layers = (_SHAPE[k] for k in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    keys = width // _SHAPE["num_attention_heads"] * _SHAPE["num_key_value_heads"]

    def random(*shape: int) -> "numpy.ndarray":
        return (_DEVIATION * dice.standard_normal(shape)).astype(np.float32)

    tensors = {"model.embed_tokens.weight": random(_VOCABULARY, width)}
    for layer in range(layers):
        own = {
            "input_layernorm.weight": np.ones(width, np.float32),
            "self_attn.q_proj.weight": random(width, width),
            "self_attn.q_proj.bias": np.zeros(width, np.float32),
            "self_attn.k_proj.weight": random(keys, width),
            "self_attn.k_proj.bias": np.zeros(keys, np.float32),
            "self_attn.v_proj.weight": random(keys, width),
            "self_attn.v_proj.bias": np.zeros(keys, np.float32),
            "self_attn.o_proj.weight": random(width, width),
            "post_attention_layernorm.weight": np.ones(width, np.float32),
            "mlp.gate_proj.weight": random(inner, width),
            "mlp.up_proj.weight": random(inner, width),
            "mlp.down_proj.weight": random(width, inner),
        }
        tensors |= {f"model.layers.{layer}.{name}": tensor for name, tensor in own.items()}
    tensors["model.norm.weight"] = np.ones(width, np.float32)
    return tensors


def write_base(folder: Path, seed: int = 0) -> list[Path]:
    """Write weights, config.json, generation_config.json and the tokenizer's files; return their paths.

    The bytes follow from the seed. The caller gives an empty folder and makes it final.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    engine = _engine()
    end = engine.token_to_id(END_OF_TEXT)
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "attention_dropout": 0.0,
        "bos_token_id": end,
        "eos_token_id": end,
        "hidden_act": "silu",
        "hidden_size": _SHAPE["hidden_size"],
        "initializer_range": _DEVIATION,
        "intermediate_size": _SHAPE["intermediate_size"],
        "max_position_embeddings": 4096,
        "max_window_layers": _SHAPE["num_hidden_layers"],
        "model_type": "qwen2",
        "num_attention_heads": _SHAPE["num_attention_heads"],
        "num_hidden_layers": _SHAPE["num_hidden_layers"],
        "num_key_value_heads": _SHAPE["num_key_value_heads"],
        "rms_norm_eps": 1e-06,
        "rope_theta": 10000,
        "sliding_window": 4096,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",
        "transformers_version": "4.44.0",
        "use_cache": True,
        "use_mrope": False,
        "use_sliding_window": False,
        "vocab_size": _VOCABULARY,
    }
    generation = {"bos_token_id": end, "do_sample": False, "eos_token_id": end, "max_new_tokens": 2048}
    added = {
        str(engine.token_to_id(token)): {
            **dict.fromkeys(("lstrip", "normalized", "rstrip", "single_word"), False),
            "content": token,
            "special": token not in _TOOL,
        }
        for token in (*_SPECIAL, *_TOOL)
    }
    tokens = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": [MESSAGE_START, MESSAGE_END],
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": END_OF_TEXT,
        "model_max_length": 131072,
        "pad_token": END_OF_TEXT,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    save_file(_weights(seed), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "tokenizer.json").write_text(engine.to_str(pretty=True), encoding="utf-8")
    for name, value in (("config", config), ("generation_config", generation), ("tokenizer_config", tokens)):
        text = json.dumps(value, indent=2, ensure_ascii=False)
        (folder / f"{name}.json").write_text(f"{text}\n", encoding="utf-8")
    return sorted(folder.iterdir())
