"""Measure costs and gains of decoding with a beam, language models and hot words, on every test set.

    python benchmarks/decoding.py ../shared/data
    python benchmarks/decoding.py ../shared/data --tune

Language models are made of the training rows of all sets; the hot words are the values of the slots in the
training rows of coffee. Logits are computed once. --tune prints error rates on dev for settings of the
language models. Word times are checked on digits put in a row with known pauses: true times are where
the sound of a clip is above -35 dB of its loudest part. The search knows that they are digits.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import numpy as np
from accuracy import percent, wer

import littlefoot
from littlefoot.audio import SAMPLE_RATE, manifest, reading
from littlefoot.audio.manifest import Utterance
from littlefoot.decode.align import align
from littlefoot.decode.arpa import write_arpa
from littlefoot.decode.beam import BeamConfig, BeamDecoder
from littlefoot.decode.greedy import greedy
from littlefoot.decode.hotwords import DEFAULT_WEIGHT
from littlefoot.decode.lexicon import Lexicon
from littlefoot.decode.ngram import estimate
from littlefoot.decode.spans import words
from littlefoot.evaluate.metrics import evaluate, normalize_text, slot_word_recall, slot_words
from littlefoot.runtime.recognizer import Recognizer

SLOTS = "coffee"
TUNED_ON = ("coffee", "digits", "kathleen", "librispeech3")
PAUSES = (0.02, 0.1), (0.1, 0.3), (0.3, 1.0)


class Heard(NamedTuple):
    """An utterance and what the model makes of it."""

    utterance: Utterance
    logits: np.ndarray
    """(F, V)"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of sets, each with a manifest.tsv")
    parser.add_argument("--model", default="littlefoot-en")
    parser.add_argument("--split", default="test")
    parser.add_argument("--tune", action="store_true", help="settings of language models, on dev")
    options = parser.parse_args()

    recognizer = littlefoot.load(options.model, threads=1)
    rows = [u for path in sorted(options.data.glob("*/manifest.tsv")) for u in manifest.read(path)]
    sentences = [normalize_text(u.text).split() for u in rows if u.split == "train"]
    with tempfile.TemporaryDirectory() as directory:
        words, characters = (Path(directory) / name for name in ("words.arpa", "characters.arpa"))
        write_arpa(estimate(sentences, 4), words)
        write_arpa(estimate(["|".join(s) for s in sentences], 8, (0, 0, 0, 1)), characters)
        if options.tune:
            heard = listen(recognizer, [u for u in rows if u.split == "dev" and u.set_name in TUNED_ON])
            tune(recognizer, heard, words, characters)
            return
        hot = dict.fromkeys(slot_values(rows), DEFAULT_WEIGHT)
        decoders = {
            "greedy": None,
            "beam 32": recognizer.decoder(),
            "4-gram of words": recognizer.decoder(lm=words),
            "8-gram of characters": recognizer.decoder(lm=characters),
            "hot words": recognizer.decoder(hotwords=hot),
            "words, hot words": recognizer.decoder(lm=words, hotwords=hot),
            "characters, hot words": recognizer.decoder(lm=characters, hotwords=hot),
        }
    heard = listen(recognizer, [u for u in rows if u.split == options.split])
    digits = [u for u in rows if u.set_name == "digits" and u.split == options.split]
    print(f"{errors(recognizer, heard, decoders)}\n{times(recognizer, digits)}")


def slot_values(rows: list[Utterance]) -> list[str]:
    """List the slot values of the orders in the training rows."""
    meant = (json.loads(u.slots) for u in rows if u.slots and u.split == "train")
    return sorted({normalize_text(value) for slots in meant for value in slots.values()})


def listen(recognizer: Recognizer, rows: list[Utterance]) -> list[Heard]:
    return [Heard(u, recognizer.logits(reading.read(str(u.path)))) for u in rows]


def decode(recognizer: Recognizer, logits: np.ndarray, decoder: BeamDecoder | None) -> str:
    if decoder is None:
        return greedy(logits, recognizer.vocabulary, recognizer.config.frame_ms / 1000).text
    search = decoder.start()
    search.feed(logits)
    return search.finish().alternatives[0].text


def errors(recognizer: Recognizer, heard: list[Heard], decoders: dict[str, BeamDecoder | None]) -> str:
    """Return a row for each decoder: WER on each set, slot words, times real time of decoding alone."""
    sets = sorted({h.utterance.set_name for h in heard})
    others = f"all but {SLOTS}"
    lines = [
        f"| WER % | {' | '.join(sets)} | {others} | {SLOTS}: slot words, % | x real time |",
        "|---" * (len(sets) + 4) + "|",
    ]
    for name, decoder in decoders.items():
        began = time.process_time()
        said = [decode(recognizer, h.logits, decoder) for h in heard]
        took = time.process_time() - began
        seconds = sum(len(h.logits) for h in heard) * recognizer.config.frame_ms / 1000
        cells = []
        for chosen in [*([s] for s in sets), [s for s in sets if s != SLOTS]]:
            pairs = [
                (h.utterance.text, s)
                for h, s in zip(heard, said, strict=True)
                if h.utterance.set_name in chosen
            ]
            cells.append(wer(evaluate(*map(list, zip(*pairs, strict=True)))))
        meant = [
            (slot_words(h.utterance.slots), s) for h, s in zip(heard, said, strict=True) if h.utterance.slots
        ]
        recall = slot_word_recall(*map(list, zip(*meant, strict=True)))
        cells += [percent(recall.rate, recall.interval), f"{seconds / took:.0f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def tune(recognizer: Recognizer, heard: list[Heard], words: Path, characters: Path) -> None:
    """Errors of all words of dev for settings around the defaults."""
    grids = {
        words: ((0.3, 0.4, 0.5), (2.0, 3.0, 4.0), (0.0, -1.0, -3.0)),
        characters: ((0.7, 0.9, 1.1), (-1.0, 0.0, 1.0), (-1.0,)),
    }
    for lm, grid in grids.items():
        for alpha, beta, unknown in itertools.product(*grid):
            decoder = recognizer.decoder(replace(BeamConfig(), alpha=alpha, beta=beta, unknown=unknown), lm)
            score = evaluate(
                [h.utterance.text for h in heard], [decode(recognizer, h.logits, decoder) for h in heard]
            )
            print(f"{lm.stem} alpha {alpha} beta {beta} unknown {unknown}: {wer(score)}", flush=True)


def times(recognizer: Recognizer, digits: list[Utterance]) -> str:
    """Compare the word times of forced alignment and of the search with the true ones (medians)."""
    frame = recognizer.config.frame_ms / 1000
    vocabulary = recognizer.vocabulary
    decoder = BeamDecoder(vocabulary, frame, lexicon=Lexicon({u.text for u in digits}, vocabulary))
    lines = [
        "| pauses, s | words | recognised | forced: start | end | search: start | end | search to forced |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for pauses in PAUSES:
        forced, found, between = [], [], []
        for waveform, text, true in in_a_row(digits, pauses):
            logits = recognizer.logits(waveform)
            aligned = words(align(logits, vocabulary.encode(text), vocabulary), vocabulary, frame)
            forced += [(a.start - start, a.end - end) for a, (start, end) in zip(aligned, true, strict=True)]
            search = decoder.start()
            search.feed(logits)
            said = search.finish().words
            matcher = SequenceMatcher(None, text.split(), [word.word for word in said], autojunk=False)
            for first, second, size in matcher.get_matching_blocks():
                for i in range(size):
                    heard, aligned_word, (start, end) = said[second + i], aligned[first + i], true[first + i]
                    found.append((heard.start - start, heard.end - end))
                    between.append((heard.start - aligned_word.start, heard.end - aligned_word.end))
        cells = [
            f"{1000 * each:.0f} ms" for pairs in (forced, found) for each in np.median(np.abs(pairs), axis=0)
        ]
        cells.append(f"{1000 * np.median(np.abs(between)):.0f} ms")
        lines.append(f"| {pauses[0]} - {pauses[1]} | {len(forced)} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def in_a_row(
    digits: list[Utterance], pauses: tuple[float, float], count: int = 60, length: int = 6
) -> Iterator[tuple[np.ndarray, str, list[tuple[float, float]]]]:
    """Digits with pauses of faint noise: samples, text, and (start, end) of each word in seconds."""
    generator = np.random.default_rng(0)

    def pause(seconds: float) -> np.ndarray:
        return 1e-4 * generator.standard_normal(int(seconds * SAMPLE_RATE))

    for _ in range(count):
        chosen = [digits[i] for i in generator.integers(len(digits), size=length)]
        parts, true = [pause(0.5)], []
        for utterance in chosen:
            sound = trimmed(reading.read(str(utterance.path)))
            begin = sum(map(len, parts))
            true.append((begin / SAMPLE_RATE, (begin + len(sound)) / SAMPLE_RATE))
            parts += [0.1 * sound / sound.std(), pause(generator.uniform(*pauses))]
        parts.append(pause(0.5))
        yield np.concatenate(parts).astype(np.float32), " ".join(u.text for u in chosen), true


def trimmed(waveform: np.ndarray, floor: float = -35.0) -> np.ndarray:
    """Without the ends in which 10 ms are quieter than ``floor``, in dB of the loudest 10 ms."""
    step = SAMPLE_RATE // 200
    powers = [np.square(waveform[i : i + 2 * step]).mean() for i in range(0, len(waveform) - step, step)]
    loud = np.flatnonzero(10 * np.log10(np.array(powers) / max(powers) + 1e-12) > floor)
    return waveform[loud[0] * step : (loud[-1] + 2) * step]


if __name__ == "__main__":
    main()
