"""A real Firefox for tests, driven by WebDriver BiDi, the protocol it speaks by itself: no driver is needed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import websocket
from browser import on_path

PATHS = ("firefox-esr", "firefox")
_ANSWER = 60  # seconds within which the browser must answer

# nothing is asked from the network, no first page, no questions
_SETTINGS = {
    "app.normandy.enabled": False,
    "app.update.enabled": False,
    "browser.aboutwelcome.enabled": False,
    "browser.newtabpage.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "browser.startup.page": 0,
    "datareporting.policy.dataSubmissionEnabled": False,
    "extensions.update.enabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
    "services.settings.server": "data:,#remote-settings-dummy/v1",
    "toolkit.telemetry.enabled": False,
}

KEYS = {"ArrowRight": "\ue014", "ArrowLeft": "\ue012", "Enter": "\ue007"}


def firefox_path() -> str:
    return on_path("Firefox", PATHS, "firefox-esr")


class Tab:
    """The one tab of a browser. ``wrong`` collects what must not happen: errors in the console, uncaught exceptions."""

    def __init__(self, socket: websocket.WebSocket) -> None:
        self._socket, self._number = socket, 0
        self.wrong: list[str] = []
        self.do("session.new", capabilities={})
        self.do("session.subscribe", events=["log.entryAdded"])
        self._context = self.do("browsingContext.getTree")["contexts"][0]["context"]

    def do(self, method: str, **given: Any) -> dict[str, Any]:
        """Send one command and wait for its answer.

        Raises:
            RuntimeError: what the browser says is wrong with it.
        """
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": given}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self.wrong.append(message["params"]["text"])
            if message.get("id") == self._number:
                if message["type"] == "error":
                    raise RuntimeError(f"Firefox, asked for {method}: {message['error']}: {message['message']}")
                return message["result"]

    def open(self, url: str) -> None:
        self.wrong.clear()
        self.do("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def evaluate(self, code: str) -> Any:
        """The value of an expression in the page; it comes as JSON."""
        # the sandbox may do what the page's own policy forbids
        target = {"context": self._context, "sandbox": "test"}
        found = self.do(
            "script.evaluate", expression=f"JSON.stringify({code}) ?? 'null'", target=target, awaitPromise=True
        )
        if found["type"] == "exception":
            raise RuntimeError(f"in the page: {found['exceptionDetails']['text']}")
        return json.loads(found["result"]["value"])

    def wait(self, code: str, seconds: float = 20) -> Any:
        """Until an expression in the page is true; its value."""
        end = time.monotonic() + seconds
        while not (last := self.evaluate(code)) and time.monotonic() < end:
            time.sleep(0.05)
        assert last, f"expected within {seconds} seconds: {code}"
        return last

    def press(self, selector: str, key: str) -> None:
        """Give an element the focus and press a key, as a hand would."""
        self.evaluate(f"document.querySelector({json.dumps(selector)}).focus()")
        pressed = [{"type": kind, "value": KEYS[key]} for kind in ("keyDown", "keyUp")]
        self.do(
            "input.performActions",
            context=self._context,
            actions=[{"type": "key", "id": "keyboard", "actions": pressed}],
        )


@contextmanager
def firefox(home: Path) -> Iterator[Tab]:
    """Run a browser with a profile of its own in ``home`` until the block ends.

    Raises:
        RuntimeError: it did not answer, with what it said.
    """
    profile = home / "profile"
    profile.mkdir()
    settings = "".join(f"user_pref({json.dumps(name)}, {json.dumps(value)});\n" for name, value in _SETTINGS.items())
    (profile / "user.js").write_text(settings, encoding="utf-8")
    log = home / "firefox.log"
    command = [firefox_path(), "--headless", "--no-remote", "--remote-debugging-port=0", "--profile", str(profile)]
    with log.open("w", encoding="utf-8") as output:
        process = subprocess.Popen(
            command,
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        socket = websocket.create_connection(_address(process, log) + "/session", timeout=_ANSWER, suppress_origin=True)
        yield Tab(socket)
        socket.close()
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: subprocess.Popen, log: Path) -> str:
    """Where the browser listens, as it says when it has started."""
    end = time.monotonic() + _ANSWER
    while time.monotonic() < end and process.poll() is None:
        if found := re.search(r"WebDriver BiDi listening on (ws://[\w.:]+)", log.read_text(encoding="utf-8")):
            return found[1]
        time.sleep(0.1)
    raise RuntimeError(
        f"Firefox did not say within {_ANSWER} seconds where it listens:\n{log.read_text(encoding='utf-8')}"
    )
