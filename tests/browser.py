"""A headless Chromium for tests, driven by chromedriver over the W3C protocol (plain JSON).

On Debian: ``apt-get install chromium chromium-driver``. Tests that use it are skipped elsewhere.
"""

import base64
import http.client
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

# Chromium has the first name on Debian and the last one as Google builds it.
NAMES = ("chromium", "chromium-browser", "google-chrome")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of elements, by the standard
KEYS = {
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Tab": "\ue004",
    "Home": "\ue011",
    "End": "\ue010",
}


class Browser:
    """One window without a history; the test is skipped where there is no browser.

    Args:
        width: Of the page, in CSS pixels.
        height: Likewise.
        phone: Emulate a phone: touch, and two screen pixels per CSS pixel.
    """

    def __init__(self, width=900, height=700, phone=False):
        browser = next(filter(None, map(shutil.which, NAMES)), None)
        if not browser or not shutil.which("chromedriver"):
            pytest.skip("no Chromium with chromedriver on this machine")
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._driver = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._driver.stdout
        for line in self._driver.stdout:
            if "started successfully on port" in line:
                self._port = int(line.strip().rstrip(".").rpartition(" ")[2])
                break
        options = {
            "binary": browser,
            "args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu",
                "--disable-background-networking", "--hide-scrollbars", "--lang=en",
                f"--user-data-dir={self._folder.name}", f"--window-size={width},{height}",
            ],
        }  # fmt: skip
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        try:
            made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
            screen = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1}
            self.tool("Emulation.setDeviceMetricsOverride", **screen, mobile=phone)
            self.tool("Emulation.setTouchEmulationEnabled", enabled=phone)
        except BaseException:
            self._end()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._ask("DELETE", self._session)
        finally:
            self._end()

    def _end(self):
        self._driver.kill()
        self._driver.communicate()
        self._folder.cleanup()

    def _ask(self, method, path, values=None) -> Any:
        client = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        body = json.dumps(values or {}) if method == "POST" else None
        client.request(method, path, body, {"Content-Type": "application/json"})
        reply = json.loads(client.getresponse().read())["value"]
        client.close()
        if isinstance(reply, dict) and "error" in reply:
            raise RuntimeError(f"{reply['error']}: {reply['message']}")
        return reply

    def open(self, url):
        """Go to an address and wait until it is loaded."""
        self._ask("POST", f"{self._session}/url", {"url": url})

    def reload(self):
        """Load the page again."""
        self._ask("POST", f"{self._session}/refresh")

    def run(self, script, *arguments):
        """Return what a script returns."""
        values = {"script": script, "args": list(arguments)}
        return self._ask("POST", f"{self._session}/execute/sync", values)

    def wait(self, condition, seconds=20):
        """Wait until an expression is true in the page; return its value."""
        until = time.monotonic() + seconds
        while not (value := self.run(f"return {condition}")):
            assert time.monotonic() < until, f"{condition} is never true:\n{self.text()}"
            time.sleep(0.01)
        return value

    def click(self, selector):
        """Click on the first element of a selector, as a mouse or a finger would."""
        using = {"using": "css selector", "value": selector}
        found = self._ask("POST", f"{self._session}/element", using)
        self._ask("POST", f"{self._session}/element/{found[ELEMENT]}/click")

    def press(self, key):
        """Press and release a key: a character, or a name such as ``ArrowLeft``."""
        steps = [{"type": one, "value": KEYS.get(key, key)} for one in ("keyDown", "keyUp")]
        actions = {"actions": [{"type": "key", "id": "keyboard", "actions": steps}]}
        self._ask("POST", f"{self._session}/actions", actions)

    def text(self):
        """Return the visible text of the page."""
        return self.run("return document.body.innerText")

    def complaints(self):
        """Return what the browser has complained of since the last call: errors, refused loads."""
        entries = self._ask("POST", f"{self._session}/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def tool(self, command, **values):
        """Run a command of Chromium's developer tools."""
        path = f"{self._session}/goog/cdp/execute"
        return self._ask("POST", path, {"cmd": command, "params": values})

    def screenshot(self, path: Path):
        """Save what is seen as PNG."""
        path.write_bytes(base64.b64decode(self._ask("GET", f"{self._session}/screenshot")))
