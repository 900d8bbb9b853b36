"""Models of each family: the table against transformers' own classes, and a base that is held to it."""

import dataclasses
import json

import pytest

from omr import recipe
from omr.errors import OmrError
from omr.models import base_model, passport
from omr.models.architecture import SHAPE
from omr.recipe import memory, reader
from omr.recipe.families import FAMILIES, head_width, tensors
from omr.workspace import Workspace

# Published sizes, with the parameters that the hub counts in their weights.
LLAMA_3_8B = recipe.Architecture(4096, 32, 32, 8, 14336, 128_256, False, 1e-5, family="llama")
QWEN_3_8B = recipe.Architecture(4096, 36, 32, 8, 12288, 151_936, False, 1e-6, family="qwen3", head=128)
QWEN_3_06B = recipe.Architecture(1024, 28, 16, 8, 3072, 151_936, True, 1e-6, family="qwen3", head=128)
PUBLISHED = [(LLAMA_3_8B, 8_030_261_248), (QWEN_3_8B, 8_190_735_360), (QWEN_3_06B, 596_049_920)]


@pytest.mark.parametrize("architecture, count", PUBLISHED)
def test_the_published_counts_of_parameters(architecture, count):
    assert memory.parameters(architecture) == count


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [architecture for architecture, _ in PUBLISHED])
def test_the_table_is_transformers_own(architecture):
    import torch
    import transformers
    from transformers import AutoModelForCausalLM

    family = FAMILIES[architecture.family]
    numbers = {key: getattr(architecture, field) for key, field in SHAPE.items()}
    numbers |= {"head_dim": head_width(architecture)}
    config = getattr(transformers, family.loader.replace("ForCausalLM", "Config"))(**numbers)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert type(model).__name__ == family.loader and config.model_type == family.model_type
    theirs = {key: tuple(tensor.shape) for key, tensor in model.named_parameters()}
    assert tensors(architecture) == theirs


@pytest.fixture
def a_recipe(tmp_path, monkeypatch):
    """The tiny recipe in another family, in force."""

    def put_in_force(family, more=""):
        text = (reader.FOLDER / "tiny.toml").read_text()
        text = text.replace("../tiny/prompts", str(reader.FOLDER.parent / "tiny/prompts"))
        text = text.replace('dtype = "F32"', f'dtype = "F32", family = "{family}"{more}')
        (tmp_path / "mine.toml").write_text(text)
        monkeypatch.setenv("RECIPE", str(tmp_path / "mine.toml"))
        recipe.forget()
        return recipe.model("tiny")

    yield put_in_force
    monkeypatch.delenv("RECIPE", raising=False)
    recipe.forget()


def no_download(*_, **__):
    raise AssertionError("nothing is downloaded")


@pytest.mark.slow
@pytest.mark.parametrize(
    "family, more", [("qwen2", ""), ("qwen3", ", head = 32"), ("llama", ""), ("llama", ", head = 8")]
)
def test_a_base_of_each_family(tmp_path, a_recipe, family, more):
    model = a_recipe(family, more)
    made = base_model.make(model, Workspace(tmp_path / "ws"), no_download)
    folder = tmp_path / "ws/models/mine-tiny"
    assert made["tensors"] == len(tensors(recipe.ARCHITECTURES["tiny"]))
    assert passport.check(folder, model, "patched")["architecture"] == FAMILIES[family].loader
    config = json.loads((folder / "config.json").read_text())
    assert (config["max_position_embeddings"], config["rope_theta"]) == (131072, 500000.0)
    # Held to another family it is refused in a line.
    for other in set(FAMILIES) - {family}:
        held = a_recipe(other)
        with pytest.raises(OmrError) as refused:
            passport.check(folder, held, "patched")
        assert "\n" not in str(refused.value) and "RECIPE=" in str(refused.value)


@pytest.mark.parametrize(
    "family, more, key, value, said",
    [
        ("llama", "", "attention_bias", True, "attention_bias is True"),
        ("llama", "", "head_dim", 8, "head_dim is 8"),
        ("llama", "", "rope_scaling", {"rope_type": "llama3"}, "rope_scaling.rope_type is llama3"),
        (
            "qwen3",
            ", head = 32",
            "head_dim",
            None,
            "head_dim is 128",
        ),  # what a Qwen3 takes where nothing is said
        ("qwen3", ", head = 32", "architectures", ["Qwen2ForCausalLM"], "architecture is Qwen2ForCausalLM"),
        ("qwen2", "", "attention_bias", False, "attention_bias is False"),
    ],
)
def test_a_setting_that_is_not_the_familys(tmp_path, a_recipe, family, more, key, value, said):
    model = a_recipe(family, more)
    base_model.make(model, Workspace(tmp_path / "ws"), no_download)
    path = tmp_path / "ws/models/mine-tiny/config.json"
    config = json.loads(path.read_text()) | {key: value}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    with pytest.raises(OmrError, match=said):
        passport.check(path.parent, model, "patched")


@pytest.mark.slow
@pytest.mark.parametrize("family, more", [("qwen3", ", head = 32"), ("llama", "")])
def test_transformers_computes_with_a_base_of_each_family(tmp_path, a_recipe, family, more):
    import torch
    from transformers import AutoModelForCausalLM

    base_model.make(a_recipe(family, more), Workspace(tmp_path / "ws"), no_download)
    model, told = AutoModelForCausalLM.from_pretrained(
        tmp_path / "ws/models/mine-tiny", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"]
    assert torch.isfinite(model(torch.tensor([[5, 6, 7]])).logits).all()


def test_a_tokenizer_without_the_end_of_a_message(tmp_path, a_recipe):
    """A run of it would fail when it is trained: said when it is brought."""
    model = dataclasses.replace(a_recipe("llama"))
    base_model.make(model, Workspace(tmp_path / "ws"), no_download)
    path = tmp_path / "ws/models/mine-tiny/tokenizer.json"
    path.write_text(path.read_text().replace("<|im_end|>", "<|eot_id|>"))
    with pytest.raises(OmrError, match=r"tokenizer.json: <\|im_end\|> is absent, training says a token"):
        passport.check(path.parent, model, "published")
