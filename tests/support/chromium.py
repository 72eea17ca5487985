"""A headless Chromium that a test looks at a page with, over the DevTools protocol."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from websockets.sync.client import ClientConnection, connect

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)
_SECONDS = 30.0
Scheme = Literal["light", "dark"]


class Tab:
    """One page. What it logs and asks the network for is kept."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.logged: list[str] = []
        self.requested: list[str] = []
        self._loaded = False
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """One command's answer. Raises AssertionError if the browser refuses it."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = self._receive()
            if message.get("id") == number:
                assert "error" not in message, f"{method}: {message['error']}"
                result: dict[str, Any] = message["result"]
                return result

    def show(self, page: Path, scheme: Scheme, width: int, height: int = 900) -> None:
        """Open a file in a colour scheme and a window of so many CSS pixels; it is laid out at return."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        self._loaded = False
        self.call("Page.navigate", url=page.as_uri())
        deadline = time.monotonic() + _SECONDS
        while not self._loaded and time.monotonic() < deadline:
            self._receive()

    def evaluate(self, script: str) -> Any:
        """A JavaScript expression's value, as JSON."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, to: Path) -> None:
        """The whole page as PNG."""
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        to.write_bytes(base64.b64decode(shot["data"]))

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(timeout=_SECONDS))
        params = message.get("params", {})
        match message.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Log.entryAdded":
                self.logged.append(params["entry"]["text"])
            case "Runtime.consoleAPICalled" | "Runtime.exceptionThrown":
                self.logged.append(json.dumps(params))
            case "Network.requestWillBeSent":
                self.requested.append(params["request"]["url"])
        return message


@contextmanager
def chromium() -> Iterator[Tab]:
    """A browser with one tab, which ends with the context."""
    with tempfile.TemporaryDirectory(prefix="chromium-", ignore_cleanup_errors=True) as profile:
        browser = subprocess.Popen(
            ["chromium", *_FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_address(Path(profile)), max_size=None, proxy=None) as connection:
                yield Tab(connection)
        finally:
            browser.terminate()
            browser.wait(_SECONDS)


def _address(profile: Path) -> str:
    """The first tab's WebSocket."""
    import urllib.request

    deadline = time.monotonic() + _SECONDS
    active = profile / "DevToolsActivePort"
    while time.monotonic() < deadline:
        lines = active.read_text().splitlines() if active.exists() else []
        if len(lines) == 2:
            with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list", timeout=_SECONDS) as answer:
                tabs = json.load(answer)
            for tab in tabs:
                if tab["type"] == "page":
                    return str(tab["webSocketDebuggerUrl"])
        time.sleep(0.05)
    raise AssertionError("chromium did not open its DevTools port")
