"""Chromium without a window, driven by its DevTools protocol over a pipe: pages, screenshots, actions.

Nothing is installed for it: a Chromium or Chrome on the PATH (or in MMREWARD_CHROMIUM) is started with a
profile of its own that is deleted afterwards, and no port is opened. The screen has a device pixel ratio of
1, so a pixel of a screenshot is one of the page.

`Browser.perform` does what an agent says: an `Action` of `verifiers.actions`, its places in fractions of the
screen.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from mmreward.errors import Unscorable
from mmreward.verifiers.actions import Action, Point

PLACE = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execvp(sys.argv[3], sys.argv[3:])
"""
"""Puts a pipe where the browser looks for it, and becomes the browser."""
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
VARIABLE = "MMREWARD_CHROMIUM"
OPTIONS = (
    *("--headless=new", "--disable-gpu", "--hide-scrollbars", "--mute-audio", "--no-first-run"),
    *("--disable-extensions", "--disable-background-networking", "--disable-sync", "--disable-dev-shm-usage"),
    *("--force-device-scale-factor=1", "--remote-debugging-pipe", "--disable-component-update"),
)
DEADLINE = 30.0
"""Seconds within which the browser answers one message, or a page is there."""
SETTLED = 0.05
"""Seconds between two looks at whether a page is there."""
LARGEST = 1 << 26
"""Bytes of one message."""
WHEEL = 0.75
"""Share of the screen that a scroll moves."""
KEYS: Mapping[str, tuple[str, int]] = {
    "enter": ("Enter", 13),
    "tab": ("Tab", 9),
    "esc": ("Escape", 27),
    "backspace": ("Backspace", 8),
    "delete": ("Delete", 46),
    "space": (" ", 32),
    "up": ("ArrowUp", 38),
    "down": ("ArrowDown", 40),
    "left": ("ArrowLeft", 37),
    "right": ("ArrowRight", 39),
    "home": ("Home", 36),
    "end": ("End", 35),
    "pgup": ("PageUp", 33),
    "pgdn": ("PageDown", 34),
}
"""Names of `verifiers.action_names` -> (name, code) as the browser has them."""
MODIFIERS = {"alt": 1, "ctrl": 2, "cmd": 4, "shift": 8}


def chromium() -> str | None:
    """Path of a Chromium or Chrome on this machine; None where there is none."""
    named = os.environ.get(VARIABLE)
    return named or next((found for name in NAMES if (found := shutil.which(name))), None)


class BrowserError(ValueError):
    """Raised where the browser is not there, does not answer, or a page cannot be opened."""


class Browser:
    """One page in a Chromium of its own.

    >>> with Browser(1280, 800) as browser:  # doctest: +SKIP
    ...     browser.open("https://example.org")
    ...     Path("page.png").write_bytes(browser.screenshot())

    Args:
        width: of the screen, in pixels.
        height: of the screen.
        deadline: seconds within which it answers, and a page is there.

    Raises:
        BrowserError: there is no Chromium, or it does not start.
    """

    def __init__(self, width: int = 1280, height: int = 800, *, deadline: float = DEADLINE) -> None:
        program = chromium()
        if program is None:
            raise BrowserError(f"no Chromium on the PATH: install one, or name it in {VARIABLE}")
        self.width, self.height, self.deadline = width, height, deadline
        self._number = 0
        self._waiting = bytearray()
        self._session = ""
        self._profile = TemporaryDirectory(ignore_cleanup_errors=True)
        self._process = self._start(program)
        try:
            self._attach()
        except BaseException:
            self.close()
            raise

    def _start(self, program: str) -> subprocess.Popen[bytes]:
        theirs_in, self._to = (_away(end) for end in os.pipe())
        self._from, theirs_out = (_away(end) for end in os.pipe())
        size = f"--window-size={self.width},{self.height}"
        root = ("--no-sandbox",) if os.geteuid() == 0 else ()  # its sandbox refuses root
        command = (program, *OPTIONS, *root, size, f"--user-data-dir={self._profile.name}", "about:blank")
        # The protocol's pipe is 3 and 4 of the browser, where Popen cannot put it.
        placed = (sys.executable, "-I", "-S", "-c", PLACE, str(theirs_in), str(theirs_out))
        process = subprocess.Popen(
            (*placed, *command),
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        return process

    def _attach(self) -> None:
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next((one["targetId"] for one in targets if one["type"] == "page"), None)
        if page is None:
            page = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        self._call("Page.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", source=ONE_PAGE)
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=self.width, height=self.height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the browser and delete its profile."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        for end in (self._to, self._from):
            if end >= 0:
                os.close(end)
        self._to = self._from = -1
        self._profile.cleanup()

    # --- the protocol -------------------------------------------------------------------------------------

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        """Result of a method.

        Raises:
            BrowserError: it failed, or there was no answer within the deadline.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        try:
            _write(self._to, json.dumps(message).encode() + b"\0")
        except OSError as error:
            raise BrowserError(f"{method}: the browser has ended ({error})") from None
        end = time.monotonic() + self.deadline
        while True:
            answer = self._read(end, method)
            if answer.get("id") == self._number:
                break
            if answer.get("method") == "Page.javascriptDialogOpening":  # nobody is there to close it
                close = {"id": 0, "method": "Page.handleJavaScriptDialog", "params": {"accept": True}}
                _write(self._to, json.dumps({**close, "sessionId": self._session}).encode() + b"\0")
        if "error" in answer:
            raise BrowserError(f"{method}: {answer['error'].get('message', answer['error'])}")
        result: dict[str, Any] = answer["result"]
        return result

    def _read(self, end: float, method: str) -> dict[str, Any]:
        while (at := self._waiting.find(0)) < 0:
            ready, _, _ = select.select([self._from], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise BrowserError(f"{method}: no answer within {self.deadline:g} s")
            data = os.read(self._from, 1 << 16)
            if not data or len(self._waiting) > LARGEST:
                raise BrowserError(f"{method}: the browser has ended, or answers without end")
            self._waiting += data
        message: dict[str, Any] = json.loads(self._waiting[:at])
        del self._waiting[: at + 1]
        return message

    # --- pages --------------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        """Open a page and wait until it is there.

        Raises:
            BrowserError: it cannot be opened.
        """
        found = self._call("Page.navigate", url=url)
        if found.get("errorText"):
            raise BrowserError(f"{url}: {found['errorText']}")
        self.settle()

    def settle(self) -> None:
        """Wait until the page is there: loaded, and drawn twice."""
        end = time.monotonic() + self.deadline
        while True:
            try:
                if self.evaluate("document.readyState") == "complete" and self.evaluate(DRAWN):
                    return
            except BrowserError:  # the page of the first look is gone: another one comes
                if self._process.poll() is not None:
                    raise
            if time.monotonic() > end:
                raise BrowserError(f"the page is not there within {self.deadline:g} s")
            time.sleep(SETTLED)

    @property
    def url(self) -> str:
        return str(self.evaluate("location.href"))

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression in the page, promises awaited, as JSON.

        Raises:
            BrowserError: it fails.
        """
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise BrowserError(f"the page says: {str(found['exceptionDetails'])[:400]}")
        return found["result"].get("value")

    def screenshot(self) -> bytes:
        """The screen as PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def tree(self) -> str:
        """The page as text: its accessibility tree, a line each with a number, role, name and value."""
        nodes = {node["nodeId"]: node for node in self._call("Accessibility.getFullAXTree")["nodes"]}
        heads = [name for name, node in nodes.items() if node.get("parentId") not in nodes]
        lines: list[str] = []
        waiting = [(name, 0) for name in reversed(heads)]
        while waiting and len(lines) < MAX_LINES:
            name, depth = waiting.pop()
            node = nodes[name]
            line = "" if node.get("ignored") else _line(node)
            lines += ["\t" * depth + f"[{len(lines) + 1}] {line}"] * bool(line)
            below = [child for child in node.get("childIds", ()) if child in nodes]
            waiting += [(child, depth + bool(line)) for child in reversed(below)]
        return "\n".join(lines)

    # --- actions ------------------------------------------------------------------------------------------

    def perform(self, action: Action) -> None:
        """Do an action and wait until the page is there; "finish", "answer" and "wait" do nothing.

        Raises:
            Unscorable: "unparsable" where it is none of a browser, or its place is beside the screen.
        """
        if action.type in ("finish", "answer", "wait"):
            return
        if action.type == "back":
            self.evaluate("history.back()")
        elif action.type == "scroll":
            self._scroll(action)
        elif action.type == "type":
            if action.point is not None:
                self._click(action.point, 1, "left")
            self._call("Input.insertText", text=action.text)
            if "enter" in action.keys:
                self._press(("enter",))
        elif action.type == "key":
            self._press(action.keys)
        elif action.type in CLICKS and action.point is not None:
            count, button = CLICKS[action.type]
            self._click(action.point, count, button)
        elif action.type == "move" and action.point is not None:
            x, y = self._on_screen(action.point)
            self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        else:
            raise Unscorable(f"a browser does no {action.type}", "unparsable")
        self.settle()

    def _on_screen(self, point: Point) -> tuple[float, float]:
        if not point.inside:
            raise Unscorable(f"({point.x:g}, {point.y:g}) of the screen lies beside it", "unparsable")
        return min(point.x * self.width, self.width - 1), min(point.y * self.height, self.height - 1)

    def _click(self, point: Point, count: int, button: str) -> None:
        x, y = self._on_screen(point)
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for number in range(1, count + 1):
            for kind in ("mousePressed", "mouseReleased"):
                self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, clickCount=number)

    def _scroll(self, action: Action) -> None:
        x, y = self._on_screen(action.point or Point(0.5, 0.5))
        step = {"up": (0, -1), "down": (0, 1), "left": (-1, 0), "right": (1, 0)}[action.direction]
        self._call(
            "Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y,
            deltaX=step[0] * self.width * WHEEL, deltaY=step[1] * self.height * WHEEL,
        )  # fmt: skip

    def _press(self, keys: tuple[str, ...]) -> None:
        held = sum(MODIFIERS.get(key, 0) for key in keys)
        for key in (key for key in keys if key not in MODIFIERS):
            name, code = KEYS.get(key, (key, ord(key.upper()) if len(key) == 1 else 0))
            if len(name) > 1 and not code:
                raise Unscorable(f"no key is named {key!r}", "unparsable")
            text = {"enter": "\r"}.get(key, name if len(name) == 1 and not held & 7 else "")
            about = {"key": name, "windowsVirtualKeyCode": code, "modifiers": held}
            self._call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
            self._call("Input.dispatchKeyEvent", type="keyUp", **about)


ONE_PAGE = """
window.open = address => { if (address) location.href = address; return null; };
addEventListener('click', event => {
  const link = event.target.closest && event.target.closest('a[target]');
  if (link) link.target = '_self';
}, true);
"""
"""JavaScript by which what would open another window opens in this one."""
DRAWN = (
    "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done("
    "document.readyState === 'complete'))))"
)
"""JavaScript that ends once what has changed is drawn."""
CLICKS: Mapping[str, tuple[int, str]] = {
    "click": (1, "left"),
    "double_click": (2, "left"),
    "triple_click": (3, "left"),
    "right_click": (1, "right"),
    "middle_click": (1, "middle"),
    "long_press": (1, "left"),
}


def _away(end: int) -> int:
    """The same end of a pipe under a number above those that the browser has."""
    moved = fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 16)
    os.close(end)
    return moved


SILENT = ("none", "generic", "InlineTextBox", "LineBreak", "StaticText")
"""Roles that are told where they have words alone; those of texts within a named element say them twice."""
MAX_LINES, LONGEST_NAME = 4000, 400


def _line(node: Mapping[str, Any]) -> str:
    """Role, name and value of a node of the accessibility tree; "" for one that says nothing."""
    role, name, value = (
        " ".join(str(node.get(key, {}).get("value", "")).split())[:LONGEST_NAME]
        for key in ("role", "name", "value")
    )
    if role == "InlineTextBox" or (role in SILENT and not name):
        return ""
    said = f"{role} {name!r}" if name else role
    states = [one["name"] for one in node.get("properties", ()) if one.get("value", {}).get("value") is True]
    told = [f"value={value!r}"] * bool(value) + [
        one for one in states if one in ("checked", "disabled", "expanded")
    ]
    return " ".join([said, *told])


def _write(end: int, data: bytes) -> None:
    while data:
        data = data[os.write(end, data) :]


def page_address(given: str) -> str:
    """Address of a page: as given, or of a file.

    Raises:
        ValueError: it is neither an address nor a file.
    """
    if given.startswith(("http://", "https://", "file://")):
        return given
    path = Path(given)
    if not path.is_file():
        raise ValueError(f"{given!r} is neither http://..., https://... nor a file")
    return path.resolve().as_uri()
