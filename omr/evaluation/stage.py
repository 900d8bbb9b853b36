"""Greedy answers to held-out problems, graded with math-verify: accuracy before a run and after it.

Problems are JSON lines with `expected_answer` and either `problem` (asked by the recipe's prompt, as in
training) or `input` (asked as it stands). Answers are kept batch by batch under <run>/eval/, named by the
weights and the questions, so that a second look is free and a killed one goes on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omr import manifest, recipe
from omr.errors import OmrError, RequestError
from omr.files import read_json, sha256, write_json
from omr.progress import Progress
from omr.run import frozen
from omr.training.trl import plan
from omr.workspace import RunFolder, Workspace

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TINY_TOKENS = 128  # the longest of its written-out solutions, twice
BATCH = 100
TINY = "tiny held-out"


@dataclass(frozen=True)
class Questions:
    """What is asked, and how long an answer may be (tokens)."""

    source: str
    rows: tuple[dict, ...]
    max_tokens: int

    @property
    def digest(self) -> str:
        """Names the questions and the answers' limit."""
        text = json.dumps([self.rows, self.max_tokens], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def questions(run: recipe.Run, file: Path | None, max_tokens: int | None) -> Questions:
    """The problems of `file`, or the tiny corpus's own; a RequestError names what is missing or malformed."""
    limit = max_tokens or (TINY_TOKENS if run.model.corpus == "tiny" else run.model.sequence_length)
    if file is None:
        if run.model.corpus != "tiny":
            raise RequestError(
                f"{run.title}: PROBLEMS is not set; name a JSON-lines file with problem and expected_answer"
            )
        from omr.tiny import corpus as tiny

        return Questions(TINY, tuple(tiny.held_out()), limit)
    return Questions(str(file), tuple(_read(file)), limit)


def _read(file: Path) -> Iterator[dict]:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{file}: cannot be read ({error}); name a JSON-lines file of problems") from None
    count = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            asked = {key: row[key] for key in ("problem", "input") if isinstance(row.get(key), str)}
            if not asked:
                raise KeyError
            yield {**asked, "expected_answer": str(row["expected_answer"])}
            count += 1
        except (ValueError, KeyError, AttributeError, TypeError):
            raise RequestError(
                f"{file}: line {number} has not expected_answer and one of problem or input"
            ) from None
    if not count:
        raise RequestError(f"{file}: has no problems")


def prompts(run: recipe.Run, asked: Questions, tokenizer: "PreTrainedTokenizerBase") -> list[str]:
    """The text that the model is given for each question, as in training on written-out solutions."""
    from omr.data import prompts

    corpus = recipe.CORPORA[run.model.corpus]
    wanted = any("input" not in row for row in asked.rows)
    prompt = prompts.load(corpus, "cot", tokenizer) if wanted else None
    return [row.get("input") or prompt.fill({"problem": row["problem"]}) for row in asked.rows]


def boxed(text: str) -> str | None:
    r"""What stands in the last \boxed{…} of an answer; None without a whole one."""
    start = text.rfind("\\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len("\\boxed{")
    for at in range(begin - 1, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[begin:at]
    return None


def right(answer: str, expected: str) -> bool:
    """Whether math-verify takes the boxed answer for the expected one."""
    from math_verify import parse, verify

    given = boxed(answer)
    if given is None:
        return False
    if given.strip() == expected.strip():
        return True
    return bool(verify(parse(f"\\boxed{{{expected}}}"), parse(f"\\boxed{{{given}}}")))


def generate(
    folder: Path, texts: Sequence[str], max_tokens: int, tokenizer: "PreTrainedTokenizerBase", gpu: bool
) -> Iterator[list[tuple[str, bool]]]:
    """Greedy answers, a batch at a time: the text after each prompt, and whether it came to an end token."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16 if gpu else torch.float32,
        use_safetensors=True,
        trust_remote_code=False,
    ).to("cuda" if gpu else "cpu")
    model.eval()
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    for first in range(0, len(texts), BATCH):
        encoded = tokenizer(
            list(texts[first : first + BATCH]), return_tensors="pt", padding=True, add_special_tokens=False
        ).to(model.device)
        with torch.inference_mode():
            output = model.generate(
                **encoded, max_new_tokens=max_tokens, do_sample=False, pad_token_id=tokenizer.pad_token_id
            )
        found = []
        for tokens in output[:, encoded["input_ids"].shape[1] :].tolist():
            at = next((n for n, token in enumerate(tokens) if token in ends), None)
            found.append((tokenizer.decode(tokens[:at], skip_special_tokens=True), at is not None))
        yield found


def evaluate(
    run: recipe.Run, folder: Path, named: str, asked: Questions, keep: Path, speaker: Path, gpu: bool
) -> dict:
    """Answer and grade; `keep` holds the answers, `speaker` is the folder whose tokenizer asks."""
    done = _answers(keep)
    if len(done) < len(asked.rows):
        plan.share_cores()
        from transformers import AutoTokenizer, logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        tokenizer = AutoTokenizer.from_pretrained(speaker, trust_remote_code=False, padding_side="left")
        texts = prompts(run, asked, tokenizer)
        start = len(done) // BATCH * BATCH  # whole batches: an answer's last bits may depend on its company
        done = done[:start]
        keep.parent.mkdir(parents=True, exist_ok=True)
        progress = Progress(f"answering with {named}", len(texts), "problems")
        progress.start(start)
        with keep.open("w", encoding="utf-8") as out:
            out.writelines(f"{json.dumps(row, ensure_ascii=False)}\n" for row in done)
            for batch in generate(folder, texts[start:], asked.max_tokens, tokenizer, gpu):
                for answer, ended in batch:
                    row = asked.rows[len(done)]
                    graded = right(answer, row["expected_answer"])
                    done.append({"answer": answer, "ended": ended, "right": graded, **row})
                    out.write(f"{json.dumps(done[-1], ensure_ascii=False)}\n")
                out.flush()
                progress.set(len(done))
        progress.close()
    correct = sum(row["right"] for row in done)
    return {
        "accuracy": correct / len(done),
        "correct": correct,
        "problems": len(done),
        "ended": sum(row["ended"] for row in done),
        "model": str(folder),
        "identity": identity(folder),
        "answers": str(keep),
    }


def _answers(keep: Path) -> list[dict]:
    """Kept answers in order, up to the first line that a kill cut off."""
    rows = []
    for line in keep.read_text(encoding="utf-8").split("\n") if keep.exists() else []:
        try:
            row = json.loads(line)
            rows.append({**row, "right": bool(row["right"]), "ended": bool(row["ended"])})
        except (ValueError, KeyError, TypeError):
            break
    return rows


def stations(run: recipe.Run, folder: RunFolder) -> dict[str, Path]:
    """The model that training started from, and the one it ended with; a RequestError if it has not ended."""
    if manifest.read(folder.final) is None:
        words = f"MODEL={run.model.name} ROUND={run.round.number}"
        raise RequestError(f"{folder.final}: is not finished; run make train {words} first")
    before = Path(read_json(folder.run_json)["request"]["base"]["path"])
    return {"before": before, "after": folder.final}


def identity(folder: Path) -> str | None:
    """Names a model's content: by its manifest, else by its files; None where there is no model."""
    if manifest.read(folder):
        return frozen.identity(folder)
    parts = sorted(path for pattern in ("*.safetensors", "*.json") for path in folder.glob(pattern))
    names = [[path.name, sha256(path)] for path in parts]
    return hashlib.sha256(json.dumps(names).encode()).hexdigest() if names else None


def make(
    run: recipe.Run,
    workspace: Workspace,
    asked: Questions,
    models: dict[str, Path],
    force: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[dict, bool]:
    """Ask each of `models`; a run's own two are written to its eval.json.

    Returns what was found, and whether it was there already.
    """
    folder = workspace.run(run)
    wanted = {"questions": asked.digest, "models": {when: identity(path) for when, path in models.items()}}
    own = "after" in models
    if own and not force and folder.eval_json.exists():
        made = read_json(folder.eval_json)
        if made.get("inputs") == wanted:
            return made, True
    if lost := [path for when, path in models.items() if wanted["models"][when] is None]:
        raise OmrError(f"{lost[0]}: there is no model; make it again")
    result: dict = {"questions": asked.source, "inputs": wanted}
    for when, path in models.items():
        named = wanted["models"][when]
        if when == "before" and (earlier := _earlier(path, named, asked)):
            say(f"before: as round 1 ended, {earlier['accuracy']:.3f}")
            result[when] = earlier
            continue
        keep = (folder.root if own else workspace.root) / "eval" / f"{named[:12]}-{asked.digest[:12]}.jsonl"
        if force:
            keep.unlink(missing_ok=True)
        speaker = folder.final if own else path
        result[when] = evaluate(run, path, when, asked, keep, speaker, bool(run.model.gpus) and _gpu())
    if own:
        write_json(folder.eval_json, result)
    return result, False


def _earlier(model: Path, identity: str, asked: Questions) -> dict | None:
    """What round 1's evaluation said of the same weights and questions."""
    path = RunFolder(model.parent).eval_json
    if model.name != "final" or not path.exists():
        return None
    made = read_json(path)
    same = made.get("inputs", {}).get("questions") == asked.digest
    return made["after"] if same and made["after"].get("identity") == identity else None


def _gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def table(result: dict) -> list[str]:
    """Accuracy before and after, for the terminal."""
    lines = [f"{'':8}{'accuracy':>10}{'correct':>10}{'problems':>10}{'ended':>8}"]
    for when, part in result.items():
        if when not in ("before", "after", "alone"):
            continue
        lines.append(
            f"{when:8}{part['accuracy']:>10.3f}{part['correct']:>10,}{part['problems']:>10,}{part['ended']:>8,}"
        )
    return lines
