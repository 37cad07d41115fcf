"""A headless Chromium for tests of HTML pages, spoken to through its DevTools protocol.

The protocol's messages (https://chromedevtools.github.io/devtools-protocol/) go through a pair of
pipes, so that no package and no port is needed. Tests take the fixture `browser` of conftest.py,
which skips if there is no Chromium:

    def test_page(browser, tmp_path):
        browser.check(tmp_path / "page.html")
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import select
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

DESKTOP, TELEPHONE = 1280, 390
"""Widths in CSS pixels."""

INLINE = ("data:", "blob:", "about:")
"""Addresses that leave the page's own file alone."""


def find() -> str | None:
    """The program, from `CNNRT_CHROMIUM` or the search path; None: there is none."""
    return os.environ.get("CNNRT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@dataclass
class Report:
    """Events while a page was open."""

    requests: list[str] = field(default_factory=list)
    """Addresses requested, other than the page itself and its contents."""
    errors: list[str] = field(default_factory=list)
    """Exceptions, failed requests, console errors and warnings."""


class Browser:
    """One process, one page at a time. Close it after use."""

    def __init__(self, program: str, profile: Path) -> None:
        """Starts it; `profile` is an empty folder."""
        options = [
            *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
            *("--hide-scrollbars", "--remote-debugging-pipe", f"--user-data-dir={profile}"),
        ]
        # It reads commands from descriptor 3 and answers on 4.
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh", program, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        assert self.process.stdin
        assert self.process.stdout
        self._to, self._from = self.process.stdin, self.process.stdout
        self._ids = itertools.count(1)
        self._pending = b""
        self._loaded = False
        self._page = ""
        self.report = Report()
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(
        self, page: Path | str, *, width: int = DESKTOP, height: int = 900, dark: bool = False
    ) -> Report:
        """Loads a file or an address; the report goes on being filled until the next one."""
        self.report = Report()
        self._page = page if isinstance(page, str) else page.resolve().as_uri()
        self._loaded = False
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=self._page)
        end = time.monotonic() + 30
        while not self._loaded:
            self._read(end)
        self.evaluate("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
        return self.report

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression (of its promise, if it is one) in the open page.

        Raises:
            RuntimeError: it throws.
        """
        answer = self._call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description", answer))
        return answer["result"].get("value")

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """Writes the visible part of the page, or all of it, as PNG."""
        answer = self._call(
            "Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole)
        )
        path.write_bytes(base64.b64decode(answer["data"]))

    def _clip(self, whole: bool) -> dict[str, Any]:
        if not whole:
            return {}
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {**size, "scale": 1}}

    def check(self, path: Path) -> None:
        """Asserts that a page works by itself, at both widths, light and dark.

        It requests nothing outside of its file, has no error on its console and is not wider than
        the window.
        """
        for width, dark in itertools.product((DESKTOP, TELEPHONE), (False, True)):
            report = self.open(path, width=width, dark=dark)
            assert report == Report(), f"{path} at {width} pixels: {report}"
            wide = self.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} pixels wide in a window of {width}"

    def close(self) -> None:
        """Ends the process."""
        self._to.close()  # which ends it
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._from.close()

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its answer."""
        number = next(self._ids)
        message: dict[str, Any] = {"id": number, "method": method, "params": parameters}
        if hasattr(self, "_session"):
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        end = time.monotonic() + 30
        while True:
            answer = self._read(end)
            if answer.get("id") == number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _read(self, end: float) -> dict[str, Any]:
        """The next message; events are noted in the report."""
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._from], [], [], max(0, end - time.monotonic()))
            data = os.read(self._from.fileno(), 1 << 20) if ready else b""
            if not data:
                raise RuntimeError("Chromium " + ("ended" if ready else "does not answer"))
            self._pending += data
        text, _, self._pending = self._pending.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        self._note(message.get("method", ""), message.get("params", {}))
        return message

    def _note(self, method: str, event: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded = True
        elif method == "Network.requestWillBeSent":
            url = event["request"]["url"]
            if url.partition("#")[0] != self._page and not url.startswith(INLINE):
                self.report.requests.append(url)
        elif method == "Runtime.exceptionThrown":
            details = event["exceptionDetails"]
            self.report.errors.append(
                details.get("exception", {}).get("description", details["text"])
            )
        elif method == "Runtime.consoleAPICalled" and event["type"] in (
            "error",
            "warning",
            "assert",
        ):
            words = [str(a.get("value", a.get("description"))) for a in event["args"]]
            self.report.errors.append(" ".join(words))
        elif method == "Log.entryAdded" and event["entry"]["level"] in ("error", "warning"):
            self.report.errors.append(event["entry"]["text"])
