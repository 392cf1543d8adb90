"""The page at / in Debian's Chromium, with a recording as its microphone."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from browsers import CHROMIUM, CLIP, chromium, complaints_of
from playwright.sync_api import Browser, Page, WebSocketRoute, expect
from servers import Running, serving

import littlefoot
from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.transcript.writers import srt, vtt

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
    with chromium(tmp_path_factory.mktemp("microphone"), "--use-fake-ui-for-media-stream") as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, server: Running) -> Iterator[Page]:
    """The page, which must not complain on its console."""
    context = browser.new_context(permissions=["microphone"], reduced_motion="reduce")
    opened = context.new_page()
    complaints = complaints_of(opened)
    opened.goto(server.url)
    expect(opened.get_by_label("Model").locator("option")).to_have_count(2)
    yield opened
    context.close()
    assert complaints == []


def done(page: Page) -> None:
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=60_000)


def test_a_file_becomes_text_and_subtitles(page: Page, tmp_path: Path) -> None:
    expected = littlefoot.load("littlefoot-en").transcribe(CLIP)
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    assert page.locator("#segments .line").all_inner_texts() == [s.text for s in expected.segments]
    for form, written in (
        ("SRT", srt(expected)),
        ("VTT", vtt(expected)),
        ("text", "\n".join(segment.text for segment in expected.segments) + "\n"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=f"Download {form}").click()
        assert download.value.suggested_filename == f"digits.{form.lower().replace('text', 'txt')}"
        download.value.save_as(tmp_path / form)
        assert (tmp_path / form).read_text() == written


def test_a_click_on_a_word_plays_it_and_uncertain_words_are_marked(page: Page) -> None:
    expected = littlefoot.load("littlefoot-en").transcribe(CLIP)
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    words = page.locator("#segments .word")
    assert words.all_inner_texts() == [word.word for word in expected.words]
    marked = page.locator("#segments .doubtful, #segments .wrong").all_inner_texts()
    assert marked == [word.word for word in expected.words if word.confidence < 0.8]
    player = page.locator("#player")
    expect(player).to_be_visible()
    words.nth(3).click()
    page.wait_for_function("document.querySelector('#player').currentTime > 0")
    assert player.evaluate("player => player.currentTime") >= expected.words[3].start - 0.01
    expect(page.locator(".word.playing")).to_have_count(1)
    player.evaluate("player => player.pause()")
    page.get_by_role("button", name="Play from 0:00").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function(f"document.querySelector('#player').currentTime < {expected.words[3].start}")


def test_an_upload_can_be_cancelled(page: Page, server: Running, tmp_path: Path) -> None:
    long = tmp_path / "long.wav"
    soundfile.write(long, np.random.default_rng(0).standard_normal(900 * 16_000) / 10, 16_000)
    page.get_by_label("Choose a recording").set_input_files(long)
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_have_text("Cancelled.")
    expect(page.get_by_role("progressbar")).to_be_hidden()
    expect(page.get_by_label("Choose a recording")).to_be_enabled()
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)


def test_the_states_of_the_microphone_are_true(page: Page) -> None:
    """The page says that the model is being loaded until the server has answered, and records meanwhile."""
    held: list[str | bytes] = []
    sockets: list[WebSocketRoute] = []

    def hold(socket: WebSocketRoute) -> None:
        sockets.append(socket)
        socket.connect_to_server().on_message(
            lambda message: socket.send(message) if released else held.append(message)
        )

    released = False
    status = page.get_by_role("status")
    page.route_web_socket("**/v1/live", hold)
    page.get_by_role("button", name="Speak").click()
    expect(status).to_contain_text("Loading the model")
    expect(page.locator("#speak-hint")).to_have_text(re.compile(r"recording 0:0[1-9]"))
    expect(status).to_contain_text("Loading the model")
    released = True
    for message in held:
        sockets[0].send(message)
    expect(status).to_contain_text("Listening")
    page.get_by_role("button", name="Stop").click()
    done(page)
    expect(page.locator("#player")).to_be_visible()


def test_a_server_that_is_gone_is_explained(browser: Browser) -> None:
    page = browser.new_page()
    with serving(["littlefoot-en"]) as running:
        page.goto(running.url)
        expect(page.get_by_label("Model").locator("option")).to_have_count(1)
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    expect(page.get_by_role("status")).to_contain_text("The server cannot be reached")
    page.close()


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
        expect(page.get_by_label("Model").locator("option")).to_have_count(1)
        page.get_by_role("button", name="Speak").click()
        expect(page.locator("#partial")).to_contain_text("THREE", timeout=60_000)
        page.wait_for_timeout(2000)  # the recording is 3.1 s long
        page.get_by_role("button", name="Stop").click()
        done(page)
        segments = page.locator("#segments .line").all_inner_texts()
        assert "THREE FOUR FIVE SIX" in " ".join(segments)
        expect(page.get_by_role("button", name="Speak")).to_be_enabled()
    blocks = [np.frombuffer(block, "<i2") for block in sent if isinstance(block, bytes)]
    assert sum(map(len, blocks)) > 3.1 * 16_000
    model = littlefoot.load("littlefoot-en")
    stream = model.stream(decoder=model.decoder(lexicon=digits))
    finals = [segment for block in blocks for segment in stream.feed(block).final]
    assert segments == [segment.text for segment in [*finals, *stream.finish().final]]


def test_models_show_their_figures_and_can_be_switched(page: Page, server: Running) -> None:
    page.get_by_label("Model").select_option("again")
    expect(page.locator("#model-figures")).to_contain_text("47.8 MB")
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    expect(page.locator("#model-figures")).to_contain_text(re.compile(r"\d+ \S\s*real time"))
    expect(page.get_by_label("Model")).to_have_value("again")
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
    assert page.locator("#segments .line").count() > 0
    page.close()


def test_a_key_is_asked_for_and_used(browser: Browser) -> None:
    with serving(["littlefoot-en"], api_key="sesame") as running:
        page = browser.new_page()
        page.goto(running.url)
        page.get_by_label("This server needs an API key").fill("sesame")
        page.keyboard.press("Enter")
        expect(page.get_by_label("Model").locator("option")).to_have_count(1)
        page.get_by_label("Choose a recording").set_input_files(CLIP)
        done(page)
        page.get_by_role("button", name="Speak").click()
        expect(page.get_by_role("status")).to_contain_text("Listening", timeout=30_000)
        page.close()


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_nothing_sticks_out(browser: Browser, server: Running, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(server.url)
    expect(page.get_by_label("Model").locator("option")).to_have_count(2)
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


CONTRASTS = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (color) => {
    const [r, g, b] = channels(color).map((c) => c / 255)
      .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = getComputedStyle(each).backgroundColor;
      if (color !== "rgba(0, 0, 0, 0)") return color;
    }
  };
  const shown = [...document.querySelectorAll("main *, header *")].filter(
    (each) => each.checkVisibility() && !each.disabled
      && [...each.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()),
  );
  return shown.map((each) => {
    const [low, high] = [getComputedStyle(each).color, behind(each)].map(luminance).sort((a, b) => a - b);
    return [each.id || each.className || each.tagName, (high + 0.05) / (low + 0.05)];
  });
}"""
"""The name and the contrast of each text, as in WCAG 2.2, 1.4.3."""

VIEWS = {
    "serve": {"viewport": {"width": 800, "height": 640}},
    "serve-dark": {"viewport": {"width": 800, "height": 640}, "color_scheme": "dark"},
    "serve-phone": {"viewport": {"width": 375, "height": 740}},
}


@pytest.mark.parametrize("name", VIEWS)
def test_pictures_are_made_and_their_texts_have_contrast(
    browser: Browser, server: Running, tmp_path: Path, name: str
) -> None:
    """The pictures of docs/serve.md. LITTLEFOOT_PICTURES=docs writes them there."""
    page = browser.new_page(reduced_motion="reduce", **VIEWS[name])
    page.goto(server.url)
    page.get_by_label("Choose a recording").set_input_files(SAMPLES / "mocha.ogg")
    done(page)
    expect(page.locator("#player")).to_be_visible()
    path = Path(os.environ.get("LITTLEFOOT_PICTURES", tmp_path)) / f"{name}.png"
    page.screenshot(path=path, full_page=True)
    assert path.stat().st_size < 100_000
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 10
    assert [each for each in contrasts if each[1] < 4.5] == []
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, progress, meter")]
          .filter((each) => !each.labels?.length && !each.getAttribute("aria-label"))
          .filter((each) => !each.textContent.trim())
          .map((each) => each.id)"""
    )
    assert unnamed == []
    page.close()
