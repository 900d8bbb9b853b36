"""NeMo-Skills prompt -> compiled prompt: constant pieces with the row's values between them.

A prompt fills its user message with str.format and wraps it by the tokenizer's chat template. Both
only concatenate, so one filling tells the constant pieces. That a template does nothing else with a text
(cut its ends, look for a word in it) is proved by rendering it with a text that refuses to be looked at,
and again, by example, on rows. A prompt that cannot be proved fills every row itself: slow, and right.
"""

import string
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from omr import recipe, settings
from omr.errors import OmrError, RequestError

PROBLEM, COUNT = "problem", "total_code_executions"
TINY = Path(__file__).parents[1] / "tiny" / "prompts"


class Prompt(Protocol):
    """What a NeMo-Skills prompt and our small one have in common."""

    def fill(self, values: dict[str, object]) -> str:
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

    def input(self, values: dict[str, object]) -> str:
        """The `input` string of a row."""
        parts = [self.pieces[0]]
        for field, piece in zip(self.fields, self.pieces[1:], strict=True):
            parts += [str(values[field]), piece]
        return "".join(parts)

    @staticmethod
    def of(value: dict) -> "Compiled":
        """From the plain values that `asdict` gave."""
        return Compiled(**{**value, "pieces": tuple(value["pieces"]), "fields": tuple(value["fields"])})

    def output(self, solution: str) -> str:
        """The `output` string of a row."""
        return self.before + solution + self.after


def tokenizer(corpus: recipe.Corpus, folder: Path | None) -> object:
    """The tokenizer whose chat template wraps the corpus's prompts: of a folder, or the tiny one."""
    if folder is None:
        from omr.tiny.tokenizer import tiny_tokenizer

        assert corpus.prompt_tokenizer is None
        return tiny_tokenizer()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)


def load(corpus: recipe.Corpus, split: str, tokenizer: object) -> Prompt:
    """The prompt of a split, with an empty system message, as the recipe asks NeMo-Skills for it.

    Without nemo-skills (it is on no package index): a RequestError that says how to get it.
    """
    prompt = corpus.prompts[split]
    config = prompt.config or {"user": "{problem}"}
    if corpus.name == "tiny":
        return TinyPrompt(config, tokenizer)
    try:
        from nemo_skills.prompt.utils import get_prompt
    except ImportError as error:
        raise RequestError(missing(error)) from None
    return get_prompt(config, tokenizer=tokenizer, code_tags=prompt.code_tags, system_message="")


def missing(error: ImportError | None = None) -> str:
    """How to get nemo-skills."""
    commit = settings.pins()["NEMO_SKILLS_COMMIT"]
    why = f" ({error})" if error and error.name != "nemo_skills" else ""
    return (
        f"nemo-skills is not installed{why}; run make nemo (its pinned commit {commit[:8]};"
        " NEMO_SKILLS=folder takes a local source), or use RUNNER=docker, whose image has it"
    )


class TinyPrompt:
    """The part of NeMo-Skills' YAML prompts that the recipe uses, for the tiny corpus."""

    def __init__(self, config: str | dict, tokenizer: object, system: str | None = "") -> None:
        import yaml

        if isinstance(config, str):
            config = yaml.safe_load((TINY / "config" / f"{config}.yaml").read_text(encoding="utf-8"))
        self.user: str = config["user"]
        self.system, self.tokenizer = system, tokenizer

    def fill(self, values: dict[str, object]) -> str:
        """System and user message by the chat template, up to where the answer begins."""
        # str.format on the template alone: braces in a problem are text.
        user = self.user.format(examples="", **values)
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return _chat(self.tokenizer, [*system, {"role": "user", "content": user}], add_generation_prompt=True)

    def format_assistant_response(self, content: str) -> str:
        """The answer as the chat template closes it."""
        return _answer(self.tokenizer, content)


def _chat(tokenizer: object, messages: list[dict], **options: bool) -> str:
    return tokenizer.apply_chat_template(messages, tokenize=False, **options)


def _answer(tokenizer: object, content: str) -> str:
    """What the template adds to a conversation when `content` answers an empty message."""
    user = {"role": "user", "content": ""}
    before = _chat(tokenizer, [user], add_generation_prompt=True)
    whole = _chat(tokenizer, [user, {"role": "assistant", "content": content}])
    if not whole.startswith(before):
        raise OmrError("the chat template changes what stands before an answer; use the recipe's tokenizer")
    return whole[len(before) :]


class _Looked(Exception):
    """The template looked into a text."""


def _refuse(*_: object) -> object:
    raise _Looked


class _Opaque(str):
    """A text that can be put between others and nothing else; so can what comes of it."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __add__(self, other: str) -> "_Opaque":
        return _Opaque(str.__add__(self, other))

    def __radd__(self, other: str) -> "_Opaque":
        return _Opaque(str.__add__(other, self))

    def __getattribute__(self, name: str) -> object:
        if name.startswith("__"):
            return str.__getattribute__(self, name)
        raise _Looked(name)

    __contains__ = __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse  # type: ignore[assignment]
    __len__ = __iter__ = __getitem__ = __hash__ = __bool__ = __mod__ = __mul__ = _refuse  # type: ignore[assignment]


def compile(prompt: Prompt) -> Compiled:
    """The constant pieces of a prompt, `exact` when it is proved that every row is filled so."""
    marks = {field: f"\ue000{field}\ue001" for field in (PROBLEM, COUNT)}
    filled = prompt.fill(marks)
    if not isinstance(filled, str):
        # Later releases answer with messages; the recipe belongs to the pinned commit.
        raise OmrError(f"nemo-skills fills a prompt to a {type(filled).__name__}, not to text; {missing()}")
    fields = sorted((f for f in marks if marks[f] in filled), key=lambda f: filled.index(marks[f]))
    pieces, rest = [], filled
    for field in fields:
        piece, _, rest = rest.partition(marks[field])
        pieces.append(piece)
    before, mark, after = prompt.format_assistant_response(marks[PROBLEM]).partition(marks[PROBLEM])
    once = all(filled.count(marks[f]) == 1 for f in fields) and mark and PROBLEM in fields
    exact = bool(once) and _plain_user(prompt) and _plain_template(prompt)
    return Compiled((*pieces, rest), tuple(fields), before, after, exact)


def _plain_user(prompt: Prompt) -> bool:
    """Whether the user message is one str.format of plain fields, without examples that depend on the row."""
    config = getattr(prompt, "config", None)
    if config is not None:
        shots = config.few_shot_examples
        if shots.examples_type is not None or shots.retriever is not None:
            return False
    user = config.user if config is not None else prompt.user
    plain = {"examples", PROBLEM, COUNT}
    return all(
        field is None or (field in plain and not spec and conversion is None)
        for _, field, spec, conversion in string.Formatter().parse(user)
    )


def _plain_template(prompt: Prompt) -> bool:
    """Whether the chat template only puts the messages' texts between its own."""
    system = prompt.config.system if hasattr(prompt, "config") else prompt.system
    messages = [{"role": "user", "content": _Opaque("x")}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    try:
        # A rendering of our own: transformers copies the messages to plain text first.
        render = _template(prompt.tokenizer)
        render(messages, add_generation_prompt=True)
        render([{"role": "user", "content": ""}, {"role": "assistant", "content": _Opaque("x")}])
    except Exception:
        return False
    return True


def _template(tokenizer: object) -> Callable[..., str]:
    """The tokenizer's chat template in an environment like the one that transformers gives it."""
    from jinja2.ext import loopcontrols
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    # A filter may read a text where _Opaque cannot notice it.
    environment.filters = dict.fromkeys(environment.filters, _refuse)
    template = environment.from_string(tokenizer.get_chat_template())
    known = {**tokenizer.special_tokens_map, "tools": None, "documents": None}
    return lambda messages, **more: template.render(
        messages=messages, **known | {"add_generation_prompt": False} | more
    )


def prove(compiled: Compiled, prompt: Prompt, rows: list[tuple[dict[str, object], str]]) -> None:
    """An OmrError at the first row (values, solution) that the prompt itself fills otherwise."""
    fill: Callable[[dict], str] = prompt.fill
    for values, solution in rows:
        if compiled.input(values) != fill(dict(values)):
            raise OmrError(f"the compiled prompt differs from its own filling of {values[PROBLEM]!r:.80}")
        if compiled.output(solution) != prompt.format_assistant_response(solution):
            raise OmrError(f"the compiled answer differs from its own formatting of {solution!r:.80}")
