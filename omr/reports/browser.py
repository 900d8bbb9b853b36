"""A headless Chromium over its debugging pipe: what a page looks like, and what a browser makes of it.

For `make picture` and for the tests: no driver, no port, and nothing of it is needed to read a page.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omr.errors import OmrError, RequestError

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    "--headless",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
)
PATIENCE, LONGEST = 60, 300  # seconds that a browser may take to end, and to live


def installed() -> str | None:
    """The first Chromium on PATH."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def need() -> str:
    """The same; a RequestError where there is none."""
    if found := installed():
        return found
    raise RequestError(f"none of {', '.join(NAMES)} is installed; install Debian's package chromium")


@contextlib.contextmanager
def browser() -> Iterator["Browser"]:
    """A running Chromium, which ends with the block; a RequestError where none is installed."""
    program = need()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        options = [*QUIET, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
        options += ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's own rule for root
        (to_read, to), (answers, to_write) = os.pipe(), os.pipe()
        # Chromium takes commands from file 3 and answers on file 4.
        command = ["bash", "-c", f'exec "$@" 3<&{to_read} 4>&{to_write}', "bash", program, *options]
        process = subprocess.Popen(
            command, pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        # One that hangs is ended, and with it the wait for its answer.
        alarm = threading.Timer(LONGEST, process.kill)
        alarm.start()
        try:
            with os.fdopen(to, "wb", buffering=0) as out, os.fdopen(answers, "rb") as back:
                yield Browser(program, out, back)
        finally:
            alarm.cancel()
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Browser:
    """One tab. Messages are JSON objects that end with a zero byte, as the DevTools protocol has them."""

    def __init__(self, program: str, out: Any, back: Any) -> None:
        self.program, self._out, self._back = program, out, back
        self._number, self._session = 0, None
        self.events: list[dict] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **words: Any) -> dict:
        """Have a command done; an OmrError where the browser refuses it or has gone."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": words}
        if self._session:
            message["sessionId"] = self._session
        try:
            self._out.write(json.dumps(message).encode() + b"\0")
        except BrokenPipeError:
            raise self._gone() from None
        while True:
            answer = self._next()
            if answer.get("id") != self._number:
                continue
            if "error" in answer:
                raise OmrError(f"{self.program} refused {method}: {answer['error'].get('message')}")
            return answer["result"]

    def _next(self) -> dict:
        """The next message, kept where it is an event."""
        text = bytearray()
        while (byte := self._back.read(1)) != b"\0":
            if not byte:
                raise self._gone()
            text += byte
        message = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def _gone(self) -> OmrError:
        return OmrError(f"{self.program} ended before its work was done; run it by hand to see why")

    def show(self, page: Path, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page into a window of so many pixels."""
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        self.call("Page.navigate", url=page.absolute().as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings since the page was shown."""
        logged = [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded"]
        thrown = [str(e["params"]) for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        said = [str(e["params"]["args"]) for e in self.events if e["method"] == "Runtime.consoleAPICalled"]
        return [*logged, *thrown, *said]

    @property
    def fetched(self) -> list[str]:
        """Addresses that were asked for since the page was shown, the page's own among them."""
        asked = [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in asked if not url.startswith("data:")]

    def picture(self) -> bytes:
        """The window as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])

    def pdf(self) -> bytes:
        """The page as it is printed."""
        return base64.b64decode(self.call("Page.printToPDF", printBackground=False)["data"])
