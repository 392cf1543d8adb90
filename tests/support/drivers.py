"""Debian's Firefox and WebKit, which Playwright cannot drive: by WebDriver BiDi, and by WebDriver."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

_MINI_BROWSERS = sorted(Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser"))
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
SOUND = shutil.which("pulseaudio") and shutil.which("paplay")
WEBKIT = (
    shutil.which("WebKitWebDriver") and shutil.which("Xvfb") and _MINI_BROWSERS and str(_MINI_BROWSERS[0])
)
_SIZE = (1000, 900)
_PREFERENCES = {
    "media.navigator.permission.disabled": True,  # nobody is asked
    "app.update.enabled": False,
    "browser.shell.checkDefaultBrowser": False,
    "datareporting.policy.dataSubmissionEnabled": False,
    "network.captive-portal-service.enabled": False,
    "network.connectivity-service.enabled": False,
}


class Driver(Protocol):
    """One window of a browser."""

    complaints: list[str]
    """What pages wrote on the console as errors or warnings, if the browser tells."""

    def goto(self, address: str) -> None: ...

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, as JSON; it counts as an act of the user's."""

    def choose(self, selector: str, path: Path) -> None:
        """Choose a file in an input."""

    def screenshot(self, path: Path) -> None: ...


def wait(driver: Driver, expression: str, seconds: float = 60) -> Any:
    """Wait until a JavaScript expression is true, and return its value."""
    end = time.monotonic() + seconds
    while not (found := driver.evaluate(expression)):
        if time.monotonic() > end:
            status = driver.evaluate("document.body.innerText")
            raise TimeoutError(f"{expression} is {found!r}; complaints {driver.complaints}; page: {status}")
        time.sleep(0.1)
    return found


class _Firefox:
    def __init__(self, address: str) -> None:
        from websockets.sync.client import connect

        self._socket = connect(f"{address}/session", max_size=None)
        self._number = 0
        self.complaints: list[str] = []
        self._send("session.new", capabilities={})
        self._send("session.subscribe", events=["log.entryAdded"])
        self._context = self._send("browsingContext.getTree")["contexts"][0]["context"]
        width, height = _SIZE
        self._here("browsingContext.setViewport", viewport={"width": width, "height": height})

    def close(self) -> None:
        self._send("browser.close")
        self._socket.close()

    def goto(self, address: str) -> None:
        self._here("browsingContext.navigate", url=address, wait="complete")

    def evaluate(self, expression: str) -> Any:
        found = self._script(f"(async () => JSON.stringify((await ({expression})) ?? null))()")
        return json.loads(found["value"])

    def choose(self, selector: str, path: Path) -> None:
        element = self._script(f"document.querySelector({json.dumps(selector)})")
        self._here("input.setFiles", element={"sharedId": element["sharedId"]}, files=[str(path)])

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._here("browsingContext.captureScreenshot")["data"]))

    def _script(self, expression: str) -> Any:
        found = self._send(
            "script.evaluate",
            expression=expression,
            awaitPromise=True,
            userActivation=True,
            target={"context": self._context},
        )
        assert found["type"] == "success", found
        return found["result"]

    def _here(self, method: str, **parameters: Any) -> Any:
        return self._send(method, context=self._context, **parameters)

    def _send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._socket.recv(timeout=120))
            if answer["type"] == "event":
                entry = answer["params"]
                if entry["level"] in ("error", "warn"):
                    self.complaints.append(entry["text"])
            elif answer["id"] == self._number:
                assert answer["type"] == "success", answer
                return answer["result"]


class _WebKit:
    def __init__(self, address: str, browser: str) -> None:
        self.complaints: list[str] = []  # it does not tell
        options = {"binary": browser, "args": ["--automation"]}
        capabilities = {"alwaysMatch": {"webkitgtk:browserOptions": options}}
        self._address = f"{address}/session"
        self._address += "/" + self._send("POST", "", capabilities=capabilities)["sessionId"]
        width, height = _SIZE
        self._send("POST", "/window/rect", x=0, y=0, width=width, height=height)

    def close(self) -> None:
        self._send("DELETE", "")

    def goto(self, address: str) -> None:
        self._send("POST", "/url", url=address)

    def evaluate(self, expression: str) -> Any:
        script = f"const done = arguments[0]; (async () => ({expression}))().then(done)"
        return self._send("POST", "/execute/async", script=script, args=[])

    def choose(self, selector: str, path: Path) -> None:
        element = self._send("POST", "/element", using="css selector", value=selector)
        (number,) = element.values()
        self._send("POST", f"/element/{number}/value", text=str(path))

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._send("GET", "/screenshot")))

    def _send(self, method: str, path: str, **parameters: Any) -> Any:
        body = json.dumps(parameters).encode() if method == "POST" else None
        request = urllib.request.Request(self._address + path, body, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode()}") from error


@contextmanager
def _running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


@contextmanager
def firefox(folder: Path, environment: Mapping[str, str], **preferences: object) -> Iterator[Driver]:
    """Start Firefox with a new profile in a folder."""
    profile = folder / "profile"
    profile.mkdir()
    lines = (
        f"user_pref({json.dumps(key)}, {json.dumps(value)});\n"
        for key, value in {**_PREFERENCES, **preferences}.items()
    )
    (profile / "user.js").write_text("".join(lines))
    command = [
        str(FIREFOX),
        "--headless",
        "--no-remote",
        "--profile",
        str(profile),
        "--remote-debugging-port=0",
    ]
    with _running(command, stderr=subprocess.PIPE, env={**environment, "HOME": str(folder)}) as process:
        driver = _Firefox(_said(process.stderr, r"WebDriver BiDi listening on (ws://\S+)"))
        threading.Thread(
            target=lambda: list(process.stderr or ()), daemon=True
        ).start()  # so that it never waits
        try:
            yield driver
        finally:
            driver.close()


@contextmanager
def webkit(folder: Path, environment: Mapping[str, str]) -> Iterator[Driver]:
    """Start WebKit's small browser on a display of its own."""
    read, write = os.pipe()
    width, height = _SIZE
    display = ["Xvfb", "-displayfd", str(write), "-screen", "0", f"{width}x{height}x24", "-nolisten", "tcp"]
    with _running(display, pass_fds=(write,), stderr=subprocess.DEVNULL), os.fdopen(read) as number:
        os.close(write)
        environment = {**environment, "DISPLAY": f":{number.readline().strip()}", "HOME": str(folder)}
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        with _running(["WebKitWebDriver", f"--port={port}"], env=environment, stderr=subprocess.DEVNULL):
            _await(lambda: socket.create_connection(("127.0.0.1", port)).close())
            driver = _WebKit(f"http://127.0.0.1:{port}", str(WEBKIT))
            try:
                yield driver
            finally:
                driver.close()


def without_sound(folder: Path) -> dict[str, str]:
    """The environment of a browser that has neither microphone nor loudspeaker."""
    return {**os.environ, "PULSE_SERVER": f"unix:{folder}/none"}


@contextmanager
def sound(folder: Path) -> Iterator[dict[str, str]]:
    """Start a sound server whose microphone records what ``play`` plays; gives its users' environment."""
    script = folder / "sound.pa"
    script.write_text(
        f"load-module module-native-protocol-unix socket={folder}/socket\n"
        "load-module module-null-sink sink_name=loudspeaker\n"
        "load-module module-null-sink sink_name=speech\n"
        "load-module module-remap-source master=speech.monitor source_name=microphone\n"
        "set-default-sink loudspeaker\n"
        "set-default-source microphone\n"
    )
    environment = {**os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder)}
    command = ["pulseaudio", "-n", "--exit-idle-time=-1", "--use-pid-file=no", "-F", str(script)]
    with _running(command, env=environment, stderr=subprocess.DEVNULL):
        users = {**environment, "PULSE_SERVER": f"unix:{folder}/socket"}
        _await(lambda: subprocess.run(["pactl", "info"], env=users, check=True, capture_output=True))
        yield users


def play(path: Path, environment: Mapping[str, str]) -> None:
    """Speak a recording into the microphone, and wait for its end."""
    subprocess.run(["paplay", "--device=speech", path], env=environment, check=True)


def _said(output: IO[str] | None, pattern: str) -> str:
    """What a program writes that matches a pattern's group."""
    assert output is not None
    lines = []
    for line in output:
        lines.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise RuntimeError("".join(lines))


def _await(attempt: Callable[[], object]) -> None:
    """Try until it works."""
    for left in reversed(range(100)):
        try:
            attempt()
            return
        except (OSError, subprocess.CalledProcessError):
            if not left:
                raise
            time.sleep(0.1)
