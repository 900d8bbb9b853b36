"""The data stage's work: bring, plan, format, mix, write down; it goes on wherever it was killed."""

import contextlib
import fcntl
import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, wait
from dataclasses import asdict

from omr import files, manifest
from omr.data import corpus, formatting, lengths, mixing, process_pool, prompts, rows, scratch
from omr.data.by_recipe import bring, formulas
from omr.data.corpus import PlannedShard, Shard
from omr.data.held_out import choice, lines
from omr.data.request import BEARABLE, PLAN, DataRequest, Plan, finished, inputs
from omr.errors import OmrError, RequestError
from omr.progress import Progress
from omr.recipe import nemo_skills
from omr.recipe.chat import Rendering
from omr.workspace import manifest_of

SCRATCH = 1.3  # bytes of disk for a byte of text: the lines go as the mixed file grows
LENGTH = "length.json"  # the length tokenizer's engine, in the work folder
SAMPLE = 16  # rows of a split's first and last shard on which its compiled prompt is proved
PACKAGES = (
    *("pyarrow", "numpy", "numba", "tokenizers", "transformers"),
    *("fastokens-b10", "nemo-skills", "huggingface_hub"),
)
Download = Callable[..., dict[str, files.Json]]


def make(request: DataRequest, download: Download, force: bool = False) -> files.Json:
    """Make the output, or go on where a run stopped; returns its manifest. `download` is omr.models.hub's."""
    _need_prompts(request)
    with files.lock(request.output.with_name(f".{request.output.stem}.lock"), str(request.output)):
        if made := finished(request, force):
            return made
        with _one_plans(request):
            brought = bring.bring(request, download, force)
            plan, hashes = prepare(request)
        with process_pool.workers(request.means.workers) as workers:
            format_part(request, plan, workers, hashes)
        _unchanged(request, plan, brought)
        return finish(request, plan)


def part(request: DataRequest, download: Download, word: str, force: bool = False) -> None:
    """One job of many on several machines: `plan`, or `2/8`, the third of eight parts of the shards.

    Afterwards `make` mixes; the work folder is on a disk that all of them see.
    """
    number, _, parts = word.partition("/")
    if word != "plan" and not (number.isdigit() and parts.isdigit() and int(number) < int(parts)):
        raise RequestError(f"--part {word} is no part; use plan, or 0/8 to 7/8")
    if finished(request, force):
        return
    _need_prompts(request)
    with _one_plans(request):
        bring.bring(request, download, force and word == "plan")
        plan, hashes = prepare(request)
    if word != "plan":
        lock = request.work / f".part-{number}-of-{parts}.lock"
        with (
            files.lock(lock, f"part {word} of {request.output}"),
            process_pool.workers(request.means.workers) as workers,
        ):
            format_part(request, plan, workers, hashes, int(number), int(parts))


@contextlib.contextmanager
def _one_plans(request: DataRequest) -> Iterator[None]:
    """One at a time brings and plans; the others wait and find it done."""
    request.output.parent.mkdir(parents=True, exist_ok=True)
    with request.output.with_name(f".{request.output.stem}.plan.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _need_prompts(request: DataRequest) -> None:
    """What is wrong with the prompts, before the first byte is downloaded."""
    if request.corpus.prompt_folder is None:
        nemo_skills.folder()
    _held_out(request)


def prepare(request: DataRequest) -> tuple[Plan, dict[str, str]]:
    """Compile the prompts and plan the work; returns the plan, and hashes of shards found meanwhile.

    An earlier plan of the same inputs stays, with all that was done under it; another one is thrown away.
    """
    tokenizers = {word: prompts.identity(s.folder) for word, s in request.tokenizers.items() if s.folder}
    found = corpus.shards(request.folder, request.modes, bool(request.limit), request.remedy)
    wanted = inputs(request, {}, tokenizers)
    wanted["raw"] = [[str(shard.path), shard.size, shard.mtime_ns] for shard in found]
    wanted["scratch"] = [scratch.FORMAT, PLAN]
    path = request.work / "plan.json"
    if plan := Plan.read(path, wanted):
        _check(request, plan)
        return plan, {}
    shutil.rmtree(request.work, ignore_errors=True)
    request.work.mkdir(parents=True)
    survey, hashes = process_pool.Child(_survey, request, found), {}
    process_pool.share()  # it takes as long as the import of transformers, on the other core
    for shard in found:  # each has to be hashed some time
        if survey.done():
            break
        hashes[shard.name] = files.sha256(shard.path)
    compiled, shards = survey.result()
    size = sum(shard.bytes * shard.take // max(1, shard.rows) for shard in shards)
    files.need_space(request.work, int(size * SCRATCH), f"mixing {request.output.name}")
    plan = Plan(wanted, tokenizers, compiled, scratch.how_many(size), shards)
    _check(request, plan)
    plan.write(path)
    return plan, hashes


def _survey(
    request: DataRequest, found: list[Shard]
) -> tuple[dict[str, prompts.Compiled], list[PlannedShard]]:
    """Compiled prompts by split, and the shards with their rows; writes the length tokenizer's engine."""
    row, tokenizers = request.corpus, request.tokenizers
    known = None if request.limit or request.allow_rows else row.rows
    shards = corpus.planned(found, row.columns, request.limit, request.skip, known, request.remedy)
    tokenizer = prompts.tokenizer(row, tokenizers["prompt"].folder)
    rendering, compiled = Rendering(tokenizer, row.chat.template), {}
    for split in dict.fromkeys(shard.split for shard in found):
        prompt = prompts.load(row, split, tokenizer)
        compiled[split] = prompts.compile(prompt, sources := row.sources(split))
        whole = [shard for shard in shards if shard.split == split and shard.rows and not shard.fault]
        ends = dict.fromkeys((*whole[:1], *whole[-1:]))
        samples = [values for shard in ends for values in formulas.first(shard.path, SAMPLE, row, split)]
        if rule := _held_out(request):
            rule.prove(split, [values[row.columns.problem] for values in samples])
        for values_of in samples:
            values = {field: values_of[source] for field, source in sources.items()}
            solution = values_of[row.columns.solution]
            if compiled[split].exact:
                prompts.prove(compiled[split], prompt, [(values, solution)])
            prompts.prove_asked(rendering, prompt, values, solution)
    if "length" in tokenizers:
        counting = prompts.tokenizer(row, tokenizers["length"].folder)
        lengths.export(counting, request.work / LENGTH)
    return compiled, shards


def _check(request: DataRequest, plan: Plan) -> None:
    """Refuse a plan of other rows than the published ones, or one that has lost too many already."""
    request.refuse_other_rows(plan.counts)
    if request.dropped and not request.limit:  # under a LIMIT only some shards are planned
        counts = {split: {s.name: s.rows for s in plan.shards if s.split == split} for split in request.modes}
        request.dropped.check(counts, request.corpus.splits)
    rejects = [rows.Reject(s.name, None, 0, s.take, s.fault) for s in plan.shards if s.fault]
    _bearable(request, plan, [rows.Result(rejected=[reject], lost=reject.rows) for reject in rejects])


def format_part(
    request: DataRequest,
    plan: Plan,
    workers: Executor,
    hashes: dict[str, str],
    part: int = 0,
    parts: int = 1,
) -> None:
    """Format the shards of one part of `parts` that are not done; parts may run on several machines."""
    job, todo = _job(request, plan), plan.shards[part::parts]
    done = {shard.name: facts for shard in todo if (facts := scratch.done(request.work, shard.name))}
    left = [shard for shard in todo if shard.name not in done]
    results = [rows.Result.of(facts) for facts in done.values()]
    _bearable(request, plan, results)
    progress = Progress("formatting", sum(shard.size for shard in todo))
    progress.start(progress.total - sum(shard.size for shard in left))
    # Large shards first, so that the last ones to finish are small.
    left.sort(key=lambda shard: -shard.size)
    waiting = {workers.submit(formatting.run, job, s, s.take, hashes.get(s.name)): s for s in left}
    while waiting:
        ended, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in ended:
            results.append(future.result())
            _bearable(request, plan, results)
            progress.add(waiting.pop(future).size)
        progress.add(0)
    progress.close()


def _held_out(request: DataRequest) -> choice.Rule | None:
    return choice.rule(request.corpus, request.held_out, request.modes) if request.held_out else None


def _job(request: DataRequest, plan: Plan) -> formatting.Job:
    return formatting.Job(
        corpus=request.corpus,
        round=request.round,
        seed=request.seed,
        buckets=plan.buckets,
        room=request.means.room,
        work=request.work,
        skip=request.skip,
        compiled=plan.prompts,
        tokenizer=request.work / LENGTH if request.counts_tokens else None,
        slow=request.tokenizers["prompt"].folder,
        bearable=plan.bearable,
        remedy=request.remedy,
        drop=request.dropped,
        held_out=_held_out(request),
    )


def _bearable(request: DataRequest, plan: Plan, results: Collection[rows.Result]) -> None:
    """An OmrError where so many rows are malformed that it is no accident."""
    lost, total = sum(result.lost for result in results), sum(shard.take for shard in plan.shards)
    if lost > plan.bearable:
        worst = max(results, key=lambda result: result.lost).rejected[0]
        raise OmrError(
            f"{request.folder}: {lost:,} of {total:,} rows are malformed so far ({worst.file}:"
            f" {worst.reason}); BAD_ROWS=skip leaves out {BEARABLE:.0%} at most: {request.remedy}"
        )


def _unchanged(request: DataRequest, plan: Plan, brought: dict[str, str]) -> None:
    """An OmrError if a shard is not what it was when it was brought; its lines are made anew next time."""
    for shard in plan.shards:
        found = scratch.done(request.work, shard.name)
        if found and brought.get(shard.name, found["sha256"]) != found["sha256"]:
            scratch.undo(request.work, shard.name)
            again = "FORCE=1 makes it anew" if request.corpus.source is None else "remove it and run again"
            raise OmrError(f"{shard.path}: changed since it was brought; bring it back, or {again}")


def finish(request: DataRequest, plan: Plan) -> files.Json:
    """Mix what all parts formatted (what is torn is formatted again) and write it down."""
    made, mixed = request.work / "made.json", request.work / mixing.PART
    results = {name: rows.Result.of(scratch.done(request.work, name)) for name in plan.names}
    _bearable(request, plan, results.values())  # of all parts together
    kept, held_out = (sum(getattr(r, name) for r in results.values()) for name in ("kept", "held_out"))
    if request.held_out:
        request.held_out.check(held_out, kept, request.output.name)
    if not kept:
        advice = "give a larger LIMIT" if request.limit else request.remedy
        raise OmrError(f"{request.folder}: no row is left for {request.output.name}; {advice}")
    torn = Counter()
    while not (made.exists() and (mixed.exists() or request.output.exists())):
        try:
            facts = mixing.mix(request.work, plan.names, request.seed, request.means.memory, plan.buckets)
            written = lines.write(request.work, plan.buckets, plan.shards) if request.held_out else {}
        except scratch.Torn as error:
            name = str(error)
            if torn[name]:
                twice = f"the lines of {name} failed their checksum twice"
                raise OmrError(f"{request.work}: {twice}; check the disk, then run again") from None
            torn[name] += 1
            scratch.undo(request.work, name)
            with process_pool.workers(request.means.workers) as workers:
                format_part(request, plan, workers, {})
            continue
        manifest_of(request.output).unlink(missing_ok=True)  # of an older output that is replaced now
        asked = {"asked": len(request.held_out.problems)} if written and request.held_out.problems else {}
        problems = {hashed for result in results.values() for hashed in result.problems}
        told = {"validation": {"problems": len(problems), **asked, "splits": written}} if written else {}
        files.write_json(made, asdict(facts) | told)
    lines.give_name(request.work, request.output, bool(request.held_out))
    if mixed.exists():
        mixed.replace(request.output)
        files.sync(request.output.parent)
    _write(request, plan, results, files.read_json(made))
    shutil.rmtree(request.work)
    return manifest.read(request.output)


def _write(
    request: DataRequest, plan: Plan, results: dict[str, rows.Result], facts: dict[str, object]
) -> None:
    """The manifest, last, and the list of rejects before it."""
    rejects = [
        json.dumps(asdict(r), ensure_ascii=False) for result in results.values() for r in result.rejected
    ]
    if rejects:
        files.write_text(request.rejects, "\n".join([*rejects, ""]))
    else:
        request.rejects.unlink(missing_ok=True)
    known = {s.name: {**s.facts, "rows": s.rows, "sha256": results[s.name].sha256} for s in plan.shards}
    published = request.corpus.source
    files_ = ", ".join(map(str, request.corpus.files.values()))
    brought = f"{published.repo}@{published.revision}" if published else files_ or "omr/tiny/corpus.py"
    pins = {word: source.pin for word, source in request.tokenizers.items() if source.pin}
    manifest.write(
        request.output,
        inputs(request, known, plan.tokenizers),
        **facts,
        splits=rows.by_split((shard.split, results[shard.name]) for shard in plan.shards),
        unlike_published=request.unlike_published(plan.counts),
        columns_left_out=plan.left_out,
        source=str(request.raw or brought),
        shards=known,
        prompts={split: asdict(compiled) for split, compiled in plan.prompts.items()},
        buckets=plan.buckets,
        tokenizers={word: f"{pin.repo}@{pin.revision}" for word, pin in pins.items()},
        versions=manifest.versions(*PACKAGES) | {"shuf": mixing.shuf_version()},
    )
