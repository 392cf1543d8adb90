"""Forced alignment: exact, in bounded memory, of texts as people write them."""

from __future__ import annotations

import json
import shlex
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import oracle
import pytest
import soundfile
from conftest import Run
from families import speechlike
from numpy.typing import NDArray

import littlefoot
from littlefoot import artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode import viterbi
from littlefoot.decode.align import STAR, align, align_parts, frames_needed
from littlefoot.decode.known_text import KnownText, read_text
from littlefoot.decode.spans import log_softmax
from littlefoot.decode.viterbi import Scores, best_path
from littlefoot.errors import ConfigError, EngineError, TextError
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.transcript.results import Word

Logits = NDArray[np.float32]

LETTERS = Vocabulary(("<pad>", "|", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
CHINESE = Vocabulary(("[PAD]", "[UNK]", "你", "好", "世", "界"))
PHONES = Vocabulary(("<pad>", "h", "ə", "l", "oʊ"), phones=True)


def random_logits(seed: int, frames: int, size: int = len(LETTERS.tokens), scale: float = 3.0) -> Logits:
    return (scale * np.random.default_rng(seed).standard_normal((frames, size))).astype(np.float32)


def utterance(seed: int) -> tuple[Logits, list[int]]:
    """Logits and a text that fits them; often a token is repeated."""
    generator = np.random.default_rng(seed)
    frames = int(generator.integers(1, 120))
    tokens = generator.integers(1, 6, size=generator.integers(1, frames + 1)).tolist()
    while frames_needed(tokens) > frames:
        tokens.pop()
    return random_logits(seed, frames, scale=generator.choice([0.3, 3.0, 20.0])), tokens


def test_equal_neighbours_need_a_frame_between_them() -> None:
    assert frames_needed([5, 6, 6, 6, 7]) == 7


def labels_of(logits: Logits, tokens: list[int], vocabulary: Vocabulary = LETTERS) -> list[int]:
    """The token of every frame."""
    spans = align(logits, tokens, vocabulary)
    found = [vocabulary.blank] * len(logits)
    for token, start, end in zip(tokens, spans.starts, spans.ends, strict=True):
        found[start:end] = [token] * (end - start)
    return found


def plain_viterbi(log_posteriors: NDArray[np.float64], tokens: list[int], blank: int) -> list[int]:
    """The textbook's algorithm over all states, one cell after the other."""
    states = [blank]
    for token in tokens:
        states += [token, blank]
    best = {0: (log_posteriors[0, blank], [0]), 1: (log_posteriors[0, states[1]], [1])}
    for row in log_posteriors[1:]:
        following = {}
        for state, token in enumerate(states):
            ways = [state, state - 1]
            if state >= 2 and token != blank and token != states[state - 2]:
                ways.append(state - 2)
            known = [best[way] for way in ways if way in best]
            if known:
                score, path = max(known, key=lambda each: each[0])
                following[state] = (score + row[token], [*path, state])
        best = following
    ends = [best[state] for state in (len(states) - 1, len(states) - 2) if state in best]
    return [states[state] for state in max(ends, key=lambda each: each[0])[1]]


# The path


def test_two_hundred_utterances_have_the_path_of_a_plain_algorithm() -> None:
    for seed in range(200):
        logits, tokens = utterance(seed)
        assert labels_of(logits, tokens) == plain_viterbi(log_softmax(logits), tokens, LETTERS.blank), seed


@pytest.mark.parametrize(("frames", "count"), [(1, 1), (7, 3), (300, 40), (700, 200), (900, 3)])
@pytest.mark.parametrize("scale", [0.3, 8.0])
def test_no_band_is_too_narrow_for_the_best_path(frames: int, count: int, scale: float) -> None:
    """Also over the borders of blocks, of which 700 frames have several."""
    generator = np.random.default_rng(frames)
    labels = generator.integers(1, 5, size=count).tolist()
    rows = log_softmax(random_logits(1, frames, 5, scale))
    with closing(Scores(5)) as scores:
        for part in np.array_split(rows, 3):
            scores.add(part)
        whole = best_path(scores, labels)
        for band in (1, 2, 7, 64):
            assert np.array_equal(best_path(scores, labels, band), whole)


def planted(tokens: list[int], frames_each: int, seed: int = 0) -> Logits:
    """Logits in which a text is spoken, with noise."""
    logits = random_logits(seed, len(tokens) * frames_each, scale=1.0)
    logits[:, 0] += 8
    spikes = np.arange(len(tokens)) * frames_each + 1
    logits[spikes, 0] -= 8
    logits[spikes, tokens] += 8
    return logits


def test_a_clear_text_needs_a_narrow_band_only(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = np.random.default_rng(5).integers(1, 29, size=1500).tolist()
    logits = planted(tokens, 3)
    widths = []
    run = viterbi.BandSearch.run

    def counted(search: viterbi.BandSearch) -> bool:
        widths.append(search.width)
        return run(search)

    monkeypatch.setattr(viterbi.BandSearch, "run", counted)
    monkeypatch.setattr(viterbi, "BAND", 1)
    with closing(Scores(29)) as scores:
        scores.add(log_softmax(logits))
        path = best_path(scores, tokens, band=128)
        assert np.array_equal(path, best_path(scores, tokens, band=2000))
    assert widths[-1] == 1501  # the second call
    assert widths[-2] <= 512


def test_a_text_that_is_masked_has_no_path() -> None:
    logits = random_logits(0, 5)
    logits[:, 4] = -np.inf
    with pytest.raises(EngineError, match="probability of zero"):
        align(logits, [4], LETTERS)


def test_large_scores_are_kept_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, tokens = utterance(3)
    expected = align(logits, tokens, LETTERS)
    monkeypatch.setattr(viterbi, "IN_MEMORY", 1)
    found = align_parts(np.array_split(logits, 4), tokens, LETTERS)
    assert np.array_equal(found.starts, expected.starts)
    assert np.allclose(found.log_posteriors, expected.log_posteriors)


@pytest.mark.slow
def test_an_hour_is_aligned_in_bounded_memory() -> None:
    """180,000 frames of random logits against 9,000 tokens, whose best path needs the whole trellis: 3.2 GB
    as bytes."""
    tokens = np.random.default_rng(0).integers(1, 29, size=9000).tolist()

    def windows() -> Iterator[Logits]:
        for seed in range(180):
            yield random_logits(seed, 1000)

    tracemalloc.start()
    spans = align_parts(windows(), tokens, LETTERS)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (spans.starts[1:] >= spans.ends[:-1]).all()
    assert spans.frames == 180_000
    assert peak < 100e6


# Stars


@pytest.mark.parametrize("seed", range(20))
def test_a_star_is_the_best_of_all_texts(seed: int) -> None:
    """Of which it is at least one token, or a blank: whatever is best in every frame."""
    vocabulary = Vocabulary(("<pad>", "A", "B", "C"))
    logits = random_logits(seed, 7, 4)
    best = log_softmax(logits).max(axis=1)
    spans = align(logits, [1, STAR, 2], vocabulary)

    def regret(starts: tuple[int, ...]) -> float:
        """Of A in [a, b), anything in [b, c), B in [c, d), and blanks around and between."""
        a, b, s, t, c, d = starts
        log_posteriors = log_softmax(logits)
        columns = np.zeros(7, np.int64)
        columns[a:b], columns[c:d] = 1, 2
        found = log_posteriors[np.arange(7), columns]
        found[s:t] = best[s:t] - 1e-3
        return float(found.sum())

    borders = [
        (a, b, s, t, c, d) for a, b, s, t, c, d in product(range(8), repeat=6) if a < b <= s < t <= c < d
    ]
    expected = max(borders, key=regret)
    found = tuple(int(each) for pair in zip(spans.starts, spans.ends, strict=True) for each in pair)
    assert found == expected


def test_a_star_leaves_silence_to_blanks() -> None:
    tokens = [LETTERS.tokens.index(letter) for letter in "AXYB"]
    spans = align(planted(tokens, 10), [tokens[0], STAR, tokens[3]], LETTERS)
    assert (spans.starts[1], spans.ends[1]) == (11, 22)


# The text


def spell(text: str, vocabulary: Vocabulary = LETTERS, **settings: str) -> str:
    """The tokens of a text; ``*`` for stars."""
    known = KnownText(text, vocabulary, **settings)
    return "".join("*" if token == STAR else vocabulary.tokens[token] for token in known.tokens)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Hello, world!", "HELLO|WORLD"),
        ("  \u201cDon\u2019t\u201d \u2014 she said \u2026 ", "DON'T|SHE|SAID"),
        ("twenty-one well- -known a--b and/or", "TWENTY|ONE|WELL|KNOWN|A|B|AND|OR"),
        ("I paid 2.50 dollars", "I|PAID*DOLLARS"),
        ("from 1914-1918 on", "FROM*ON"),
        ("in 1984 2001 & after", "IN*|*|*AFTER"),
        ("R2-D2 says 3rd", "R*D*SAYS*RD"),
        ("caf\u00e9 \u0416uk", "CAFE*UK"),
        ("one * two * * three", "ONE*TWO*THREE"),
        ("\u266a la la \u266a", "LA|LA"),
    ],
)
def test_texts_are_spelled_in_the_alphabet(text: str, tokens: str) -> None:
    alphabet = (
        Vocabulary((*LETTERS.tokens[:8], "\u00c9", *LETTERS.tokens[8:])) if "\u00e9" in text else LETTERS
    )
    assert spell(text, alphabet).replace("\u00c9", "E") == tokens


def test_what_is_spelled_is_what_training_spells() -> None:
    text = "Stra\u00dfe don't  STOP"
    assert KnownText(text, LETTERS).tokens == LETTERS.encode(text)


@pytest.mark.parametrize(
    ("stars", "tokens"),
    [("written", "A|B|C"), ("ends", "*A|B|C*"), ("sentences", "*A|B*C*")],
)
def test_stars_stand_where_speech_may_be_missing(stars: str, tokens: str) -> None:
    assert spell("A b. C", stars=stars) == tokens


def align_text(text: str, frames: str, vocabulary: Vocabulary = LETTERS, **settings: str) -> Any:
    """A text aligned to frames of a tenth of a second, each with a certain token, ``_`` for the blank."""
    logits = np.full((len(frames), len(vocabulary.tokens)), -9.0, np.float32)
    for row, token in zip(logits, frames, strict=True):
        row[vocabulary.blank if token == "_" else vocabulary.tokens.index(token)] = 9.0
    known = KnownText(text, vocabulary, **settings)
    words = known.words(align(logits, known.tokens, vocabulary), 0.1)
    return known, words


def times(words: list[Word]) -> list[tuple[str, float, float]]:
    return [(word.word, round(word.start, 3), round(word.end, 3)) for word in words]


def test_words_keep_their_numbers_punctuation_and_case() -> None:
    known, words = align_text('"Hi, 20-year (olds)" \u2013 ok.', "__HHI_|TW_|Y_EAR_|OLDS__|OK")
    assert times(words) == [
        ('"Hi,', 0.2, 0.6),
        ("20-year", 0.6, 1.7),
        ('(olds)" \u2013', 1.8, 2.4),
        ("ok.", 2.5, 2.7),
    ]
    assert known.text == '"Hi, 20-year (olds)" \u2013 ok.'
    assert [(letter, round(start, 3)) for letter, start, _ in words[0].letters] == [('"H', 0.2), ("i,", 0.4)]


def test_the_confidence_is_that_of_the_characters_the_alphabet_has() -> None:
    _, (first, number, last) = align_text("a 20 b", "A_TW_B")
    assert first.confidence == pytest.approx(1, abs=1e-3)
    assert number.confidence == 0
    _, (first, wrong, last) = align_text("a q b", "A_|X|_B")
    assert wrong.confidence < 1e-3
    assert last.confidence == pytest.approx(1, abs=1e-3)


def test_sentences_end_at_marks_and_blank_lines_or_at_lines() -> None:
    text = "a b. c\nd?\n\ne f"
    frames = "A|B|C|D|E|F"
    known, words = align_text(text, frames)
    found = known.sentences(words)
    assert [(each.text, round(each.start, 3)) for each in found] == [
        ("a b.", 0.0),
        ("c d?", 0.4),
        ("e f", 0.8),
    ]
    assert [word.word for word in words if word.ends] == ["b.", "d?"]
    known, words = align_text(text, frames, sentences="lines")
    assert [each.text for each in known.sentences(words)] == ["a b. c", "d?", "e f"]


def test_scripts_without_words_are_aligned_by_character() -> None:
    known, words = align_text("\u300c你好\u3002世界!\u300d", "你_好_世_界", CHINESE)
    assert [word.word for word in words] == ["\u300c你", "好\u3002", "世", "界!\u300d"]
    assert [each.text for each in known.sentences(words)] == ["\u300c你好\u3002", "世界!\u300d"]
    assert known.text == "\u300c你好\u3002世界!\u300d"


def test_scripts_without_words_have_stars_too() -> None:
    assert spell("\u4f602024\u597d", CHINESE) == "\u4f60*\u597d"
    _, words = align_text("\u4f6020\u597d * \u4e16", "\u4f60_\u754c_\u597d_\u754c_\u4e16", CHINESE)
    assert times(words) == [
        ("\u4f60", 0.0, 0.2),
        ("20", 0.2, 0.38),
        ("\u597d", 0.4, 0.6),
        ("\u4e16", 0.8, 0.9),
    ]


def test_phones_are_aligned_too() -> None:
    known = KnownText("h ə l oʊ", PHONES)
    assert known.tokens == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no words"),
        (" \n\t ", "has no words"),
        ("* *", "has no words"),
        ("\u2014 ...", "has no words"),
        ("1984", r"'1984', has no character of the model's alphabet \(\| ' A B"),
        ("Привет", "numbers in words"),
    ],
)
def test_texts_that_cannot_be_aligned_are_refused(text: str, message: str) -> None:
    with pytest.raises(TextError, match=message):
        KnownText(text, LETTERS)


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(
        ConfigError, match="stars: 'everywhere' is unknown: use one of written, ends, sentences"
    ):
        KnownText("a", LETTERS, stars="everywhere")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("h\u00e9".encode("utf-16"), "UTF-16: save it as UTF-8"),
        ("a\ncaf\u00e9".encode("latin-1"), "line 2: is not UTF-8 text, perhaps Latin-1"),
        (b"RIFF\0\0\0\0WAVE", "is not a text file"),
    ],
)
def test_files_in_other_encodings_are_refused(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(data)
    with pytest.raises(TextError, match=message):
        read_text(path)
    path.write_bytes("\ufeffOne".encode())
    assert read_text(path) == "One"
    with pytest.raises(TextError, match="cannot be read"):
        read_text(tmp_path / "missing.txt")


# Recognizers and the command


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = artifacts.talkative(oracle.tiny("wav2vec2-base").artifact, speechlike(1.0))
    return artifact.save(made, tmp_path_factory.mktemp("align") / "model")


@pytest.fixture(scope="module")
def recognizer(model: Path) -> Recognizer:
    return littlefoot.load(str(model))


def test_a_recording_is_aligned_as_its_logits_are(recognizer: Recognizer) -> None:
    """Over the borders of windows too."""
    for seconds in (1.0, 50.0):
        clip = speechlike(seconds)
        text = recognizer.transcribe(clip, vad="off").text.capitalize() + "."
        found = recognizer.align(clip, text)
        known = KnownText(text, recognizer.vocabulary)
        spans = align(recognizer.logits(clip), known.tokens, recognizer.vocabulary)
        assert found.words == known.words(spans, recognizer.config.frame_ms / 1000)
        assert (found.text, found.duration) == (text, seconds)
        assert [segment.text for segment in found.segments] == [text]
        assert min(word.confidence for word in found.words) > 0.01


def test_texts_that_do_not_fit_the_audio_are_refused(recognizer: Recognizer, tmp_path: Path) -> None:
    with pytest.raises(TextError, match=r"need at least \d+ frames, there are \d+.*\(1.00 s\)"):
        recognizer.align(speechlike(1.0), 200 * "TEE ")
    with pytest.raises(TextError, match="there are 0"):
        recognizer.align(np.zeros(30, np.float32), "TEE")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.wav"
    soundfile.write(path, 0.1 * speechlike(2.0), 16_000)
    return path


def test_the_command_writes_every_format(
    run: Run, model: Path, recognizer: Recognizer, clip: Path, tmp_path: Path
) -> None:
    text = recognizer.transcribe(clip).text.split()[0]
    file = tmp_path / "text.txt"
    file.write_text(f"{text},\n\n{text}.\n", encoding="utf-8")
    result = run("align", model, clip, file)
    record = json.loads(result.out)
    assert (result.code, record["text"]) == (0, f"{text}, {text}.")
    assert [segment["text"] for segment in record["segments"]] == [f"{text},", f"{text}."]
    assert all(word["characters"] for word in record["words"])
    assert json.loads(run("align", model, clip, f"{text},\n\n{text}.").out) == record
    starts = {
        "srt": "1\n00:00:0",
        "vtt": "WEBVTT\n\n00:00:0",
        "textgrid": "File type",
        "ctm": "clip 1 ",
        "tsv": "start\tend\ttext\n",
    }
    for form, start in starts.items():
        output = tmp_path / f"out.{form}"
        assert run("align", model, clip, file, "--format", form, "-o", output) == (0, "", "")
        assert output.read_text(encoding="utf-8").startswith(start)


def test_the_command_s_subtitles_begin_anew_with_each_sentence(
    run: Run, model: Path, recognizer: Recognizer, clip: Path
) -> None:
    one, two = recognizer.transcribe(clip).text.split()[:2]
    written = run("align", model, clip, f"{one}. {two}.", "--format", "vtt").out
    assert [line for line in written.splitlines() if line.endswith(".")] == [f"{one}.", f"{two}."]


@pytest.mark.parametrize(
    ("text", "options", "code", "message"),
    [
        ("nowhere.txt", (), 1, "nowhere.txt: cannot be read"),
        ("12 34", (), 1, "has no character of the model's alphabet"),
        ("TEE", ("--format", "text"), 2, "--format text is unknown: use one of json, srt"),
        ("TEE", ("--stars", "all"), 2, "stars: 'all' is unknown"),
        ("TEE", ("--sentences", "all"), 2, "sentences: 'all' is unknown"),
        ("TEE", ("-o", "/dev/null/out.json"), 1, "/dev/null/out.json cannot be written"),
    ],
)
def test_the_command_explains_what_is_wrong(
    run: Run, model: Path, clip: Path, text: str, options: tuple[str, ...], code: int, message: str
) -> None:
    result = run("align", model, clip, text, *options)
    assert result.code == code
    assert message in result.err
    assert result.out == ""


def test_an_empty_recording_is_refused(run: Run, model: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.wav"
    soundfile.write(empty, np.zeros(0), 16_000)
    result = run("align", model, empty, "TEE")
    assert result.code == 1
    assert "empty.wav" in result.err


# The guide


@pytest.mark.slow
def test_the_commands_of_the_guide_work(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "littlefoot").symlink_to(root / "littlefoot")
    (tmp_path / "garden.txt").write_text("The old man walked into the garden.\n", encoding="utf-8")
    guide = (root / "docs" / "align.md").read_text(encoding="utf-8")
    commands = [line for line in guide.splitlines() if line.startswith("littlefoot align ")]
    results = [run(*shlex.split(command)[1:]) for command in commands]
    assert [result.code for result in results] == [0] * 5, results
    record = json.loads(results[0].out)
    assert [word["word"] for word in record["words"]][-1] == "garden."
    assert "The old man walked into the garden." in (tmp_path / "garden.srt").read_text(encoding="utf-8")
    words = [line.split() for line in results[2].out.splitlines()]
    assert [word[4] for word in words] == ["One,", "two,", "3", "and", "4.", "Five", "six", "seven!"]
    starts = [float(word[2]) for word in words]
    assert starts == sorted(starts)
    get, with_ = (
        [float(number) for number in line.split()[2:4]] for line in results[3].out.splitlines()[2:4]
    )
    assert with_[0] - sum(get) > 0.5  # a double shot mocha
    assert int(results[4].out.splitlines()[1].split("\t")[0]) > 300  # nine


def test_the_guide_s_messages_are_those_of_the_code() -> None:
    root = Path(__file__).parents[2]
    table = (root / "docs" / "align.md").read_text(encoding="utf-8").partition("## What is refused")[2]
    code = "".join(
        (root / "littlefoot" / "decode" / f"{name}.py").read_text(encoding="utf-8")
        for name in ("align", "known_text")
    )
    messages = [row.split("|")[2] for row in table.splitlines() if row.startswith("| ") and "---" not in row][
        1:
    ]
    assert len(messages) == 4
    for message in ";".join(messages).split(";"):
        assert message.strip() in code
