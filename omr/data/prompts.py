"""NeMo-Skills prompt -> compiled prompt: constant pieces with the row's values between them.

A prompt fills its user message with str.format and wraps it by the tokenizer's chat template. Both
only concatenate, so one filling tells the constant pieces. A template might do something else with a text
(cut its ends, look for a word in it), so the pieces are held against the prompt's own filling: of EXAMPLES
here, and of real rows before any shard is formatted (omr/data/stage.py). A prompt that differs on an EXAMPLE
fills every row itself, which is slow, and right. That a template of the published form only concatenates is
shown in tests/data/test_prompts.py, with a text that refuses to be looked at.
"""

import hashlib
import json
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from omr import files, recipe
from omr.errors import OmrError, RequestError, listing
from omr.files import Json
from omr.recipe import nemo_skills
from omr.recipe.chat import Rendering

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBLEM = "problem"
# Texts that a template which looks into them may change: known ones cut thoughts, tool calls and blanks.
EXAMPLES = (
    *("", " ", " blanks around it \n", "two\n\n\nlines", "no", "# {problem} {{ x }} {% y %}"),
    *("<think>\nfirst\n</think>\n\nthen", "<tool_call>\n{}\n</tool_call>", "<|im_end|>\n<|im_start|>user\n"),
)

TOKENIZER_FILES = (
    *("tokenizer*", "*vocab*", "merges.txt"),
    *("chat_template*", "special_tokens_map.json", "added_tokens.json"),
)


@dataclass(frozen=True)
class TokenizerSource:
    """Where a tokenizer comes from."""

    setting: str  # the user's word for a folder of it
    folder: Path | None  # None: the tiny one, which no folder holds
    pin: recipe.Pin | None  # what is brought into the folder; None where the folder is the user's


class Prompt(Protocol):
    """What a NeMo-Skills prompt and our small one have in common."""

    def fill(self, values: dict[str, str | int]) -> str:
        """The `input` string of a row's values."""
        ...

    def format_assistant_response(self, content: str) -> str:
        """The `output` string of a solution."""
        ...


@dataclass(frozen=True)
class Compiled:
    """Constant pieces of `input` and `output`; values stand between them.

    input = pieces[0] + fields[0] + pieces[1] + …; output = before + solution + after. Where `exact` is
    False the pieces are unproved and a row must be filled by the prompt itself.
    """

    pieces: tuple[str, ...]
    fields: tuple[str, ...]
    before: str
    after: str
    exact: bool = True

    def input(self, values: dict[str, str | int]) -> str:
        """The `input` string of a row."""
        parts = [self.pieces[0]]
        for field, piece in zip(self.fields, self.pieces[1:], strict=True):
            parts += [str(values[field]), piece]
        return "".join(parts)

    @staticmethod
    def of(value: Json) -> "Compiled":
        """From the plain values that `asdict` gave."""
        return Compiled(**{**value, "pieces": tuple(value["pieces"]), "fields": tuple(value["fields"])})

    def output(self, solution: str) -> str:
        """The `output` string of a row."""
        return self.before + solution + self.after


def tokenizer(corpus: recipe.Corpus, folder: Path | None) -> "PreTrainedTokenizerBase":
    """The tokenizer whose chat template wraps the corpus's prompts: of a folder, or the tiny one."""
    if folder is None:
        from omr.tiny.tokenizer import tiny_tokenizer

        assert corpus.prompt_tokenizer is None
        return _in_own_words(corpus, tiny_tokenizer())
    from transformers import AutoTokenizer

    return _in_own_words(corpus, AutoTokenizer.from_pretrained(folder, trust_remote_code=False))


def _in_own_words(corpus: recipe.Corpus, loaded: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """The tokenizer with the recipe's chat template, where it brings one."""
    if corpus.chat.own:
        loaded.chat_template = corpus.chat.template
    return loaded


def identity(folder: Path) -> str:
    """What a folder's tokenizer is, whoever brought it there."""
    names = sorted({path.name for pattern in TOKENIZER_FILES for path in folder.glob(pattern)})
    if "tokenizer_config.json" not in names:
        raise RequestError(f"{folder}: has no tokenizer_config.json; name a folder with a whole tokenizer")
    hashes = {name: files.sha256(folder / name) for name in names}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def load(
    corpus: recipe.Corpus, split: str, tokenizer: "PreTrainedTokenizerBase", config: str | None = None
) -> Prompt:
    """The prompt of a split, with an empty system message, as the recipe asks NeMo-Skills for it.

    `config` names another configuration than the split's own. Without nemo-skills (it is on no package
    index): a RequestError that says how to get it.
    """
    prompt = corpus.prompts[split]
    config = config or prompt.config
    if config is None:
        config = {"user": "{problem}"}
    elif corpus.prompt_folder:
        config = read_yaml(config_file(corpus, config))
    if corpus.prompt_folder:
        return YamlPrompt(config, tokenizer)
    try:
        from nemo_skills.prompt.utils import get_prompt
    except ImportError as error:
        raise RequestError(nemo_skills.missing(error)) from None
    return get_prompt(config, tokenizer=tokenizer, code_tags=prompt.code_tags, system_message="")


def config_file(corpus: recipe.Corpus, name: str) -> Path:
    """The YAML file of a prompt configuration; a RequestError without nemo-skills."""
    return _folder(corpus) / "config" / f"{name}.yaml"


def code_tags_file(corpus: recipe.Corpus, name: str) -> Path:
    """The YAML file of what stands around code and its output; a RequestError without nemo-skills."""
    return _folder(corpus) / "code_tags" / f"{name}.yaml"


def digest(corpus: recipe.Corpus, splits: Iterable[str]) -> str | None:
    """Hex digest of a recipe's own prompt files; None for those of nemo-skills, which its commit tells."""
    if corpus.prompt_folder is None:
        return None
    named = [corpus.prompts[split].config for split in splits]
    texts = [json.dumps(read_yaml(config_file(corpus, name))) for name in named if name]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def _folder(corpus: recipe.Corpus) -> Path:
    """The folder of a corpus's prompts: the recipe's own, or that of the installed nemo-skills."""
    return corpus.prompt_folder or nemo_skills.folder() / "prompt"


def read_yaml(path: Path) -> Json:
    """A prompt's YAML file; a RequestError where it is none, or has no user message."""
    import yaml

    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RequestError(
            f"{path}: {error.strerror}; write this prompt, or name another in [splits]"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: is not YAML ({' '.join(str(error).split())[:100]}); mend it") from None
    if not isinstance(config, dict) or not isinstance(config.get("user"), str):
        raise RequestError(
            f"{path}: has no user message; write `user: |-` and the text with {{problem}} below it"
        )
    return config


class YamlPrompt:
    """The part of NeMo-Skills' YAML prompts that recipes with prompts of their own use."""

    def __init__(self, config: Json, tokenizer: "PreTrainedTokenizerBase", system: str | None = "") -> None:
        self.user: str = config["user"]
        self.system, self.tokenizer = system, tokenizer

    def fill(self, values: dict[str, str | int]) -> str:
        """System and user message by the chat template, up to where the answer begins."""
        # str.format on the template alone: braces in a problem are text.
        user = self.user.format(examples="", **values)
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return _chat(self.tokenizer, [*system, {"role": "user", "content": user}], add_generation_prompt=True)

    def format_assistant_response(self, content: str) -> str:
        """The answer as the chat template closes it."""
        return _answer(self.tokenizer, content)


def _chat(tokenizer: "PreTrainedTokenizerBase", messages: list[dict], **options: bool) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def _answer(tokenizer: "PreTrainedTokenizerBase", content: str) -> str:
    """What the template adds to a conversation when `content` answers an empty message."""
    user = {"role": "user", "content": ""}
    before = _chat(tokenizer, [user], add_generation_prompt=True)
    whole = _chat(tokenizer, [user, {"role": "assistant", "content": content}])
    if not whole.startswith(before):
        raise OmrError("the chat template changes what stands before an answer; use the recipe's tokenizer")
    return whole[len(before) :]


def compile(prompt: Prompt, sources: Mapping[str, str]) -> Compiled:
    """The constant pieces of a prompt, `exact` when it fills the EXAMPLES so, too.

    `sources` has the fields that it is filled with (Corpus.sources). A RequestError for a prompt that needs
    others, or is no text of str.format.
    """
    marks = {field: f"\ue000{field}\ue001" for field in sources}
    try:
        filled = prompt.fill(marks)
    except (KeyError, IndexError, ValueError, AttributeError) as error:
        told = f"needs the field {error}" if isinstance(error, KeyError) else f"cannot be filled ({error})"
        raise RequestError(
            f"the prompt {told}, and the recipe fills {listing(sources, 'and')}; write fields in [splits], or"
            " double a brace that is text"
        ) from None
    if not isinstance(filled, str):
        # Later releases answer with messages; the recipe belongs to the pinned commit.
        raise OmrError(
            f"nemo-skills fills a prompt to a {type(filled).__name__}, not to text; {nemo_skills.missing()}"
        )
    fields = sorted((f for f in marks if marks[f] in filled), key=lambda f: filled.index(marks[f]))
    pieces, rest = [], filled
    for field in fields:
        piece, _, rest = rest.partition(marks[field])
        pieces.append(piece)
    before, mark, after = prompt.format_assistant_response(marks[PROBLEM]).partition(marks[PROBLEM])
    once = all(filled.count(marks[f]) == 1 for f in fields) and mark and PROBLEM in fields
    compiled = Compiled((*pieces, rest), tuple(fields), before, after)
    numbers = {field for field, source in sources.items() if source.endswith("()")}
    rows = [({field: "7" if field in numbers else text for field in sources}, text) for text in EXAMPLES]
    exact = (
        bool(once)
        and _plain_user(prompt, sources)
        and all(_fault(compiled, prompt, *row) is None for row in rows)
    )
    return replace(compiled, exact=exact)


def _plain_user(prompt: Prompt, fields: Iterable[str]) -> bool:
    """Whether the user message is one str.format of plain fields, without examples that depend on the row."""
    config = getattr(prompt, "config", None)
    if config is not None:
        shots = config.few_shot_examples
        if shots.examples_type is not None or shots.retriever is not None:
            return False
    user = config.user if config is not None else prompt.user
    plain = {"examples", *fields}
    return all(
        field is None or (field in plain and not spec and conversion is None)
        for _, field, spec, conversion in string.Formatter().parse(user)
    )


def prove(compiled: Compiled, prompt: Prompt, rows: list[tuple[dict[str, str | int], str]]) -> None:
    """An OmrError at the first row (values, solution) that the prompt itself fills otherwise."""
    for values, solution in rows:
        if fault := _fault(compiled, prompt, values, solution):
            raise OmrError(f"{fault}; its chat template looks into texts: set TOKENIZER to the recipe's own")


def prove_asked(rendering: Rendering, prompt: Prompt, values: dict[str, str | int], solution: str) -> None:
    """A RequestError where the final model would be asked with another text than this row trains it with."""
    fault = rendering.fault(prompt.fill(dict(values)), prompt.format_assistant_response(solution))
    if fault:
        raise RequestError(
            f"{fault}: the final model would be asked otherwise than it was trained; write [chat] into the"
            " recipe, with the template of its prompts, or set TOKENIZER to the recipe's own"
        )


def _fault(compiled: Compiled, prompt: Prompt, values: dict[str, str | int], solution: str) -> str | None:
    """How the compiled prompt differs from the prompt itself on a row, or None."""
    if compiled.input(values) != prompt.fill(dict(values)):
        return f"the compiled prompt differs from its own filling of {values[PROBLEM]!r:.80}"
    if compiled.output(solution) != prompt.format_assistant_response(solution):
        return f"the compiled answer differs from its own formatting of {solution!r:.80}"
    return None
