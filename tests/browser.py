"""Chromium without a window, driven over the DevTools protocol by a pipe.

No package is needed: Chromium reads commands from file descriptor 3 and answers on 4, as JSON with
a zero byte behind each. Source: the Chrome DevTools Protocol, `--remote-debugging-pipe`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

#: Chromium on this machine; None where it is missing.
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
MISSING = "no chromium on this machine: apt install chromium"
#: Seconds that a page may take for anything.
PATIENCE = 60.0
_OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--hide-scrollbars", "--force-device-scale-factor=1", "--remote-debugging-pipe",
)  # fmt: skip


#: What axe calls serious, with the first three places of each.
_SERIOUS = """axe.run().then(told => told.violations
  .filter(each => ["serious", "critical"].includes(each.impact))
  .map(each => [each.id, each.nodes.slice(0, 3).map(node => node.html + node.failureSummary)]))"""


class Browser:
    """A browser with one page; a context manager.

    Args:
        width, height: of the window, in pixels.
        dark: whether the system prefers dark pages.
        still: whether the system prefers reduced motion.
    """

    def __init__(
        self, width: int = 1400, height: int = 900, *, dark: bool = False, still: bool = False
    ) -> None:
        self._place = tempfile.TemporaryDirectory(
            prefix="aelab-browser-", ignore_cleanup_errors=True
        )
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        command = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", command, "browser", str(CHROMIUM), *_OPTIONS,
             f"--user-data-dir={self._place.name}", "about:blank"],
            pass_fds=(to_read, to_write), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self._rest, self._number, self._session = b"", 0, ""
        #: Errors of the page: exceptions, refused files, messages of `console.error`.
        self.errors: list[str] = []
        targets = self._send("Target.getTargets")["targetInfos"]
        page = next(each["targetId"] for each in targets if each["type"] == "page")
        attached = self._send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for room in ("Page", "Runtime", "Log", "DOM"):
            self._send(f"{room}.enable")
        self.resize(width, height)
        features = {"prefers-color-scheme": "dark" if dark else "light",
                    "prefers-reduced-motion": "reduce" if still else "no-preference"}  # fmt: skip
        self._send(
            "Emulation.setEmulatedMedia",
            features=[{"name": name, "value": value} for name, value in features.items()],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        with contextlib.suppress(OSError, EOFError, TimeoutError):
            self._session = ""
            self._send("Browser.close")
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._place.cleanup()

    # --- the page

    def resize(self, width: int, height: int) -> None:
        """Sets the size of the page in pixels."""
        self._send(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def open(self, address: str, ready: str = "document.readyState === 'complete'") -> None:
        """Opens an address, and waits until a condition in JavaScript holds."""
        self._send("Page.navigate", url="about:blank")
        self._send("Page.navigate", url=address)
        self.wait(ready)

    def run(self, script: str) -> Any:
        """The value of an expression in JavaScript; a promise is awaited."""
        found = self._send(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait(self, condition: str, seconds: float = PATIENCE) -> None:
        """Waits until an expression is true.

        Raises:
            AssertionError: it does not become true.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(AssertionError):
                if self.run(f"Boolean({condition})"):
                    return
            time.sleep(0.05)
        raise AssertionError(f"after {seconds} s not true: {condition}; errors: {self.errors}")

    def picture(self, path: Path) -> Path:
        """Writes what the window shows as a PNG."""
        shot = self._send("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(shot["data"]))
        return path

    # --- a person

    def place(self, selector: str, x: float = 0.5, y: float = 0.5) -> tuple[float, float]:
        """A point of an element in the window, scrolled into sight; in shares of its size."""
        found = self.run(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            "node.scrollIntoView({block: 'nearest', behavior: 'instant'});"
            "const box = node.getBoundingClientRect();"
            "return [box.left, box.top, box.width, box.height]; })()"
        )
        return found[0] + x * found[2], found[1] + y * found[3]

    def click(self, selector: str, *, shift: bool = False) -> None:
        """A click into the middle of an element."""
        x, y = self.place(selector)
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y, shift)
        self._mouse("mouseReleased", x, y, shift)

    def hover(self, selector: str, x: float = 0.5, y: float = 0.5) -> None:
        """Moves the mouse onto an element."""
        self._mouse("mouseMoved", *self.place(selector, x, y))

    def drag(
        self, selector: str, start: tuple[float, float], end: tuple[float, float], steps: int = 8
    ) -> None:
        """Drags from one point of an element to another, both in shares of its size."""
        (x, y), (to_x, to_y) = self.place(selector, *start), self.place(selector, *end)
        self._mouse("mouseMoved", x, y)
        self._mouse("mousePressed", x, y)
        for step in range(1, steps + 1):
            part = step / steps
            self._mouse("mouseMoved", x + part * (to_x - x), y + part * (to_y - y), held=True)
        self._mouse("mouseReleased", to_x, to_y)

    def key(self, name: str, code: int, text: str = "", *, shift: bool = False) -> None:
        """Presses a key, for instance `("ArrowDown", 40)` or `("Enter", 13, "\\r")`."""
        common = {"key": name, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self._send("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self._send("Input.dispatchKeyEvent", type="keyUp", **common)

    def type(self, text: str) -> None:
        """Types into what has the focus."""
        self._send("Input.insertText", text=text)

    def choose_files(self, selector: str, *paths: Path) -> None:
        """Chooses files in a file input."""
        root = self._send("DOM.getDocument")["root"]["nodeId"]
        node = self._send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self._send("DOM.setFileInputFiles", nodeId=node, files=[str(path) for path in paths])

    def _mouse(
        self, kind: str, x: float, y: float, shift: bool = False, *, held: bool = False
    ) -> None:
        self._send(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, clickCount=1,
            button="none" if kind == "mouseMoved" and not held else "left",
            buttons=1 if held or kind == "mousePressed" else 0, modifiers=8 if shift else 0,
        )  # fmt: skip

    # --- the protocol

    def _send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for told in self._told(time.monotonic() + PATIENCE):
            if told.get("id") == number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return told["result"]
            self._note(told)
        raise EOFError("the browser has ended")

    def _told(self, end: float) -> Iterator[dict[str, Any]]:
        while True:
            while b"\0" in self._rest:
                one, _, self._rest = self._rest.partition(b"\0")
                yield json.loads(one)
            if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError("the browser does not answer")
            part = os.read(self._read, 1 << 16)
            if not part:
                return
            self._rest += part

    def _note(self, told: dict[str, Any]) -> None:
        given = told.get("params", {})
        if told.get("method") == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            words = details.get("exception", {}).get("description") or details["text"]
            self.errors.append(str(words))
        elif told.get("method") == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.errors.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")


def serious_faults(browser: Browser) -> list[Any]:
    """What axe calls serious on the page; nothing where its package is missing."""
    axe = find_spec("axe_core_python")
    if axe is None or not axe.submodule_search_locations:
        return []
    script = Path(axe.submodule_search_locations[0]) / "axe.min.js"
    browser.run(script.read_text(encoding="utf-8") + "; 0")
    found: list[Any] = browser.run(_SERIOUS)
    return found
