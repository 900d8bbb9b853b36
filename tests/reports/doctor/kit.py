"""A machine that a test lays out: programs on a PATH of its own, and a request to be judged."""

from omr.containers.checks import FIX, WARN
from omr.reports.doctor import request
from omr.workspace import Workspace

RUN = {"model": "7b", "round": "1", "variant": None, "edition": None, "name": None, "steps": None}
TRAINING = dict.fromkeys(("engine", "modes", "limit", "overrides", "nodes", "gpus"))
DATA = {"dataset": None, "raw": None, "seed": 0, "workers": None, "memory": None}
DATA |= {"tokenizer": None, "length_tokenizer": None, "drop": None}


def stub(folder, name, says="", code=0):
    """A program that prints a text, or with `says` beginning with #! that script."""
    folder.mkdir(exist_ok=True)
    if not says.startswith("#!"):
        (folder / f"{name}.says").write_text(says + "\n")
        says = f"#!/bin/sh\n/bin/cat '{folder}/{name}.says'\nexit {code}\n"
    (folder / name).write_text(says)
    (folder / name).chmod(0o755)


def asked(target, root, links=1, ask=False, **words):
    """A request: words of the data stage by name, those of the training too."""
    run = {**RUN, **TRAINING, **{k: v for k, v in words.items() if k in {**RUN, **TRAINING}}}
    data = {**DATA, **{k: v for k, v in words.items() if k in DATA}}
    return request.make(target, Workspace(root), run, data, links, ask)


def row(found, name):
    """The one row of this name; each that is not ok says what to type."""
    assert all(check.advice for check in found if check.state in (WARN, FIX)), found
    [check] = [check for check in found if check.name == name]
    return check


def held(check, state, said, advice=""):
    """A row is in this state, says this, and advises that."""
    assert check.state == state, check
    assert said in check.found and advice in check.advice, check
    assert (check.state == "ok") or check.advice
