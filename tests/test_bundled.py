"""The models that come with the package: they recognise the samples, and say what they are made of."""

from __future__ import annotations

from pathlib import Path

import pytest

import littlefoot
from littlefoot.artifact import artifact, checkpoint, checksums
from littlefoot.audio import manifest, reading
from littlefoot.evaluate.metrics import evaluate

ROOT = Path(__file__).parents[1]
SAMPLES = checkpoint.BUNDLED / "samples"
BLOCK = 1600

pytestmark = pytest.mark.skipif(not checkpoint.bundled(), reason="no models are in the package")


@pytest.mark.parametrize("name", checkpoint.bundled())
def test_it_recognises_the_samples(name: str) -> None:
    recognizer = littlefoot.load(name)
    rows = manifest.read(SAMPLES)
    texts = [recognizer.transcribe(row.path).text for row in rows]
    assert evaluate([row.text for row in rows], texts).cer < 0.3, texts


@pytest.mark.parametrize("name", checkpoint.bundled())
def test_its_files_are_those_of_its_list(name: str) -> None:
    directory = checkpoint.BUNDLED / name
    listed = checksums.read(directory)
    assert listed is not None, "python scripts/add_checksums.py makes it"
    assert listed == {file: checksums.of_file(directory / file) for file in artifact.FILES}


@pytest.mark.parametrize("name", checkpoint.bundled())
def test_it_hears_them_live(name: str) -> None:
    row = next(row for row in manifest.read(SAMPLES) if row.path.stem == "digits")
    waveform = reading.read(row.path)
    stream = littlefoot.load(name).stream()
    said = []
    for start in range(0, len(waveform), BLOCK):
        said += stream.feed(waveform[start : start + BLOCK]).final
    said += stream.finish().final
    text = " ".join(segment.text for segment in said)
    assert evaluate([row.text], [text]).cer < 0.3, text


@pytest.mark.parametrize("name", checkpoint.bundled())
def test_its_card_and_the_readme_say_what_it_is(name: str) -> None:
    card = checkpoint.load(name).card
    assert card.startswith(f"# {name}\n")
    assert "licence" in card
    assert f"| `{name}` |" in (ROOT / "README.md").read_text(encoding="utf-8")


def test_all_of_them_are_small() -> None:
    sizes = [path.stat().st_size for path in checkpoint.BUNDLED.rglob("*") if path.is_file()]
    assert sum(sizes) < 110e6
