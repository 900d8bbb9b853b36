"""A hub on the loopback interface that fails on request, for the real huggingface_hub client.

    with Hub() as hub:
        hub.add("dataset", "org/set", {"data/a-00000-of-00001.parquet": data}, revision)
        hub.fault("data/a-00000-of-00001.parquet", cut=1000)      # the next answer breaks off there
        ... HF_ENDPOINT=hub.endpoint ...

What it speaks: /api/whoami-v2, /api/<type>s/<repo>/tree/<revision>, and GET and HEAD of
…/resolve/<revision>/<path> with ranges and a redirect to another path, as the real one sends LFS
files to its storage.
"""

import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LFS_FROM = 100  # bytes; larger files are listed with a sha256, smaller ones with a git blob hash


class Hub:
    """Repositories in memory, a queue of faults per path, and a log of what was asked."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], dict] = {}
        self.faults: dict[str, list[dict]] = {}
        self.log: list[tuple[str, str, dict]] = []
        self.private: dict[str, str] = {}  # repo -> the token that opens it
        self.tokens: dict[str, dict] = {}  # token -> what /api/whoami-v2 says of it
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Hub":
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def add(self, kind: str, repo: str, files: dict[str, bytes], revision: str) -> None:
        """Publish files; kind is `dataset` or `model`."""
        self.repos[(kind, repo)] = {"files": dict(files), "revision": revision}

    def fault(self, path: str, times: int = 1, **what: object) -> None:
        """The next `times` answers to GET of `path` (or `tree`): status, retry_after, cut (bytes), body,
        delay (seconds).

        `HEAD <path>` is for the question about a file's size and hash that the client asks before it.
        """
        self.faults.setdefault(path, []).extend([what] * times)

    def asked(self, path: str) -> list[dict]:
        """The headers of every GET of a file, in order."""
        return [headers for method, asked, headers in self.log if method == "GET" and asked == path]

    def tree(self, files: dict[str, bytes]) -> list[dict]:
        """What the listing says of each file."""
        entries = []
        for path, data in files.items():
            blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
            entry = {"type": "file", "path": path, "size": len(data), "oid": blob}
            if len(data) >= LFS_FROM:
                digest = hashlib.sha256(data).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(data), "pointerSize": 134}
            entries.append(entry)
        return entries

    def about(self, data: bytes, revision: str) -> dict[str, str]:
        """The headers by which `hf` knows a file."""
        entry = self.tree({"": data})[0]
        etag = entry["lfs"]["oid"] if "lfs" in entry else entry["oid"]
        return {
            "X-Repo-Commit": revision,
            "ETag": f'"{etag}"',
            "X-Linked-Etag": f'"{etag}"',
            "X-Linked-Size": str(len(data)),
        }

    def _handler(hub) -> type:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *words: object) -> None:
                pass

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                parts = unquote(urlsplit(self.path).path).strip("/").split("/")
                if parts == ["api", "whoami-v2"]:
                    return self.whoami()
                if parts[0] == "api":
                    kind, repo, rest = parts[1].rstrip("s"), "/".join(parts[2:4]), parts[4:]
                elif parts[0] == "storage":
                    kind, repo, rest = parts[1], "/".join(parts[2:4]), ["stored", *parts[4:]]
                elif parts[0] == "datasets":
                    kind, repo, rest = "dataset", "/".join(parts[1:3]), parts[3:]
                else:
                    kind, repo, rest = "model", "/".join(parts[:2]), parts[2:]
                known = hub.repos.get((kind, repo))
                headers = dict(self.headers)
                told = headers.get("authorization", headers.get("Authorization"))
                shut = repo in hub.private and told != f"Bearer {hub.private[repo]}"
                if shut and rest[0] != "stored":
                    return self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
                if known is None:
                    return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
                if rest[1] != known["revision"]:
                    return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
                path = "/".join(rest[2:])
                if rest[0] == "tree":
                    return self.meet("tree", json.dumps(hub.tree(known["files"])).encode(), headers)
                if path not in known["files"]:
                    return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
                data = known["files"][path]
                about = hub.about(data, known["revision"])
                if rest[0] == "resolve" and len(data) >= LFS_FROM:
                    where = f"{hub.endpoint}/storage/{kind}/{repo}/{known['revision']}/{path}"
                    return self.answer(302, b"", {"Location": where, **about})
                hub.log.append((self.command, path, headers))
                self.meet(path, data, headers, about)

            def whoami(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                known = hub.tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
                status = 200 if known is not None else 401
                self.answer(status, json.dumps(known or {"error": "Invalid credentials"}).encode(), {})

            def meet(self, path: str, data: bytes, headers: dict, about: dict | None = None) -> None:
                queue = hub.faults.get(f"HEAD {path}" if self.command == "HEAD" else path)
                fault = queue.pop(0) if queue else {}
                if "delay" in fault:
                    time.sleep(fault["delay"])
                if "status" in fault:
                    after = {"Retry-After": str(fault["retry_after"])} if "retry_after" in fault else {}
                    return self.answer(fault["status"], b"busy", after)
                data = fault.get("body", data)
                wanted = headers.get("range", headers.get("Range"))
                if wanted and wanted != "bytes=0-":
                    first = int(wanted.removeprefix("bytes=").split("-")[0])
                    if first >= len(data):
                        return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
                    extra = {"Content-Range": f"bytes {first}-{len(data) - 1}/{len(data)}", **(about or {})}
                    return self.answer(206, data[first:], extra, fault.get("cut"))
                self.answer(200, data, about or {}, fault.get("cut"))

            def answer(self, status: int, data: bytes, headers: dict, cut: int | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data if cut is None else data[:cut])
                if cut is not None:
                    self.wfile.flush()
                    self.close_connection = True

        return Handler
