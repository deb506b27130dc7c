"""A real headless browser that tests drive by the DevTools protocol: keys, sizes, other pages."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from tempfile import TemporaryDirectory
from typing import Any, Self

from .browser import OPTIONS

TIMEOUT_S = 10
KEYS = {"Tab": 9, "Enter": 13, " ": 32, "Backspace": 8, "ArrowDown": 40}
"""Codes of keys that do something else than write a character."""
SHIFT = 8
PIPES = 'exec "$@" 3<&"$COMMANDS" 4>&"$ANSWERS"'
"""Chromium reads commands from file 3, and writes answers to file 4."""


class Browser:
    """One browser with one page, controlled through pipes."""

    def __init__(self, executable: str, *more: str) -> None:
        self._home = TemporaryDirectory(ignore_cleanup_errors=True)
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        options = (*OPTIONS, *more, "--remote-debugging-pipe", f"--user-data-dir={self._home.name}")
        self._process = subprocess.Popen(
            ["/bin/bash", "-c", PIPES, "bash", executable, *options, "about:blank"],
            pass_fds=(commands, answers),
            env={**os.environ, "COMMANDS": str(commands), "ANSWERS": str(answers)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        self._pending = b""
        self._number = 0
        self._session = ""
        self.events: list[tuple[str, Any]] = []
        """What the browser reported by itself: names and parameters."""

    def __enter__(self) -> Self:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(10)
        os.close(self._commands)
        os.close(self._answers)
        self._home.cleanup()

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            found = self._receive(deadline)
            if found.get("id") == self._number:
                assert "error" not in found, (method, found["error"])
                return found["result"]
            if "method" in found:
                self.events.append((found["method"], found["params"]))

    def _receive(self, deadline: float) -> Any:
        while b"\0" not in self._pending:
            ready, _, _ = select.select([self._answers], [], [], deadline - time.monotonic())
            assert ready, f"the browser does not answer within {TIMEOUT_S} s"
            part = os.read(self._answers, 1 << 20)
            assert part, "the browser has ended"
            self._pending += part
        found, _, self._pending = self._pending.partition(b"\0")
        return json.loads(found)

    # -- the page --

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """Evaluate JavaScript in the page, and return its value."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        found = self.call("Runtime.evaluate", expression=expression, **options)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, expression: str) -> None:
        """Wait until JavaScript is true."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self.run(f"!!({expression})"):
            assert time.monotonic() < deadline, f"not within {TIMEOUT_S} s: {expression}"
            time.sleep(0.02)

    def resize(self, width: int, scale: float = 1) -> None:
        """Show the page in a window of this width in CSS pixels; *scale* is the zoom."""
        size = {"width": width, "height": 800, "deviceScaleFactor": scale, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def prefer(self, **features: str) -> None:
        """Set what the user prefers, such as ``color_scheme="dark"``."""
        found = [{"name": f"prefers-{name.replace('_', '-')}", "value": value}
                 for name, value in features.items()]  # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=found)

    # -- the keyboard --

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key."""
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        code = KEYS.get(key, ord(key.upper()) if key.isalnum() and len(key) == 1 else 0)
        event = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        written = {"text": text} if text else {}
        kind = "keyDown" if text else "rawKeyDown"
        self.call("Input.dispatchKeyEvent", type=kind, **event, **written)
        self.call("Input.dispatchKeyEvent", type="keyUp", **event)

    def write(self, text: str) -> None:
        """Replace what is in the field that has the focus."""
        self.press("a", modifiers=2)
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", key="a", modifiers=2,
                  windowsVirtualKeyCode=65, commands=["selectAll"])  # fmt: skip
        self.press("Backspace")
        for character in text:
            self.press(character)
