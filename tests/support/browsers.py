"""A browser with a recording as its microphone, and a small web server for folders of the page."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import soundfile
import soxr

from littlefoot.artifact.checkpoint import SAMPLES

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CLIP = SAMPLES / "digits.ogg"
"""What the microphone records."""
WITHOUT_RELAXED = """
    const validate = WebAssembly.validate;
    WebAssembly.validate = (bytes) => !bytes.join().includes("253,147,2") && validate(bytes);
"""
"""Of a browser whose vectors are not relaxed: 253, 147, 2 is one of their instructions."""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def chromium(folder: Path, *more: str) -> Iterator[Browser]:
    """Start Chromium, whose microphone records ``CLIP`` once; ``folder`` gets the clip as it needs it."""
    from playwright.sync_api import sync_playwright

    samples, rate = soundfile.read(CLIP)
    microphone = folder / "clip.wav"
    soundfile.write(microphone, soxr.resample(samples, rate, 48_000), 48_000)
    arguments = [
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--use-fake-device-for-media-stream"),
        *(f"--use-file-for-fake-audio-capture={microphone}%noloop", *more),
    ]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


def complaints_of(page: Page) -> list[str]:
    """What a page complains of on its console; grows while the page is open."""
    complaints: list[str] = []
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


@contextmanager
def offering(folder: Path, port: int = 0) -> Iterator[str]:
    """Offer a folder as any static web server does; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", port), functools.partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
