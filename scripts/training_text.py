"""Write texts to be synthesised, one a line: public-domain sentences, coffee orders and digit strings.

    python scripts/training_text.py texts.txt --cache texts --data ../shared/data --sentences 20000

The sentences are from the sources of the language model of open English: novels, the State of the Union
addresses, the King James Bible; english_lm.py names them and fetches them into ``--cache``.
Half of them are drawn at random, the other half are those whose words are common in the sources, but rare in
the training sets and the texts chosen so far: a recogniser misspells most words that it was never trained on.
A sentence that shares eight words in a row with the dev or test splits of ``--data`` is left out.
"""

from __future__ import annotations

import argparse
import heapq
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from english_lm import HELD_OUT, READ, SPOKEN, HeldOut, fetch, novels, scripture, speeches, texts

from littlefoot.evaluate.metrics import normalize_text

SHARES = ((novels, 0.6), (speeches, 0.35), (scripture, 0.05))
WORDS = range(3, 23)

OPENINGS = (
    "can i get", "can i have", "may i have", "could i have", "give me", "get me", "i want", "i would like",
    "i'd like", "i'll have", "make me", "please make me", "brew", "please brew", "i need",
)  # fmt: skip
SHOTS = ("single shot", "double shot", "triple shot")
ROASTS = ("light roast", "medium roast", "dark roast")
SIZES = (
    "small", "medium", "large", "extra large", "eight ounce", "twelve ounce", "sixteen ounce", "twenty ounce",
)  # fmt: skip
DRINKS = (
    "americano", "cappuccino", "coffee", "drip coffee", "house coffee", "espresso", "iced mocha",
    "iced coffee", "latte", "mocha", "flat white", "macchiato",
)  # fmt: skip
AMOUNTS = ("", "", "some", "a bit of", "a little bit of", "a lot of", "lots of", "no")
ADDED = (
    "milk", "soy milk", "skim milk", "whole milk", "two percent milk", "cream", "half and half", "sugar",
    "brown sugar", "sweetener",
)  # fmt: skip
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def main() -> None:
    """Write the texts in random order."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--cache", type=Path, required=True, help="where the packages of texts are kept")
    parser.add_argument("--sentences", type=int, default=20000)
    parser.add_argument("--orders", type=int, default=0)
    parser.add_argument("--digits", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    fetch(options.cache)
    held_out = HeldOut(texts(options.data, HELD_OUT, ("dev", "test")))
    counts = Counter(word for text in texts(options.data, READ, ("train",)) for word in text)
    print(f"{len(counts)} different words in the training sets")
    chosen: list[str] = []
    for read, share in SHARES:
        found = sorted({text for document in read(options.cache) for text in split(document)})
        free = [text for text in found if tuple(normalize_text(text).split()) not in held_out]
        generator.shuffle(free)
        count = min(round(share * options.sentences), len(free))
        at_random, rest = free[: count // 2], free[count // 2 :]
        counts.update(word for text in at_random for word in normalize_text(text).split())
        chosen += at_random + most_wanted(rest, count - count // 2, counts)
        print(f"{read.__name__}: {count} of {len(free)} sentences; {len(found) - len(free)} held out")
    print(f"{len(counts)} different words with those chosen")
    chosen += [order(generator) for _ in range(options.orders)]
    chosen += [digits(generator) for _ in range(options.digits)]
    generator.shuffle(chosen)
    options.out.write_text("\n".join(chosen) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(chosen)} texts")


def most_wanted(sentences: Iterable[str], count: int, counts: Counter[str]) -> list[str]:
    """Choose ``count`` sentences one after another, always the one that teaches most for its length.

    A word weighs f^0.35 / (1 + how often it was counted), where f is how often the sentences hold it, and
    nothing if that is less than 8 times, since it may be a name that does not come again. The words of a
    chosen sentence are counted. So weights only fall, and the best of a heap whose score is still true is the
    best of all.
    """
    words = {text: frozenset(normalize_text(text).split()) for text in sentences}
    held = Counter(word for found in words.values() for word in found)
    weights = {word: times**0.35 for word, times in held.items() if times >= 8}

    def score(text: str) -> float:
        gain = sum(weights.get(word, 0.0) / (1 + counts[word]) for word in words[text])
        return -gain / (len(text) + 12)

    heap = [(score(text), text) for text in words]
    heapq.heapify(heap)
    chosen: list[str] = []
    while heap and len(chosen) < count:
        before, text = heap[0]
        if (now := score(text)) > before:
            heapq.heapreplace(heap, (now, text))
            continue
        heapq.heappop(heap)
        chosen.append(text)
        counts.update(words[text])
    return chosen


def split(text: str) -> Iterator[str]:
    """Sentences, long ones at their commas, that can be read aloud and written with A to Z."""
    text = re.sub(r"[\u2018\u2019]", "'", text)
    text = re.sub(r"[\u201c\u201d\"]", "", text)
    text = re.sub(r"\s*(\u2014|--)\s*", ", ", text)
    text = re.sub(r"\b(Mr|Mrs|Dr|St)\.", lambda match: SPOKEN[match[1].upper()].capitalize(), text)
    for sentence in re.split(r"(?<=[.!?;:])\s+", re.sub(r"\s+", " ", text)):
        pieces = re.split(r"(?<=,)\s+", sentence) if len(sentence.split()) >= WORDS.stop else [sentence]
        for piece in pieces:
            piece = piece.strip(" ,;:-")
            if (
                len(piece.split()) in WORDS
                and re.fullmatch(r"[A-Za-z',\- ]+[.!?]?", piece)
                and not re.search(r"\b[A-Z]{2,}\b", piece)
            ):
                yield piece


def order(generator: random.Random) -> str:
    """Make up a coffee order."""

    def sometimes(words: tuple[str, ...], probability: float) -> list[str]:
        return [generator.choice(words)] if generator.random() < probability else []

    parts = [sometimes(SHOTS, 0.5), sometimes(ROASTS, 0.5), sometimes(SIZES, 0.5)]
    generator.shuffle(parts)
    words = [word for part in parts for word in part] + [generator.choice(DRINKS)]
    article = "an" if words[0][0] in "aei" else "a"
    added = generator.sample(ADDED, generator.choice((0, 1, 1, 2)))
    extras = " and ".join(f"{generator.choice(AMOUNTS)} {what}".strip() for what in added)
    return " ".join([generator.choice(OPENINGS), article, *words, *(["with", extras] if extras else [])])


def digits(generator: random.Random) -> str:
    """Half of them one digit, the others up to eight."""
    count = 1 if generator.random() < 0.5 else generator.randint(2, 8)
    return " ".join(generator.choices(DIGITS, k=count))


if __name__ == "__main__":
    main()
