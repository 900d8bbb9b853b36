"""Set end tokens, chat template and generation config of the averaged model to match its training.

With those of the base it would answer wrongly: the base ends a text with another token than the trained
answers, so generation would not stop; its template adds a system message that training did not have; its
generation config cuts an answer at 2,048 tokens.
"""

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

from omr import records
from omr.errors import OmrError, shown
from omr.files import write_json, write_text
from omr.models import architecture, passport, rope, tokens, weights
from omr.recipe import Chat, Model, Run
from omr.recipe.chat import Rendering
from omr.workspace import RunFolder

ROWS = 3  # rows of each split that the template is checked on
LOOK = 2_000  # rows at the file's begin that are searched for them; it is shuffled


def side_files(source: Path, aside: Path, model: Model) -> None:
    """Copy configuration and tokenizer of the last averaged step; those of an earlier attempt are removed."""
    for path in weights.side_files(aside):
        path.unlink()
    for path in weights.side_files(source):
        shutil.copyfile(path, aside / path.name)
    rope.write_both(aside, model)
    tokens.write_old_name(aside)


def settle(folder: Path, chat: Chat, length: int) -> None:
    """Write end tokens, generation config and chat template as trained.

    `length` is the longest answer, in tokens: a training sequence. The base's limit of 2,048 would cut most
    answers, and without any limit transformers stops after 20 tokens.
    """
    known = tokens.token_ids(folder)
    if chat.message_end not in known:
        raise OmrError(
            f"{folder / 'tokenizer.json'}: has no {chat.message_end}, which ends every trained answer"
        )
    config = rope.parse(folder / passport.CONFIG)
    end = known[chat.message_end]
    # The trained end first: some readers take the first one only.
    ends = [end, *(i for i in tokens.ids(config.get("eos_token_id")) or [] if i != end)]
    write_json(folder / passport.CONFIG, {**config, "eos_token_id": ends})

    settings = rope.parse(folder / passport.TOKENS)
    pad = tokens.text(settings.get("pad_token")) or chat.pad
    path = folder / passport.GENERATION
    old = rope.parse(path) if path.exists() else {}
    # The converter's bridge writes trust_remote_code, which no model of the recipe needs.
    kept = {key: value for key, value in old.items() if key not in ("max_length", "trust_remote_code")}
    write_json(path, {**kept, "max_new_tokens": length, "eos_token_id": ends, "pad_token_id": known[pad]})

    # Older readers find the template in tokenizer_config.json only, newer ones prefer the file.
    trained = {"eos_token": chat.message_end, "pad_token": settings.get("pad_token") or pad}
    write_json(folder / passport.TOKENS, {**settings, **trained, "chat_template": chat.template})
    write_text(folder / tokens.TEMPLATE, chat.template)
    path = folder / "special_tokens_map.json"
    if path.exists():
        write_json(path, {**rope.parse(path), "eos_token": chat.message_end})


def check_rows(folder: Path, data: Path) -> dict[str, int]:
    """Check the chat template on rows of the training file; returns how many rows of each split.

    An OmrError names the row that it gives otherwise.
    """
    import transformers

    tokenizer = rope.taken(
        folder / tokens.FILE,
        lambda: transformers.AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False),
    )
    rendering, checked = Rendering(tokenizer), {}
    for number, row in _rows(data):
        split = str(row.get("inference_mode", "row"))
        if checked.get(split, 0) == ROWS:
            continue
        if fault := rendering.fault(row["input"], row["output"]):
            raise OmrError(
                f"{data}:{number} ({split}): {fault}; the data was made with another template (TOKENIZER),"
                " and the model would get other prompts than in training"
            )
        checked[split] = checked.get(split, 0) + 1
    if not checked:
        raise OmrError(f"{data}: has no row to check the chat template on; make data FORCE=1")
    return checked


def _rows(data: Path) -> Iterator[tuple[int, dict]]:
    """The first LOOK rows of an SFT file, with their line numbers."""
    with data.open(encoding="utf-8", newline="\n") as handle:
        for number, line in enumerate(itertools.islice(handle, LOOK), 1):
            try:
                row = json.loads(line)
                if not all(isinstance(row[key], str) for key in ("input", "output")):
                    raise ValueError("no text for input and output")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                why = shown(str(error))
                raise OmrError(f"{data}:{number}: is no SFT row ({why}); make data FORCE=1") from None
            yield number, row


def departures(run: Run, engine: str, folder: RunFolder) -> list[str]:
    """What the final model is used with other than it was trained with, knowingly; a sentence each.

    NeMo-Skills' configuration has one epsilon for all models (recipe.TRAINED_EPSILON), which is not the one
    of 14b's and 32b's config.json. The one-box engine trains with config.json's.
    """
    if engine != "nemo-rl":
        return []
    used, trained = architecture.of(run.model).norm_epsilon, _trained_epsilon(run, folder.engine_yaml(engine))
    if trained == used:
        return []
    return [f"trained with an RMSNorm epsilon of {trained:g}, used with {used:g}, its config.json's"]


def _trained_epsilon(run: Run, file: Path) -> float:
    """What NeMo-RL's file says, else the recipe: NeMo-Skills' launcher leaves none."""
    if not file.exists():
        return architecture.trained_epsilon(run)
    remedy = "move it away, and the recipe's values are taken for it"
    with records.checked(file, remedy):
        trained = records.read_yaml(file, remedy)["policy"]["megatron_cfg"]["layernorm_epsilon"]
        return float(trained)  # YAML 1.1 takes 1e-5 for text
