"""The loopback hub with what a client needs to publish: repositories, LFS, commits.

    with WritableHub({"secret"}) as hub:
        ... HF_ENDPOINT=hub.endpoint, HF_TOKEN=secret, HF_HUB_DISABLE_XET=1 ...
        hub.files("org/model"), hub.commits, hub.received

Beside `Hub` it speaks: /api/repos/create, GET and PUT of /api/models/<repo> and …/settings, …/preupload/main,
….git/info/lfs/objects/batch, …/commit/main. A large file that arrives whole is kept by its sha256, and
is not asked for again; one that breaks off is forgotten.
"""

import base64
import hashlib
import json
import time
from urllib.parse import unquote, urlsplit

from tests.models.hub.loopback import LFS_FROM, Hub

CHUNK = 16_384  # bytes that are received at a time


class WritableHub(Hub):
    """A hub on which the `writers`, tokens, may write. `pause`: seconds that each CHUNK takes."""

    def __init__(self, writers: set[str], pause: float = 0.0) -> None:
        self.writers, self.pause = writers, pause
        self.blobs: dict[str, bytes] = {}
        self.received: list[str] = []  # sha256 of each file that arrived whole, in order
        self.commits: list[dict[str, bytes]] = []  # the files after each
        self.spoilt = False  # whether a commit stores other bytes than it was given
        super().__init__()

    def files(self, repo: str) -> dict[str, bytes]:
        """What the repository has now."""
        return self.repos[("model", repo)]["files"]

    def open(self, repo: str) -> bool:
        """Whether everybody may read it."""
        return not self.repos[("model", repo)]["private"]

    def make(self, repo: str, private: bool = True, files: dict[str, bytes] | None = None) -> None:
        """A repository, empty but for what a new one has."""
        found = {".gitattributes": b"*.safetensors lfs\n", **(files or {})}
        self.repos[("model", repo)] = {"files": found, "revision": _commit(found), "private": private}

    def _handler(hub) -> type:
        class Handler(Hub._handler(hub)):
            def do_GET(self) -> None:
                parts = unquote(urlsplit(self.path).path).strip("/").split("/")
                if parts[:2] == ["api", "models"] and len(parts) == 4:
                    return self.about("/".join(parts[2:]))
                super().do_GET()

            def do_PUT(self) -> None:
                parts = unquote(urlsplit(self.path).path).strip("/").split("/")
                if parts[0] == "incoming":
                    return self.blob(parts[1])
                if not self.may_write():
                    return None
                hub.repos[("model", "/".join(parts[2:4]))]["private"] = _private(self.json())
                self.say({})

            def do_POST(self) -> None:
                path = unquote(urlsplit(self.path).path).strip("/")
                parts, data = path.split("/"), self.body()
                fault = (hub.faults.get(f"POST {path.rpartition('/')[0]}") or [None]).pop(0)
                if fault:
                    return self.answer(fault["status"], b"busy", {})
                if not self.may_write():
                    return None
                if path == "api/validate-yaml":
                    return self.say({"errors": [], "warnings": []})
                if path == "api/repos/create":
                    return self.create(json.loads(data))
                if path.endswith(".git/info/lfs/objects/batch"):
                    return self.batch(json.loads(data))
                repo, what = "/".join(parts[2:4]), parts[4]
                if what == "preupload":
                    return self.modes(json.loads(data))
                self.commit(repo, [json.loads(line) for line in data.splitlines()])

            def about(self, repo: str) -> None:
                known = hub.repos.get(("model", repo))
                if known is None or (known["private"] and self.token() not in hub.writers):
                    return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                siblings = [{"rfilename": name} for name in known["files"]]
                self.say(
                    {"id": repo, "sha": known["revision"], "private": known["private"], "siblings": siblings}
                )

            def create(self, asked: dict) -> None:
                repo = f"{asked['organization']}/{asked['name']}"
                if ("model", repo) in hub.repos:
                    return self.answer(409, b'{"error": "exists"}', {})
                hub.make(repo, _private(asked))
                self.say({"url": f"{hub.endpoint}/{repo}"})

            def modes(self, asked: dict) -> None:
                large = lambda file: file["size"] >= LFS_FROM  # noqa: E731
                modes = [
                    {"path": f["path"], "uploadMode": "lfs" if large(f) else "regular", "shouldIgnore": False}
                    for f in asked["files"]
                ]
                self.say({"files": modes})

            def batch(self, asked: dict) -> None:
                objects = []
                for one in asked["objects"]:
                    entry = {"oid": one["oid"], "size": one["size"]}
                    if one["oid"] not in hub.blobs:
                        entry["actions"] = {"upload": {"href": f"{hub.endpoint}/incoming/{one['oid']}"}}
                    objects.append(entry)
                self.say({"objects": objects, "transfer": "basic"})

            def blob(self, oid: str) -> None:
                data = self.body(hub.pause)
                if data is None or hashlib.sha256(data).hexdigest() != oid:
                    return self.answer(400, b"", {})
                hub.blobs[oid] = data
                hub.received.append(oid)
                self.answer(200, b"", {})

            def commit(self, repo: str, lines: list[dict]) -> None:
                known = hub.repos[("model", repo)]
                header = lines[0]["value"]
                if header.get("parentCommit") not in (None, known["revision"]):
                    return self.answer(412, b'{"error": "a commit came between"}', {})
                files = dict(known["files"])
                for line in lines[1:]:
                    value, key = line["value"], line["key"]
                    if key == "deletedFile":
                        del files[value["path"]]
                    elif key == "lfsFile":
                        files[value["path"]] = hub.blobs[value["oid"]]
                    else:
                        files[value["path"]] = base64.b64decode(value["content"])
                if hub.spoilt:
                    files = {name: data[::-1] for name, data in files.items()}
                known.update(files=files, revision=_commit(files))
                hub.commits.append(files)
                self.say({"commitUrl": f"{hub.endpoint}/{repo}/commit/1", "commitOid": known["revision"]})

            def token(self) -> str:
                return (self.headers.get("authorization") or "").removeprefix("Bearer ")

            def may_write(self) -> bool:
                if self.token() in hub.writers:
                    return True
                self.answer(401, b"", {})
                return False

            def json(self) -> dict:
                return json.loads(self.body())

            def body(self, pause: float = 0.0) -> bytes | None:
                """What the client sends; None where it breaks off."""
                left, found = int(self.headers.get("Content-Length") or 0), []
                while left:
                    time.sleep(pause)
                    data = self.rfile.read(min(left, CHUNK))
                    if not data:
                        return None
                    found.append(data)
                    left -= len(data)
                return b"".join(found)

            def say(self, value: dict) -> None:
                self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        return Handler


def _private(asked: dict) -> bool:
    """The visibility that is asked for; older clients have another word for it."""
    return asked.get("visibility") == "private" or bool(asked.get("private"))


def _commit(files: dict[str, bytes]) -> str:
    """What a commit of these files is called."""
    digest = hashlib.sha1(usedforsecurity=False)
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name]).digest())
    return digest.hexdigest()
