"""The hub: does it answer, has it what is needed at the pinned commits, and what may the token do?"""

import os
from typing import Any

from omr import manifest, settings
from omr.containers.checks import Check, fix, ok, warn
from omr.data import corpus
from omr.errors import OmrError
from omr.models import hub
from omr.models.transfer import retry
from omr.recipe import Pin
from omr.reports.doctor.request import StageRequest

PATIENCE = 10  # seconds that the hub has to answer
Wanted = tuple[Pin, str, tuple[str, ...], str]  # a repository, its kind, files of it, what else brings them


def wanted(request: StageRequest) -> list[Wanted]:
    """What the request would download."""
    found: list[Wanted] = []
    if request.target in ("data", "pipeline"):
        for data in request.data:
            if manifest.read(data.output) is not None:
                continue
            if data.corpus.source and not data.raw:
                patterns = tuple(p for split in data.modes for p in corpus.patterns(split))
                found.append((data.corpus.source, "dataset", patterns, "set RAW= to a local copy"))
            for source in data.tokenizers.values():
                if source.pin:
                    advice = f"set {source.setting}= to a local copy"
                    found.append((source.pin, "model", ("tokenizer.json",), advice))
    run = request.run
    brings = request.target in ("model", "pipeline") and run and run.model.base and not settings.get("BASE")
    if brings and manifest.read(request.workspace.model(run.model.folder)) is None:
        found.append((run.model.base, "model", ("config.json",), "set BASE= to a local copy"))
    return list(dict.fromkeys(found))


def checks(request: StageRequest) -> list[Check]:
    """A row for what has to be downloaded, and one for the token."""
    needed = wanted(request)
    publishes = request.target == "publish"
    if not needed and not publishes:
        return [ok("hub", "nothing is to be downloaded")]
    from huggingface_hub import utils

    if hub.offline():
        if publishes:
            return [fix("hub", "HF_HUB_OFFLINE=1 forbids to publish", "unset HF_HUB_OFFLINE")]
        kept = "what is not in its cache (HF_HOME) is refused"
        return [warn("hub", f"HF_HUB_OFFLINE=1: {kept}", f"unset HF_HUB_OFFLINE, or {needed[0][3]}")]
    utils.logging.set_verbosity_error()  # the client tells of each of its own tries
    if why := silent():
        other = f", or {needed[0][3]}" if needed else ""
        return [fix("hub", f"{endpoint()} does not answer ({why})", f"set HF_ENDPOINT or HTTPS_PROXY{other}")]
    return [*(reach(each) for each in needed), token(publishes)]


def endpoint() -> str:
    """The hub's address."""
    return os.environ.get("HF_ENDPOINT") or "https://huggingface.co"


def silent() -> str | None:
    """Why nothing answers at the hub's address, by the client's own means; None where something does."""
    from huggingface_hub import errors, get_session

    try:
        get_session().head(endpoint(), timeout=PATIENCE)
    except (errors.HTTPError, OSError) as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None


def reach(each: Wanted) -> Check:
    """Whether the hub lists a repository's files at the pinned commit; asked once."""
    pin, kind, patterns, advice = each
    try:
        listed = retry(lambda: hub.listing(pin, kind, patterns), pin.repo, advice, tries=1)
    except OmrError as error:
        found, _, step = str(error).partition("; ")
        return fix("hub", found, step or advice)
    if not listed:
        return fix("hub", f"{pin.repo} has no file like {patterns[0]}", advice)
    return ok("hub", f"{pin.repo}@{pin.revision[:8]} answers")


def token(publishes: bool) -> Check:
    """Whose the token is, and whether it may write where that is asked for."""
    from huggingface_hub import HfApi, errors, get_token

    access = " with write access" if publishes else ""
    make = f"make one{access} at {endpoint()}/settings/tokens; HF_TOKEN in .env"
    if not get_token():
        return fix("hub token", "none", make) if publishes else ok("hub token", "none; public ones need none")
    try:
        answer = HfApi().whoami()
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            return fix("hub token", f"the hub does not know it ({status})", make)
        return warn("hub token", f"the hub answered {status}", "run this again")
    scope, writes = scope_of(answer)
    said = f"{answer.get('name', '?')}, {scope}"
    return fix("hub token", said, make) if publishes and not writes else ok("hub token", said)


def scope_of(answer: dict[str, Any]) -> tuple[str, bool]:
    """What a token may do, in words and whether that is writing, by the hub's answer to whoami."""
    access = (answer.get("auth") or {}).get("accessToken") or {}
    role = access.get("role", "unknown")
    if role != "fineGrained":
        return f"may {role}", role in ("write", "admin")
    scopes = (access.get("fineGrained") or {}).get("scoped") or []
    writes = [s["entity"].get("name", "?") for s in scopes if "repo.write" in s.get("permissions", [])]
    return (
        (f"fine-grained, may write to {', '.join(writes)}", True)
        if writes
        else ("fine-grained, may read", False)
    )
