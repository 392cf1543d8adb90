"""The page that recognises in the browser, in Debian's Firefox and WebKit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import drivers
import pytest
import soundfile
from browsers import CLIP, offering
from drivers import Driver, wait
from test_web_site import SAMPLES, STREAMING, on_kernels, sites, tiny_live

from littlefoot.artifact import checkpoint
from littlefoot.audio import reading
from littlefoot.web import site

STATUS = "document.getElementById('status').innerText"
SEGMENTS = "[...document.querySelectorAll('#segments .line')].map((line) => line.innerText)"
BROWSERS = {"firefox": drivers.firefox, "webkit": drivers.webkit}

with_firefox = pytest.mark.skipif(
    drivers.FIREFOX is None, reason="Firefox is not installed: apt-get install firefox-esr"
)
with_webkit = pytest.mark.skipif(
    not drivers.WEBKIT, reason="WebKit is not installed: apt-get install webkit2gtk-driver xvfb"
)
with_sound = pytest.mark.skipif(
    not drivers.SOUND, reason="PulseAudio is not installed: apt-get install pulseaudio pulseaudio-utils"
)
every_browser = pytest.mark.parametrize(
    "name",
    [pytest.param("firefox", marks=with_firefox), pytest.param("webkit", marks=with_webkit)],
    indirect=True,
)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sites(tmp_path_factory.mktemp("sites"), STREAMING) as address:
        yield address


@pytest.fixture(scope="module")
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """With a microphone, where there is a sound server."""
    folder = tmp_path_factory.mktemp("sound")
    with ExitStack() as stack:
        yield stack.enter_context(drivers.sound(folder)) if drivers.SOUND else drivers.without_sound(folder)


@pytest.fixture(scope="module")
def browser(
    name: str, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    with BROWSERS[name](tmp_path_factory.mktemp(name), environment) as driver:
        yield driver


def says(driver: Driver, text: str) -> None:
    wait(driver, f"{STATUS}.includes({text!r})")


def is_problem(driver: Driver, text: str) -> None:
    says(driver, text)
    assert driver.evaluate("document.getElementById('status').className") == "problem"


def press_speak(driver: Driver) -> None:
    driver.evaluate("void document.getElementById('speak').click()")


def clear(driver: Driver) -> None:
    driver.evaluate("void document.getElementById('clear').click()")


@every_browser
def test_recordings_give_the_text_of_python(browser: Driver, address: str, tmp_path: Path) -> None:
    recognizer = on_kernels(checkpoint.load(STREAMING))
    browser.goto(f"{address}{STREAMING}/")
    says(browser, "Ready")
    for clip in SAMPLES:
        samples = reading.read(clip)
        soundfile.write(tmp_path / "clip.wav", samples, 16_000, subtype="FLOAT")
        browser.choose("#file", tmp_path / "clip.wav")
        says(browser, "Done.")
        assert browser.evaluate(SEGMENTS) == [recognizer.transcribe(samples).text]
        clear(browser)
    assert browser.complaints == []


@every_browser
def test_compressed_recordings_are_decoded(browser: Driver, address: str, tmp_path: Path) -> None:
    browser.goto(f"{address}{STREAMING}/")
    says(browser, "Ready")
    samples, rate = soundfile.read(CLIP)
    for ending in ("ogg", "mp3", "flac"):
        soundfile.write(tmp_path / f"clip.{ending}", samples, rate)
        browser.choose("#file", tmp_path / f"clip.{ending}")
        says(browser, "Done.")
        assert browser.evaluate(SEGMENTS)[0].startswith("ONE TWO THREE")
        clear(browser)


@every_browser
@with_sound
def test_what_is_spoken_appears_while_it_is_spoken(
    browser: Driver, address: str, environment: dict[str, str], tmp_path: Path
) -> None:
    samples, rate = soundfile.read(CLIP)
    soundfile.write(tmp_path / "clip.wav", samples, rate)
    browser.goto(f"{address}{STREAMING}/")
    says(browser, "Ready")
    press_speak(browser)
    says(browser, "Listening")
    drivers.play(tmp_path / "clip.wav", environment)
    wait(browser, "document.getElementById('segments').innerText.includes('FIVE SIX')")
    press_speak(browser)
    says(browser, "Done.")
    assert browser.complaints == []


@every_browser
def test_the_page_works_without_its_server(browser: Driver, tmp_path: Path) -> None:
    site.save(tiny_live(), "tiny", tmp_path / "site")
    with offering(tmp_path / "site") as address:
        browser.goto(address)
        says(browser, "Ready, also without a network")
    browser.goto("about:blank")
    browser.goto(address)  # nobody answers there any more
    says(browser, "Ready, also without a network")
    browser.choose("#file", CLIP)
    says(browser, "Done")


@every_browser
def test_what_is_no_recording_is_named(browser: Driver, address: str, tmp_path: Path) -> None:
    browser.goto(f"{address}tiny/")
    says(browser, "Ready")
    for content, text in (
        ("no audio", "is not audio that this browser can decode"),
        ("", "notes.wav is empty"),
    ):
        (tmp_path / "notes.wav").write_text(content)
        browser.choose("#file", tmp_path / "notes.wav")
        is_problem(browser, text)


@every_browser
def test_a_damaged_or_missing_model_is_named(browser: Driver, tmp_path: Path) -> None:
    site.save(tiny_live(), "tiny", tmp_path / "site")
    model = tmp_path / "site" / "model.lf"
    model.write_bytes(model.read_bytes()[:5000])
    with offering(tmp_path / "site") as address:
        browser.goto(address)
        is_problem(browser, "The model is damaged")
        model.unlink()
        browser.goto(address)
        is_problem(browser, "model.lf is not there (status 404): put the whole folder on the server again.")


@every_browser
def test_without_a_microphone_the_page_asks_for_one(name: str, address: str, tmp_path: Path) -> None:
    with BROWSERS[name](tmp_path, drivers.without_sound(tmp_path)) as browser:
        browser.goto(f"{address}tiny/")
        says(browser, "Ready")
        press_speak(browser)
        is_problem(browser, "There is no microphone: connect one, and press Speak again.")
        assert browser.evaluate("document.getElementById('speak').disabled") is False


@with_firefox
def test_a_refused_microphone_is_explained(address: str, tmp_path: Path) -> None:
    asked = {"media.navigator.permission.disabled": False, "media.navigator.streams.fake": True}
    refused = {**asked, "permissions.default.microphone": 2}
    with drivers.firefox(tmp_path, drivers.without_sound(tmp_path), **refused) as browser:
        browser.goto(f"{address}tiny/")
        says(browser, "Ready")
        press_speak(browser)
        is_problem(browser, "The microphone was not allowed: allow it in the browser's address bar")


@with_firefox
def test_a_browser_that_starts_no_sound_is_not_waited_for(address: str, tmp_path: Path) -> None:
    fake = {"media.navigator.streams.fake": True}  # a microphone, and no loudspeaker
    with drivers.firefox(tmp_path, drivers.without_sound(tmp_path), **fake) as browser:
        browser.goto(f"{address}tiny/")
        says(browser, "Ready")
        press_speak(browser)
        is_problem(browser, "The browser did not start its sound: connect loudspeakers")


@with_firefox
def test_without_vectors_firefox_is_told_what_has_them(address: str, tmp_path: Path) -> None:
    with drivers.firefox(
        tmp_path, drivers.without_sound(tmp_path), **{"javascript.options.wasm": False}
    ) as browser:
        browser.goto(f"{address}tiny/")
        is_problem(browser, "This browser is too old: it has no WebAssembly with vectors (SIMD).")
