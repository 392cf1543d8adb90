"""The page at / in Debian's Chromium, with a recording as its microphone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from playwright.sync_api import Browser, Page, expect, sync_playwright
from servers import Running, serving

import littlefoot
from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.transcript.writers import srt

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
CLIP = SAMPLES / "digits.ogg"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(["littlefoot-en", "again=littlefoot-en"], idle_seconds=30) as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    samples, rate = soundfile.read(CLIP)
    microphone = tmp_path_factory.mktemp("microphone") / "clip.wav"
    soundfile.write(microphone, soxr.resample(samples, rate, 48_000), 48_000)
    arguments = [
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--use-fake-device-for-media-stream"),
        *("--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={microphone}%noloop"),
    ]
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    """The page, which must not complain on its console."""
    context = browser.new_context(permissions=["microphone"], reduced_motion="reduce")
    opened = context.new_page()
    complaints: list[str] = []
    opened.on(
        "console",
        lambda message: complaints.append(message.text) if message.type in ("error", "warning") else None,
    )
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(server.url)
    expect(opened.get_by_role("radio")).to_have_count(2)
    yield opened
    context.close()
    assert complaints == []


def done(page: Page) -> None:
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=60_000)


def test_a_file_becomes_text_and_subtitles(page: Page, tmp_path: Path) -> None:
    expected = littlefoot.load("littlefoot-en").transcribe(CLIP)
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    assert page.locator("#segments span").all_inner_texts() == [s.text for s in expected.segments]
    with page.expect_download() as download:
        page.get_by_role("button", name="Download SRT").click()
    assert download.value.suggested_filename == "digits.srt"
    download.value.save_as(tmp_path / "digits.srt")
    assert (tmp_path / "digits.srt").read_text() == srt(expected)


def test_what_is_spoken_appears_while_it_is_spoken(page: Page, tmp_path: Path) -> None:
    """It is, to the letter, what the model hears in the blocks that the page sent.

    Those never begin at the same sample of the recording, and where the frames begin decides whether this
    model writes THREE or THRE, SEVEN or EVEN; not so if it knows the words.
    """
    digits = tmp_path / "digits.txt"
    digits.write_text("ONE\nTWO\nTHREE\nFOUR\nFIVE\nSIX\nSEVEN\nEIGHT\nNINE\nZERO")
    sent: list[bytes | str] = []
    page.on("websocket", lambda socket: socket.on("framesent", lambda data: sent.append(data)))
    with serving(["littlefoot-en"], decoder=lambda model: model.decoder(lexicon=digits)) as running:
        page.goto(running.url)
        expect(page.get_by_role("radio")).to_have_count(1)
        page.get_by_role("button", name="Speak").click()
        expect(page.locator("#partial")).to_contain_text("THREE", timeout=60_000)
        page.wait_for_timeout(2000)  # the recording is 3.1 s long
        page.get_by_role("button", name="Stop").click()
        done(page)
        segments = page.locator("#segments span").all_inner_texts()
        assert "THREE FOUR FIVE SIX" in " ".join(segments)
        expect(page.get_by_role("button", name="Speak")).to_be_enabled()
    blocks = [np.frombuffer(block, "<i2") for block in sent if isinstance(block, bytes)]
    assert sum(map(len, blocks)) > 3.1 * 16_000
    model = littlefoot.load("littlefoot-en")
    stream = model.stream(decoder=model.decoder(lexicon=digits))
    finals = [segment for block in blocks for segment in stream.feed(block).final]
    assert segments == [segment.text for segment in [*finals, *stream.finish().final]]


def test_models_show_their_figures_and_can_be_switched(page: Page, server: Running) -> None:
    row = page.locator(".model", has_text="again")
    expect(row).to_contain_text("47.8 MB")
    row.click()
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    expect(row).to_contain_text(re.compile(r"\d+ \S\s*real time"))
    expect(page.get_by_role("radio", name="again")).to_be_checked()
    assert server.service.models.find("again").audio_seconds > 5  # the clip besides the first noise


def test_all_of_it_works_by_keyboard(page: Page) -> None:
    reached = []
    for _ in range(3):
        page.keyboard.press("Tab")
        reached.append(
            page.locator(":focus").get_attribute("id") or page.locator(":focus").get_attribute("name")
        )
    assert reached == ["model", "file", "speak"]
    page.locator("#speak").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#speak")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#speak")).to_be_focused()
    page.keyboard.press("Enter")
    done(page)
    expect(page.locator("#speak")).to_be_focused()


def test_a_file_that_is_no_recording_is_named(browser: Browser, server: Running, tmp_path: Path) -> None:
    (tmp_path / "notes.wav").write_text("no audio")
    page = browser.new_page()
    page.goto(server.url)
    page.get_by_label("Choose a recording").set_input_files(tmp_path / "notes.wav")
    expect(page.get_by_role("status")).to_contain_text("notes.wav: is not readable audio")
    expect(page.get_by_label("Choose a recording")).to_be_enabled()
    page.close()


def test_a_file_may_come_before_the_list_of_models(browser: Browser, server: Running) -> None:
    page = browser.new_page()
    page.route("**/v1/models", lambda route: None)  # it never comes
    page.goto(server.url)
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    assert page.locator("#segments span").count() > 0
    page.close()


def test_a_key_is_asked_for_and_used(browser: Browser) -> None:
    with serving(["littlefoot-en"], api_key="sesame") as running:
        page = browser.new_page()
        page.goto(running.url)
        page.get_by_label("This server needs an API key").fill("sesame")
        page.keyboard.press("Enter")
        expect(page.get_by_role("radio")).to_have_count(1)
        page.get_by_label("Choose a recording").set_input_files(CLIP)
        done(page)
        page.get_by_role("button", name="Speak").click()
        expect(page.get_by_role("status")).to_contain_text("Listening", timeout=30_000)
        page.close()


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_nothing_sticks_out(browser: Browser, server: Running, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(server.url)
    expect(page.get_by_role("radio")).to_have_count(2)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_the_resampler_keeps_speech_and_drops_what_would_alias(page: Page, rate: int) -> None:
    """Root mean square of the difference from the true sine; sines beyond 8 kHz must vanish."""
    difference = """async ([rate, frequency]) => {
      const { Resampler } = await import("/static/resampler.js");
      const resampler = new Resampler(rate);
      const output = [];
      for (let start = 0; start < 2 * rate; start += 128) {
        const sine = (_, index) => Math.sin((2 * Math.PI * frequency * (start + index)) / rate);
        output.push(...resampler.feed(Float32Array.from({ length: 128 }, sine)));
      }
      const inner = output.slice(2000, 30000);
      const radians = (2 * Math.PI * frequency) / 16000;
      const wanted = (index) => (frequency < 8000 ? Math.sin(radians * (index + 2000)) : 0);
      const squares = inner.map((value, index) => (value - wanted(index)) ** 2);
      return Math.sqrt(squares.reduce((sum, square) => sum + square, 0) / squares.length);
    }"""
    for frequency in (100, 1000, 3000, 9000, 12_000):
        if frequency < rate / 2:
            assert page.evaluate(difference, [rate, frequency]) < 2e-3
