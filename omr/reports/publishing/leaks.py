"""Secrets, and names of this machine, in a text that is to be published.

Secrets are known by value (those that the environment has) and by form. The forms are a small table and no
library: what tells secrets by their randomness takes a tokenizer's vocabulary and every commit for one.
"""

import json
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from omr import settings
from omr.settings import ROOT
from omr.workspace import Workspace

LEAST = 8  # letters of a value that can be told from a word such as `false`

# Each service documents the form of its tokens; a name alone would find every word that begins so.
TOKENS = {
    "a token of Hugging Face": r"\b(?:hf|api_org)_[A-Za-z0-9]{30,}",
    "a key of W&B": r"\bwandb_v1_\w{20,}|(?i:wandb)\W{0,3}(?i:api)?\W?_?(?i:key)?.{0,20}?\b[0-9a-f]{40}\b",
    "a key of OpenAI or Anthropic": r"\bsk-(?:[a-z]+-)?(?:[a-z]+\d*-)?[A-Za-z0-9_-]{20,}",
    "a key of NVIDIA": r"\bnvapi-[\w-]{40,}",
    "a key of AWS": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "a key of Google": r"\bAIza[\w-]{35}",
    "a token of GitHub": r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{22,})",
    "a token of GitLab": r"\bglpat-[\w-]{20,}",
    "a token of Slack": r"\bxox[abeoprs]-[\w-]{10,}",
    "a private key": r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----",
    "a password in an address": r"\b[a-z][a-z0-9+.-]*://[^\s/:@\"']+:[^\s/@\"']{3,}@[\w.-]+",
}
# Where the machines of clusters and people keep their files.
PLACES = r"home|Users|root|mnt|scratch|lustre|gpfs|nfs|data|datasets|workspace|projects|tmp|var"
A_PATH = re.compile(rf"(?<![\w./:~-])/(?:{PLACES})/[\w.~-]+")


@dataclass(frozen=True)
class Leak:
    """What stands where; never the secret itself."""

    line: int
    what: str


@dataclass(frozen=True)
class Watch:
    """What must not stand in a published text."""

    secrets: dict[str, re.Pattern[str]]  # what it is -> its form
    paths: dict[str, re.Pattern[str]]

    @classmethod
    def of(cls, workspace: Workspace, environ: Mapping[str, str] = os.environ) -> "Watch":
        """Of this machine, its user and the environment.

        A host name of letters alone is a word (`math`), and is not watched for.
        """
        values = {
            f"the value of {name}": "|".join(re.escape(form) for form in {value, json.dumps(value)[1:-1]})
            for name, value in environ.items()
            if settings.is_secret(name) and len(value) >= LEAST
        }
        places = {"the workspace": workspace.root, "this repository": ROOT, "the home folder": Path.home()}
        paths = {
            f"{what}'s path": "|".join(
                rf"(?<![\w.-]){re.escape(str(form))}(?![\w-])" for form in {path, path.resolve()}
            )
            for what, path in places.items()
            if path != Path("/")
        }
        host = socket.gethostname()
        hosts = {} if host.isalpha() or host.startswith("localhost") else {"this host's name": _word(host)}
        compiled = [
            {w: re.compile(p) for w, p in table.items()} for table in (values | TOKENS, paths | hosts)
        ]
        return cls(*compiled)

    def find(self, text: str, vocabulary: bool = False) -> Iterator[Leak]:
        """What of it stands in a text, line by line.

        A tokenizer's `vocabulary` has words such as /root of its own: only secrets are looked for there.
        """
        tables = self.secrets if vocabulary else self.secrets | self.paths | {"a path of a machine": A_PATH}
        seen: set[int] = set()
        for what, form in tables.items():
            for found in form.finditer(text):
                line = text.count("\n", 0, found.start()) + 1
                if line not in seen:  # one is enough to find it
                    seen.add(line)
                    yield Leak(line, what)


def _word(text: str) -> str:
    return rf"(?<![\w-]){re.escape(text)}(?![\w-])"
