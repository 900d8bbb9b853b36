"""SERVER=http://…: a server that runs already, whoever started it."""

import contextlib
import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omr import settings
from omr.errors import OmrError, RequestError, listing, shown
from omr.evaluation.servers import hugging_face
from omr.evaluation.servers.base import Engine, Server
from omr.evaluation.servers.client import Endpoint
from omr.records import MOST_BYTES

AT_ONCE = 256  # requests; a server that takes fewer lets the others wait


class NamedServer(Server):
    """A server of somebody else's; it is never ended here."""

    def __init__(self, address: str, allow_unproved: bool = False) -> None:
        """With `allow_unproved` a model of another name than the folder's is asked too."""
        super().__init__()
        self._address = address.rstrip("/").removesuffix("/v1")
        self._unproved = allow_unproved
        told = self._get("/version", optional=True)
        version = told.get("version") if isinstance(told, dict) else None
        self.engine = Engine("server", str(version or "unknown"), "unknown", "unknown")
        described = self._get("/openapi.json", optional=True)
        paths = described.get("paths") if isinstance(described, dict) else None
        # The server of transformers loads what a request names; no other has this path.
        self._loads_by_name = isinstance(paths, dict) and "/load_model" in paths

    def serve(self, model: Path) -> Sequence[Endpoint]:
        """The endpoint for `model`: the server must call it by its path, or say that the path is its root.

        One that `make serve` started for a small model is asked as hugging_face.py asks its own.
        """
        key = settings.get("OPENAI_API_KEY")
        if self._loads_by_name:
            return [Endpoint(self._address, str(model), 1, key, hugging_face.body(model))]
        listed = self._get("/v1/models")
        rows = listed.get("data") if isinstance(listed, dict) else None
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            raise OmrError(f"SERVER={self._address} lists no model; name an OpenAI-compatible server")
        names = [str(row.get("id")) for row in rows]
        own = [name for row, name in zip(rows, names, strict=True) if _is(row, model)]
        if not own and not self._unproved:
            raise RequestError(
                f"SERVER={self._address} serves {shown(listing(names, 'and'))}, and not {model}; start it on"
                " that folder, or add ALLOW=server to take its word for it"
            )
        return [Endpoint(self._address, (own or names)[0], AT_ONCE, key)]

    def _get(self, path: str, optional: bool = False) -> Any:
        """An answer's JSON; None where it is optional and there is none."""
        with contextlib.suppress(ValueError, RecursionError):
            request = urllib.request.Request(f"{self._address}{path}")
            if key := settings.get("OPENAI_API_KEY"):
                request.add_header("Authorization", f"Bearer {key}")
            local = Endpoint(self._address, "", 1).is_local
            opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if local else []))
            try:
                with opener.open(request, timeout=30) as answer:
                    return json.loads(answer.read(MOST_BYTES))
            except urllib.error.HTTPError as error:
                if not optional:
                    raise OmrError(
                        f"SERVER={self._address} answers {error.code} to {path}; name an OpenAI-compatible"
                        " server"
                    ) from None
            except (OSError, http.client.HTTPException) as error:
                why = shown(str(error) or type(error).__name__)
                raise OmrError(
                    f"SERVER={self._address} does not answer ({why}); start it, or leave SERVER out"
                ) from None
        return None


def _is(row: dict, model: Path) -> bool:
    """Whether a listed model is this folder, by its name or by where the server says that it lies."""
    places = {str(row.get("id")), str(row.get("root"))}
    return bool({str(model), str(model.resolve())} & places)
