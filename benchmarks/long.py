"""Long recordings: what voice activity detection costs and gains, word times, memory.

    python benchmarks/long.py detectors ../shared/data
    python benchmarks/long.py detectors ../shared/data --split dev --tune
    python benchmarks/long.py memory ../shared/data --hours 10

Recordings are made of test utterances in random order, each up to 6 dB louder or quieter, with pauses of
0.3 to 20 s (evenly in their logarithm) before each: `quiet` with hardly any noise, `noise` with pink noise
20 or 10 dB below the speech throughout, `sounds` with knocks, hum and chords in half of the pauses. Detectors
take turns on each recording. Word times are those of the digits among the utterances, whose true times are
where the sound of the clip is above -35 dB of its loudest part. `memory` runs the command line on recordings
of a minute, an hour and more.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from accuracy import percent
from decoding import trimmed
from process import run

import littlefoot
from littlefoot.audio import SAMPLE_RATE, manifest, reading, vad
from littlefoot.audio.manifest import Utterance
from littlefoot.audio.vad.segments import SegmentConfig, speech_segments
from littlefoot.evaluate.metrics import evaluate
from littlefoot.runtime import recognizer as recognition

GROUPS = {"digits and orders": {"digits": 60, "coffee": 20}, "read": {"kathleen": 30, "librispeech3": 8}}
"""Sets that go into a recording, and how many utterances of each at most."""
CONDITIONS = ("quiet", "noise 20 dB", "noise 10 dB", "sounds")
PARTS = 2
"""Recordings for each group and condition."""


class Recording(NamedTuple):
    """A recording and what is known of it."""

    waveform: np.ndarray
    """(T,)"""
    text: str
    digits: dict[int, tuple[float, float]]
    """Begin and end, in seconds, of the words that are digits, by their index in the text."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("detectors", "memory"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="littlefoot-en")
    parser.add_argument("--split", default="test")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tune", action="store_true")
    parser.add_argument("--hours", type=float, default=10.0)
    options = parser.parse_args()
    if options.what == "memory":
        memory(options.data, options.model, options.hours)
        return
    recognizer = littlefoot.load(options.model, threads=options.threads)
    if options.tune:
        tune(recognizer, options.data, options.split)
        return
    print(detectors(recognizer, options.data, options.split))


def recordings(data: Path, group: str, condition: str, split: str) -> list[Recording]:
    """PARTS recordings; every condition has the same utterances and pauses."""
    rng = np.random.default_rng(1)
    rows: list[Utterance] = []
    for name, count in GROUPS[group].items():
        chosen = manifest.read(data / name / "manifest.tsv", split)
        rows += [chosen[i] for i in rng.permutation(len(chosen))[:count]]
    rows = [rows[i] for i in rng.permutation(len(rows))]
    return [put_together(rows[part::PARTS], condition, seed=part) for part in range(PARTS)]


def put_together(rows: list[Utterance], condition: str, seed: int) -> Recording:
    """Utterances with pauses before and after each."""
    rng, sounds = np.random.default_rng(seed), np.random.default_rng(seed + 100)
    parts: list[np.ndarray] = []
    digits: dict[int, tuple[float, float]] = {}
    at = words = 0
    for row in [*rows, None]:
        pause = np.zeros(round(np.exp(rng.uniform(np.log(0.3), np.log(20.0))) * SAMPLE_RATE), np.float32)
        if condition == "sounds" and sounds.random() < 0.5:
            sound = a_sound(sounds)
            start = int(sounds.integers(max(1, len(pause) - len(sound))))
            pause[start : start + len(sound)] += sound[: len(pause) - start]
        parts.append(pause)
        at += len(pause)
        if row is None:
            break
        speech = reading.read(row.path)
        speech = speech * np.float32(0.05 / speech.std() * 10 ** (rng.uniform(-6, 6) / 20))
        if row.speaker in DIGIT_SPEAKERS and len(row.text.split()) == 1:
            speech = trimmed(speech)
            digits[words] = (at / SAMPLE_RATE, (at + len(speech)) / SAMPLE_RATE)
        parts.append(speech)
        at += len(speech)
        words += len(row.text.split())
    waveform = np.concatenate(parts)
    level = {"noise 20 dB": -46.0, "noise 10 dB": -36.0}.get(condition, -75.0)  # speech is at -26
    waveform += pink(len(waveform), sounds) * np.float32(10 ** (level / 20))
    text = " ".join(row.text for row in rows)
    return Recording(waveform.astype(np.float32), text, digits)


DIGIT_SPEAKERS = {"george", "jackson", "lucas", "nicolas", "theo", "yweweler"}


def pink(length: int, rng: np.random.Generator) -> np.ndarray:
    """Noise (length,) whose power falls by 3 dB per octave above 50 Hz, of unit variance."""
    size = 1 << (length - 1).bit_length()
    frequencies = np.fft.rfftfreq(size, 1 / SAMPLE_RATE)
    spectrum = rng.standard_normal(len(frequencies)) + 1j * rng.standard_normal(len(frequencies))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies, 50.0)))[:length]
    return (noise / noise.std()).astype(np.float32)


def a_sound(rng: np.random.Generator) -> np.ndarray:
    """Return a knock, a hum or a chord, about as loud as speech."""
    kind = rng.integers(3)
    seconds = (0.15, 3.0, 2.0)[kind]
    clock = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    if kind == 0:
        return (0.3 * np.exp(-clock * 40) * rng.standard_normal(len(clock))).astype(np.float32)
    tones = (100, 200, 300) if kind == 1 else rng.choice([262, 330, 392, 440, 523], 3, replace=False)
    sound = sum(np.sin(2 * np.pi * tone * clock) for tone in tones)
    return (0.04 * sound * np.hanning(len(clock))).astype(np.float32)


def detectors(recognizer: recognition.Recognizer, data: Path, split: str) -> str:
    """WER, speed and word times with each detector, as Markdown."""
    names = list(vad.NAMES)
    table = (
        "| recording | detector | WER % | insertions | processed | time, ratio to off | x real time |\n"
        "|---|---|---|---|---|---|---|\n"
    )
    offsets: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    said: dict[str, list[tuple[str, str]]] = {name: [] for name in names}
    missed = dict.fromkeys(names, 0)
    recognizer.transcribe(np.zeros(25 * SAMPLE_RATE, np.float32))  # the first run is slower
    for group in GROUPS:
        for condition in CONDITIONS:
            made = recordings(data, group, condition, split)
            seconds: dict[str, list[float]] = {name: [] for name in names}
            texts: dict[str, list[str]] = {name: [] for name in names}
            for recording in made:
                for name in names:
                    start = time.perf_counter()
                    found = recognizer.transcribe(recording.waveform, vad=name)
                    seconds[name].append(time.perf_counter() - start)
                    texts[name].append(found.text)
                    near = word_offsets(recording, found.words)
                    offsets[name] += near
                    missed[name] += len(recording.digits) - len(near)
            print(group, condition, file=sys.stderr)
            total = sum(len(each.waveform) for each in made) / SAMPLE_RATE
            references = [each.text for each in made]
            for name in names:
                said[name] += zip(references, texts[name], strict=True)
                score = evaluate(references, texts[name])
                ratio = statistics.median(
                    mine / off for mine, off in zip(seconds[name], seconds["off"], strict=True)
                )
                share = 1.0 if name == "off" else heard(made, name, recognizer.config.stride) / total
                table += (
                    f"| {group}, {condition} | {name} | {percent(score.wer, score.wer_interval)} "
                    f"| {insertions(references, texts[name])} | {100 * share:.0f} % | {ratio:.2f} "
                    f"| {total / sum(seconds[name]):.0f} |\n"
                )
    for name in names:
        score = evaluate(*zip(*said[name], strict=True))
        table += f"| all | {name} | {percent(score.wer, score.wer_interval)} | | | | |\n"
    table += "\n| detector | digits found | start off by | end off by |\n|---|---|---|---|\n"
    for name in names:
        cells = "- | -"
        if offsets[name]:
            cells = " | ".join(f"{1000 * each:.0f} ms" for each in np.median(np.abs(offsets[name]), axis=0))
        table += f"| {name} | {len(offsets[name])} of {len(offsets[name]) + missed[name]} | {cells} |\n"
    return table


def heard(made: list[Recording], name: str, stride: int, config: SegmentConfig | None = None) -> float:
    """Seconds that a detector passes on."""
    return sum(
        len(piece.samples) / SAMPLE_RATE
        for recording in made
        for piece in speech_segments([recording.waveform], vad.create(name), stride, config)
    )


def insertions(references: list[str], texts: list[str]) -> int:
    import jiwer

    return sum(jiwer.process_words(*pair).insertions for pair in zip(references, texts, strict=True))


def word_offsets(recording: Recording, words: list) -> list[tuple[float, float]]:
    """(start, end) minus the truth, in seconds, of the digits that were recognised."""
    matcher = SequenceMatcher(None, recording.text.split(), [word.word for word in words], autojunk=False)
    pairs = [
        (words[second + i].start - place[0], words[second + i].end - place[1])
        for first, second, size in matcher.get_matching_blocks()
        for i in range(size)
        if (place := recording.digits.get(first + i)) is not None
    ]
    return [pair for pair in pairs if abs(pair[0]) < 1]  # else another of the same word


def tune(recognizer: recognition.Recognizer, data: Path, split: str) -> None:
    """Print WER and the share of audio that the network processes, for settings of the speech segments."""
    made = [recordings(data, group, name, split)[0] for group in GROUPS for name in CONDITIONS]
    total = sum(len(each.waveform) for each in made) / SAMPLE_RATE
    references = [each.text for each in made]
    found = [recognizer.transcribe(each.waveform, vad="off").text for each in made]
    rate = 100 * evaluate(references, found).wer
    print(f"off WER {rate:.2f} insertions {insertions(references, found)}", flush=True)
    for name in ("energy", "silero"):
        for pad, pause in (
            (0.2, 0.7),
            (0.2, 1.1),
            (0.3, 0.7),
            (0.3, 1.1),
            (0.3, 2.0),
            (0.5, 1.1),
            (0.5, 2.0),
        ):
            config = SegmentConfig(pad, pause)
            recognition.speech_segments = functools.partial(speech_segments, config=config)
            found = [recognizer.transcribe(each.waveform, vad=name).text for each in made]
            share = heard(made, name, recognizer.config.stride, config) / total
            print(
                f"{name} {config} WER {100 * evaluate(references, found).wer:.2f} "
                f"insertions {insertions(references, found)} hears {100 * share:.0f} %",
                flush=True,
            )


def memory(data: Path, model: str, hours: float) -> None:
    """Peak memory and speed of the command line, by the length of the recording."""
    made = [each for group in GROUPS for each in recordings(data, group, "noise 20 dB", "test")]
    sound = np.concatenate([each.waveform for each in made])
    print("| length | detector | peak memory, MB | wall seconds | x real time |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (60, 3600, round(3600 * hours)):
            path = Path(folder) / "long.wav"
            with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
                for block in repeated(sound, seconds):
                    file.write(block)
            for name in ("energy", "off"):
                if name == "off" and seconds > 3600:  # an hour shows that it is the same
                    continue
                took, peak = run("transcribe", model, path, "--vad", name, "--format", "srt", "-o", folder)
                print(
                    f"| {seconds} s | {name} | {peak:.0f} | {took:.0f} | {seconds / took:.0f} |", flush=True
                )


def repeated(sound: np.ndarray, seconds: int) -> Iterator[np.ndarray]:
    left = seconds * SAMPLE_RATE
    while left > 0:
        yield sound[:left]
        left -= len(sound)


if __name__ == "__main__":
    main()
