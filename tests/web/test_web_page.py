"""The page that recognises in the browser, in Debian's Chromium, with a recording as its microphone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from browsers import CHROMIUM, CLIP, WITHOUT_RELAXED, chromium, complaints_of, offering
from playwright.sync_api import Browser, BrowserContext, Page, expect
from test_web_site import PLAIN, SAMPLES, STREAMING, on_kernels, sites, tiny_live

from littlefoot.artifact import checkpoint
from littlefoot.audio import reading
from littlefoot.web import site

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with sites(tmp_path_factory.mktemp("sites"), *checkpoint.bundled()) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with chromium(tmp_path_factory.mktemp("microphone")) as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    context = browser.new_context(permissions=["microphone"], reduced_motion="reduce")
    yield context
    context.close()


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page that must neither complain on its console nor ask anybody but its server."""
    page = context.new_page()
    complaints = complaints_of(page)
    page.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("http://127.0.0.1:", "blob:http://127.0.0.1:"))
            else complaints.append(request.url)
        ),
    )
    yield page
    assert complaints == []


def ready(page: Page) -> None:
    expect(page.get_by_role("status")).to_contain_text("Ready", timeout=60_000)


def done(page: Page) -> None:
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=120_000)


def status(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(text, timeout=60_000)
    expect(page.get_by_role("status")).to_have_class("problem")


# recognition


@pytest.mark.parametrize("program", site.PROGRAMS, ids=lambda program: program.stem)
@pytest.mark.parametrize("name", checkpoint.bundled())
def test_bundled_models_give_the_text_of_python(
    name: str, program: Path, page: Page, address: str, tmp_path: Path
) -> None:
    recognizer = on_kernels(checkpoint.load(name))
    if program == PLAIN:
        page.add_init_script(WITHOUT_RELAXED)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url.rpartition("/")[2]))
    page.goto(f"{address}{name}/")
    ready(page)
    expect(page.locator("#about")).to_contain_text(name)
    for clip in SAMPLES:
        # as wav: browsers decode Opus at 48 kHz, which gives other samples
        samples = reading.read(clip)
        soundfile.write(tmp_path / "clip.wav", samples, 16_000, subtype="FLOAT")
        page.get_by_label("Choose a recording").set_input_files(tmp_path / "clip.wav")
        recognised(page, recognizer.transcribe(samples).text)
    assert {file for file in loaded if file.endswith(".wasm")} == {program.name}


def recognised(page: Page, text: str) -> None:
    expect(page.locator("#segments")).to_have_text(re.compile(rf"^\s*0:0\d\s*{text}\s*$"), timeout=120_000)
    done(page)
    page.get_by_role("button", name="Clear").click()


def test_what_is_spoken_appears_while_it_is_spoken(page: Page, address: str) -> None:
    page.goto(f"{address}{STREAMING}/")
    ready(page)
    page.get_by_role("button", name="Speak").click()
    expect(page.locator("#partial")).to_contain_text("FOUR", timeout=60_000)
    expect(page.get_by_role("status")).to_contain_text("Listening")
    page.wait_for_timeout(3000)  # the recording is 3.1 s long
    page.get_by_role("button", name="Stop").click()
    done(page)
    assert "FOUR FIVE SIX" in " ".join(page.locator("#segments span").all_inner_texts())
    expect(page.get_by_role("button", name="Speak")).to_be_enabled()


def test_a_transcript_becomes_subtitles(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}{STREAMING}/")
    ready(page)
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download SRT").click()
    assert download.value.suggested_filename == "digits.srt"
    download.value.save_as(tmp_path / "digits.srt")
    text = (tmp_path / "digits.srt").read_text()
    assert text.startswith("1\n00:00:00,")
    shown = page.locator("#segments span").all_inner_texts()
    assert text.strip().splitlines()[-1] == shown[-1]


# offline


def test_the_page_works_without_its_server_and_takes_a_new_version(
    context: BrowserContext, tmp_path: Path
) -> None:
    site.save(tiny_live(), "first", tmp_path / "site")
    page = context.new_page()
    with offering(tmp_path / "site") as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        page.goto(address)
        status_contains(page, "Ready, also without a network")
    page.goto("about:blank")
    page.goto(address)  # nobody answers there any more
    status_contains(page, "Ready, also without a network")
    page.get_by_label("Choose a recording").set_input_files(CLIP)
    done(page)
    page.goto("about:blank")

    shutil.rmtree(tmp_path / "site")
    site.save(tiny_live(), "second", tmp_path / "site")
    with offering(tmp_path / "site", port):
        page.goto(address)  # the first, while the second is fetched
        expect(page.locator("#about")).to_contain_text("first", timeout=60_000)
        page.evaluate(
            "async () => { const r = await navigator.serviceWorker.ready; await r.update();"
            " while (r.installing) await new Promise((go) => setTimeout(go, 50)); }"
        )
        page.goto("about:blank")
        page.wait_for_timeout(500)
        page.goto(address)
        expect(page.locator("#about")).to_contain_text("second", timeout=60_000)
        names = page.evaluate("() => caches.keys()")
        assert len(names) == 1, names


def status_contains(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_contain_text(text, timeout=60_000)


def test_a_file_that_is_not_the_listed_one_is_not_kept(context: BrowserContext, tmp_path: Path) -> None:
    site.save(tiny_live(), "tiny", tmp_path / "site")
    with (tmp_path / "site" / "web.css").open("a") as file:
        file.write("/* changed */")
    page = context.new_page()
    with offering(tmp_path / "site") as address:
        page.goto(address)
        ready(page)
        page.wait_for_timeout(1000)
        assert (
            page.evaluate("async () => (await navigator.serviceWorker.getRegistration())?.active ?? null")
            is None
        )


# problems


def test_without_vectors_the_page_names_browsers_that_have_them(page: Page, address: str) -> None:
    page.add_init_script("WebAssembly.validate = () => false")
    page.goto(f"{address}tiny/")
    status(page, "This browser is too old: it has no WebAssembly with vectors (SIMD).")
    status(page, "Safari 16.4")
    expect(page.get_by_role("button", name="Speak")).to_be_disabled()


def test_from_a_file_the_page_asks_for_a_server(context: BrowserContext, tmp_path: Path) -> None:
    site.save(tiny_live(), "tiny", tmp_path / "site")
    page = context.new_page()
    page.goto((tmp_path / "site" / "index.html").as_uri())
    status(page, "Serve its folder")


@pytest.mark.parametrize("kept", [0, 100, 5000])
def test_a_broken_model_is_named(kept: int, context: BrowserContext, tmp_path: Path) -> None:
    site.save(tiny_live(), "tiny", tmp_path / "site")
    model = tmp_path / "site" / "model.lf"
    model.write_bytes(model.read_bytes()[:kept])
    page = context.new_page()
    with offering(tmp_path / "site") as address:
        page.goto(address)
        status(page, "littlefoot export" if kept == 0 else "The model is damaged")
        expect(page.get_by_role("button", name="Speak")).to_be_disabled()
        model.unlink()
        page.reload()
        status(page, "model.lf is not there (status 404): put the whole folder on the server again.")


def test_without_a_network_the_page_asks_for_it(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    context.route("**/model.lf", lambda route: route.abort("internetdisconnected"))
    page.goto(f"{address}tiny/")
    status(page, "model.lf cannot be fetched: connect to the network and load the page again.")


def test_a_refused_microphone_is_explained(browser: Browser, address: str) -> None:
    page = browser.new_page()
    page.goto(f"{address}tiny/")
    ready(page)
    page.get_by_role("button", name="Speak").click()
    status(
        page, "The microphone was not allowed: allow it in the browser's address bar, and press Speak again."
    )
    expect(page.get_by_role("button", name="Speak")).to_be_enabled()
    page.close()


def test_a_file_that_is_no_recording_is_named(page: Page, address: str, tmp_path: Path) -> None:
    page.goto(f"{address}tiny/")
    ready(page)
    for content, text in (
        ("no audio", "is not audio that this browser can decode"),
        ("", "notes.wav is empty"),
    ):
        (tmp_path / "notes.wav").write_text(content)
        page.get_by_label("Choose a recording").set_input_files(tmp_path / "notes.wav")
        status(page, text)
        expect(page.get_by_label("Choose a recording")).to_be_enabled()


# looks


@pytest.mark.parametrize("width", [320, 375, 1200])
def test_nothing_sticks_out(browser: Browser, address: str, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(f"{address}{STREAMING}/")
    ready(page)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    page.close()


def test_all_of_it_works_by_keyboard(page: Page, address: str) -> None:
    page.goto(f"{address}tiny/")
    ready(page)
    for expected in ("file", "speak"):
        page.keyboard.press("Tab")
        assert page.locator(":focus").get_attribute("id") == expected
    page.keyboard.press("Enter")
    expect(page.locator("#speak")).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#speak")).to_be_focused()
    page.keyboard.press("Enter")
    done(page)
    expect(page.locator("#speak")).to_be_focused()
