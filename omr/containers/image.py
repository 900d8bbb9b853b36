"""`make image`, `make image-check`: bases held to their digests, the build, and the images' self-test."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from omr import manifest, settings
from omr.containers.build_site import SITE, prepare
from omr.containers.choose import STAGES
from omr.containers.run import (
    HOME,
    PYTHON,
    Engine,
    Start,
    argv,
    ask,
    check_code,
    image,
    labels,
)
from omr.errors import OmrError, choose
from omr.files import human
from omr.run.snapshot import code_id, locks_id

PROXIES = settings.FOREIGN_NAMES


def stages(word: str | None) -> tuple[str, ...]:
    """The images that STAGE names: both where it is unset."""
    return (choose("STAGE", word, STAGES),) if word else STAGES


def say(line: str) -> None:
    """Progress goes to stderr, beside what the engine prints."""
    print(line, file=sys.stderr, flush=True)


# ---- bases ----


def repository(reference: str) -> str:
    """A reference without tag and digest: `host:5000/a/b:tag` is `host:5000/a/b`."""
    return re.sub(r":[^:/]+$", "", reference.partition("@")[0])


def digests(engine: Engine, reference: str) -> list[str] | None:
    """The registry digests of a local image (a stand-in has none), or None when it is not on this machine."""
    done = ask(engine.command, "image", "inspect", "--format", "{{json .RepoDigests}}", reference)
    if done.returncode:
        return None
    return [name.partition("@")[2] for name in json.loads(done.stdout) or []]


def pull(engine: Engine, reference: str) -> bool:
    """Pull with the engine's own progress; False when that fails (it has said why)."""
    say(f"pulling {reference}")
    return subprocess.run([engine.command, "pull", reference], stdout=sys.stderr).returncode == 0


def base(engine: Engine, stage: str) -> tuple[str, str]:
    """What the stage is built FROM, as a reference to give to the engine, and its digest for the label.

    The pinned base must have the pinned digest; where docker/pins.env has none yet, the line to add to it is
    printed, and what was pulled is taken. A base that a setting names is taken as it is, and that is said.
    """
    name, key = f"{stage.upper()}_BASE", f"{stage.upper()}_BASE_DIGEST"
    pins = settings.pins()
    pinned, want, given = pins[name], pins.get(key, ""), settings.get(name)
    if given and given != pinned:
        found = digests(engine, given)
        if found is None and not pull(engine, given):
            raise OmrError(f"{name}={given} cannot be had (see above); log in to its registry, or correct it")
        got = given.partition("@")[2] or next(iter(digests(engine, given) or []), "")
        pinned_by_itself = "@" in given
        say(
            f"{stage}: base {given} in place of {pinned}, "
            + (f"{got}" if got else "which no registry has given a digest")
            + ("" if pinned_by_itself else "; not checked against docker/pins.env")
        )
        return given, got
    if not want:
        if not pull(engine, pinned):
            raise OmrError(_cannot_pull(pinned, name))
        want = next(iter(digests(engine, pinned) or []), "")
        if not want:
            raise OmrError(f"{pinned} came without a digest; pull it from its registry, not from a file")
        say(f"{stage}: base {pinned} is not pinned yet; check its digest, and put it into docker/pins.env:")
        say(f"{key}={want}")
        return f"{repository(pinned)}@{want}", want
    exact = f"{repository(pinned)}@{want}"
    if digests(engine, exact) is None and not pull(engine, exact):
        now = tag_digest(engine, pinned)
        if now and now != want:
            raise OmrError(
                f"{pinned} is {now} now, docker/pins.env says {want}, which its registry has no more; "
                f"find out which is right, and write that as {key}"
            )
        raise OmrError(_cannot_pull(exact, name))
    got = digests(engine, exact) or []
    if want not in got:
        raise OmrError(f"{exact} came as {', '.join(got) or 'nothing'}; remove it and pull it again")
    say(f"{stage}: base {pinned} is {want}, as pinned")
    return exact, want


def _cannot_pull(reference: str, name: str) -> str:
    host = reference.partition("/")[0]
    return (
        f"{reference} cannot be pulled (see above); log in (docker login {host}), "
        f"or set {name} to a mirror of it"
    )


def tag_digest(engine: Engine, reference: str) -> str | None:
    """What the registry has under a tag now, without pulling; None where the engine cannot tell."""
    done = ask(engine.command, "manifest", "inspect", "--verbose", reference)
    match = re.search(r'"digest": "(sha256:[0-9a-f]{64})"', done.stdout) if done.returncode == 0 else None
    return match[1] if match else None


# ---- the build ----


def dockerfile(stage: str, root: Path = settings.ROOT) -> str:
    """The part of the Dockerfile that one image needs: the classic builder would build the other one too."""
    head, tools, train = re.split(
        r"^# ---- (?:tools|train) ----$", (root / "Dockerfile").read_text(), flags=re.M
    )
    unused = "TRAIN" if stage == "tools" else "TOOLS"
    return head.replace(f"ARG {unused}_BASE\n", "") + (tools if stage == "tools" else train)


def build_argv(engine: Engine, stage: str, reference: str, digest: str, nemo: str) -> list[str]:
    """The engine's command line: no secret is in it; a proxy goes by name."""
    pins = settings.pins()
    name = f"{stage.upper()}_BASE"
    arguments = {
        name: reference,
        f"{name}_NAME": settings.get(name) or pins[name],
        f"{name}_DIGEST": digest,
        "NEMO_SKILLS_FROM": nemo,
        "NEMO_SKILLS_COMMIT": pins["NEMO_SKILLS_COMMIT"],
        "OMR_CODE": code_id(),
        "OMR_LOCKS": locks_id(),
        "OMR_REVISION": manifest.code_revision(),
    }
    if stage == "tools":
        arguments |= {"TOOLS_TIER": tools_tier(), "TORCH_VERSION": pins["TORCH_VERSION"]}
        if mirror := settings.get("APT_MIRROR"):
            arguments["APT_MIRROR"] = mirror
    else:
        arguments["NEMO_RL_VERSION"] = pins["NEMO_RL_VERSION"]
    words = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    words += [f"--build-arg={name}" for name in PROXIES if os.environ.get(name)]
    # podman's own format has no SHELL: what fails in a pipe would pass.
    build = [engine.command, "build", *(["--format=docker"] if engine.podman else []), "--network=host"]
    build += ["--target", stage, "--tag", image(stage), *words, "--file", str(dockerfile_path(stage))]
    return [*build, str(settings.ROOT)]


def dockerfile_path(stage: str) -> Path:
    """Where `dockerfile(stage)` is put for the engine."""
    return SITE.with_name(f"Dockerfile.{stage}")


def tools_tier() -> str:
    """What the tools image holds."""
    return choose("TOOLS_TIER", settings.get("TOOLS_TIER"), ("train", "data"))


def tiers(wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The locks that the images are made from."""
    torch = "tools" in wanted and tools_tier() == "train"
    return ("cli", "data", "train") if torch else ("cli", "data")


def build_all(engine: Engine, wanted: tuple[str, ...]) -> None:
    """Build the images, and say at the end what each is and what it lacks."""
    try:
        nemo = prepare(tiers(wanted))
        if nemo in ("none", "unreachable"):
            say(without_nemo(nemo))
        lines = [build(engine, stage, nemo) for stage in wanted]
    finally:
        shutil.rmtree(SITE, ignore_errors=True)  # it may hold a mirror's password
    for line in lines:
        say(line)
    if nemo in ("none", "unreachable"):
        say(without_nemo(nemo))


def without_nemo(why: str) -> str:
    """The warning that an image cannot format the real corpus."""
    url = settings.pins()["NEMO_SKILLS_URL"]
    reason = "NEMO_SKILLS=none" if why == "none" else f"{url} cannot be reached"
    return (
        f"WARNING: WITHOUT nemo-skills ({reason}): these images make data of the tiny corpus alone; "
        "for the real one set NEMO_SKILLS to a clone of it and run make image again"
    )


def build(engine: Engine, stage: str, nemo: str) -> str:
    """Build one image; return what it is, in a line."""
    reference, digest = base(engine, stage)
    line = build_argv(engine, stage, reference, digest, nemo)
    dockerfile_path(stage).write_text(dockerfile(stage))
    if subprocess.run(line, stdout=sys.stderr).returncode:
        raise OmrError(f"{image(stage)} was not built (see above); mend that and run make image again")
    return f"{image(stage)}: {sizes(engine, stage, reference)}, code {code_id()[:12]}"


def sizes(engine: Engine, stage: str, reference: str) -> str:
    """`1.2 GB, 0.9 GB of it beside the base`."""
    both = [
        int(ask(engine.command, "image", "inspect", "--format", "{{.Size}}", name).stdout or 0)
        for name in (image(stage), reference)
    ]
    return f"{human(both[0])}, {human(both[0] - both[1])} of it beside the base"


def plan(wanted: tuple[str, ...]) -> Iterator[str]:
    """What `make image` would do, a line each, for DRY_RUN=1; it asks neither engine nor network."""
    engine = Engine(shutil.which("docker") or shutil.which("podman") or "docker")
    for stage in wanted:
        name = f"{stage.upper()}_BASE"
        pinned = settings.pins()[name]
        reference = settings.get(name) or pinned
        digest = settings.pins().get(f"{name}_DIGEST", "") if reference == pinned else ""
        exact = f"{repository(reference)}@{digest}" if digest else reference
        given = os.environ.get("NEMO_SKILLS")
        nemo = "git" if not given else "none" if given == "none" else "site"
        yield f"would have: {exact}"
        yield "would run: " + shlex.join(build_argv(engine, stage, exact, digest, nemo))


# ---- the self-test ----


def check(engine: Engine, wanted: tuple[str, ...]) -> None:
    """Compare each image's labels with docker/pins.env, then run its self-test: as the caller, and as the
    user nobody, whom an image does not know."""
    failed = []
    for stage in wanted:
        name, found = image(stage), labels(engine, image(stage))
        check_code(name, found)
        say(f"{name}: {verdict(stage, found)}")
        users = {f"{os.getuid()}:{os.getgid()}": "you", "65534:65534": "nobody"}
        for user, who in users.items():
            if engine.rootless and who == "nobody":
                continue
            command = [PYTHON, f"{HOME}/bin/image_check.py", stage]
            line = argv(engine, Start(name, command, mounts=[], names=[], gpus=stage == "train"))
            if who == "nobody":
                line[line.index("--user") + 1] = user
            say(f"{name}, run by {who}:")
            if subprocess.run(line).returncode:
                failed.append(f"{name} run by {who}")
    if failed:
        raise OmrError(f"the self-test of {' and of '.join(failed)} failed (see above); run make image again")


def verdict(stage: str, found: dict[str, str]) -> str:
    """What the labels say of the base; another digest than the pinned one is an OmrError."""
    key, pins = f"{stage.upper()}_BASE", settings.pins()
    name = found.get("org.opencontainers.image.base.name", "")
    digest = found.get("org.opencontainers.image.base.digest", "")
    said = f"base {name} {digest or '(no digest)'}"
    if name != pins[key]:
        return f"{said}, in place of {pins[key]}: not checked"
    if not pins.get(f"{key}_DIGEST"):
        return f"{said}, not pinned yet: add {key}_DIGEST={digest} to docker/pins.env"
    if digest != pins[f"{key}_DIGEST"]:
        raise OmrError(f"{image(stage)}: {said}, but docker/pins.env has another; run make image again")
    return f"{said}, as pinned"
