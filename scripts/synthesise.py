"""Make synthetic speech to train on: a folder of Ogg Opus recordings with its manifest.tsv.

    python scripts/training_text.py texts.txt
    python scripts/synthesise.py runs/synthetic2 texts.txt --exclude ../shared/data

Every text is read once, by a voice drawn at random. Voices are made higher or lower by resampling, which
counts as another speaker: that keeps a recogniser from learning eight voices by heart. Texts that occur in a
dev or test split of the manifests under --exclude are left out. What is already there is kept: after an
interruption, run the same command again. Which packages the voices need is in synthesisers.py; --voices takes
fewer, or others of their weights: ``--voices hibari=5 flite=3``.
"""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr
from synthesisers import VOICES, Voice, save

from littlefoot.audio import SAMPLE_RATE, manifest, reading
from littlefoot.evaluate.metrics import normalize_text

# How often each program's voices are drawn: the more natural, the more often.
WEIGHTS = {"hibari": 5.0, "piper": 4.0, "flite": 0.8, "espeak-ng": 0.4}
PITCHES = (0.84, 0.89, 0.94, 1.0, 1.06, 1.12, 1.19)
SPEEDS = (0.85, 1.2)
PEAK = 0.5
PAUSES = (0.1, 0.5)  # seconds of silence before and after


@dataclass(frozen=True)
class Job:
    """One recording to be made."""

    id: str
    text: str
    voice: Voice
    pitch: float
    speed: float
    pauses: tuple[float, float]
    path: Path

    @property
    def speaker(self) -> str:
        return f"{self.voice.program}-{self.voice.name}-{self.pitch}"


def main() -> None:
    """Synthesise what is missing, then write the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument(
        "--exclude", type=Path, help="folder of manifests with the texts of dev and test splits"
    )
    parser.add_argument(
        "--voices", nargs="+", type=weighted, default=list(WEIGHTS.items()), metavar="PROGRAM[=WEIGHT]"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    (options.out / "audio").mkdir(parents=True, exist_ok=True)
    held_out = set(held_out_texts(options.exclude)) if options.exclude else set()
    lines = [line for line in options.texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    # A single word, such as a digit, may occur in test texts too.
    texts = [line for line in lines if normalize_text(line) not in held_out or len(line.split()) == 1]
    if len(texts) < len(lines):
        print(f"{len(lines) - len(texts)} texts left out: they are in dev or test splits")
    jobs = list(plan(texts, options.out, dict(options.voices), options.seed))
    with multiprocessing.Pool(options.processes) as pool:
        for done, job in enumerate(pool.imap_unordered(make, jobs, chunksize=8), 1):
            if done % 500 == 0 or done == len(jobs):
                print(f"{done} of {len(jobs)}: {job.id}", flush=True)
    with (options.out / "manifest.tsv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", quoting=csv.QUOTE_NONE, lineterminator="\n")
        writer.writerow(["id", "path", "seconds", "speaker", "split", "text"])
        for job in jobs:
            seconds = f"{reading.duration(job.path):.3f}"
            path = job.path.relative_to(options.out)
            writer.writerow([job.id, path, seconds, job.speaker, "train", normalize_text(job.text)])


def held_out_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*/manifest.tsv")):
        for utterance in manifest.read([path]):
            if utterance.split != "train":
                yield normalize_text(utterance.text)


def weighted(argument: str) -> tuple[str, float]:
    """Read a program's name and weight, such as ``flite=3``; without a weight it has its own."""
    program, _, weight = argument.partition("=")
    if program not in WEIGHTS:
        raise argparse.ArgumentTypeError(f"{program}: no such program; one of {', '.join(WEIGHTS)}")
    return program, float(weight) if weight else WEIGHTS[program]


def plan(texts: list[str], out: Path, programs: dict[str, float], seed: int) -> Iterator[Job]:
    """Draw a voice and its manner for every text; the same for the same arguments."""
    generator = random.Random(seed)
    voices = [voice for voice in VOICES if voice.program in programs]
    weights = [programs[voice.program] for voice in voices]
    for number, text in enumerate(texts):
        (voice,) = generator.choices(voices, weights)
        pitch, speed = generator.choice(PITCHES), generator.uniform(*SPEEDS)
        pauses = generator.uniform(*PAUSES), generator.uniform(*PAUSES)
        id = f"s{number:06d}"
        yield Job(id, text, voice, pitch, speed, pauses, out / "audio" / f"{id}.ogg")


def make(job: Job) -> Job:
    """Synthesise one recording, unless it is there."""
    if not job.path.exists():
        # Played faster by the pitch, so spoken slower by it before.
        waveform = job.voice.speak(job.text, job.speed / job.pitch)
        waveform = soxr.resample(waveform, job.pitch * SAMPLE_RATE, SAMPLE_RATE)
        silences = [np.zeros(int(seconds * SAMPLE_RATE), np.float32) for seconds in job.pauses]
        waveform = np.concatenate([silences[0], waveform * (PEAK / np.abs(waveform).max()), silences[1]])
        unfinished = job.path.with_suffix(".part")
        save(unfinished, waveform)
        unfinished.replace(job.path)
    return job


if __name__ == "__main__":
    main()
