"""CTC decoding: greedy against a plain loop, alignment against all paths, words, times, segments."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.align import align
from littlefoot.decode.greedy import GreedySearch, best_path, best_tokens, greedy
from littlefoot.decode.spans import words
from littlefoot.errors import EngineError, TextError
from littlefoot.transcript.results import Segment, Word
from littlefoot.transcript.segments import segments

Logits = NDArray[np.float32]


ENGLISH = Vocabulary(("<pad>", "<s>", "</s>", "<unk>", "|", "A", "B", "C", "'"))
CHINESE = Vocabulary(("[PAD]", "[UNK]", "你", "好"))
SPACED = Vocabulary(("a", "b", " ", "<blank>"), blank=3, word_delimiter=" ")


def spoken(frames: str, vocabulary: Vocabulary = ENGLISH, confidence: float = 0.9) -> Logits:
    """Logits whose best token in each frame is the character given; ``_`` is the blank, ``?`` the unknown."""
    names = {"_": vocabulary.blank, "?": 3} | {t: i for i, t in enumerate(vocabulary.tokens) if len(t) == 1}
    size = len(vocabulary.tokens)
    posteriors = np.full((len(frames), size), (1 - confidence) / (size - 1))
    posteriors[np.arange(len(frames)), [names[character] for character in frames]] = confidence
    logits: Logits = np.log(posteriors).astype(np.float32)
    return logits


def softmax(logits: Logits) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    posteriors: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return posteriors


# Greedy


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ("", ""),
        ("____", ""),
        ("AAAB", "AB"),
        ("A_AB", "AAB"),
        ("AB|C", "AB C"),
        ("||A||B__||", "A B"),
        ("A|_|B", "A B"),
        ("?A?B|?|C", "AB C"),
        ("A?A", "AA"),
    ],
)
def test_greedy_text(frames: str, text: str) -> None:
    assert greedy(spoken(frames), ENGLISH, 0.02).text == text


@given(st.data())
def test_the_text_of_tokens_is_that_of_their_words(data: st.DataObject) -> None:
    vocabulary = data.draw(st.sampled_from([ENGLISH, CHINESE, SPACED]))
    frames = data.draw(st.lists(st.integers(0, len(vocabulary.tokens) - 1), max_size=30))
    spans = best_path(np.array(frames, np.int64), np.zeros(len(frames)), vocabulary.blank)
    logits = np.full((len(frames), len(vocabulary.tokens)), -9.0, np.float32)
    logits[np.arange(len(frames)), frames] = 9.0
    assert vocabulary.decode(spans.tokens.tolist()) == greedy(logits, vocabulary, 0.02).text


def test_word_times_reach_from_the_first_frame_to_the_delimiter() -> None:
    frames = "__AA_B__|CC_" + 20 * "_" + "|A" + 20 * "_"
    result = greedy(spoken(frames), ENGLISH, frame_seconds=0.02)
    times = [(word.word, word.start, word.end) for word in result.words]
    assert [time[0] for time in times] == ["AB", "C", "A"]
    # the delimiter at frame 8; 0.08 s after frame 10, for the delimiter comes late; as much where none comes
    expected = [(0.04, 0.16), (0.18, 0.22 + 0.08), (0.66, 0.68 + 0.08)]
    assert [time[1:] for time in times] == [pytest.approx(each) for each in expected]
    (last,) = greedy(spoken("_A_"), ENGLISH, frame_seconds=0.02).words
    assert last.end == pytest.approx(0.06)  # where the recording ends


def test_confidence_is_the_geometric_mean_of_the_posteriors_of_the_characters() -> None:
    logits = np.concatenate([spoken("A", confidence=0.8), spoken("_|_"), spoken("B", confidence=0.6)])
    logits = np.concatenate([logits, spoken("_", confidence=0.99), spoken("CC", confidence=0.9)])
    first, second = greedy(logits, ENGLISH, 0.02).words
    assert first.confidence == pytest.approx(0.8, abs=1e-6)
    assert second.confidence == pytest.approx((0.6 * 0.9 * 0.9) ** (1 / 3), abs=1e-6)


def test_without_a_word_delimiter_every_token_is_a_word_and_no_spaces_are_added() -> None:
    result = greedy(spoken("_你你_好好_好", CHINESE), CHINESE, 1.0)
    assert result.text == "你好好"
    assert [(word.word, word.start, word.end) for word in result.words] == [
        ("你", 1.0, 3.08),
        ("好", 4.0, 6.08),
        ("好", 7.0, 8.0),
    ]


def test_the_delimiter_may_be_a_space_and_the_blank_anywhere() -> None:
    assert greedy(spoken("a_b  b", SPACED), SPACED, 0.02).text == "ab b"


def greedy_loop(logits: Logits, vocabulary: Vocabulary) -> list[tuple[str, int, float, float]]:
    """Greedy decoding with frames of a second: (word, start, end, confidence)."""
    posteriors = softmax(logits)
    found = []
    word, start, end, logs, previous = "", 0, 0.0, list[float](), -1
    for frame, token in enumerate([*posteriors.argmax(axis=1), vocabulary.tokens.index("|")]):
        name = vocabulary.tokens[token]
        if name == "|":
            if word:
                tells = frame < len(posteriors) and frame - end <= 0.2
                end = frame if tells else min(frame, end + 0.08)
                found.append((word, start, end, float(np.exp(np.mean(logs)))))
            word, logs = "", []
        elif len(name) == 1:
            if not word:
                start = frame
            if token != previous:
                word += name
            end = frame + 1
            logs.append(float(np.log(posteriors[frame, token])))
        previous = token
    return found


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), frames=st.integers(0, 60), scale=st.floats(0.1, 100))
def test_greedy_is_what_a_plain_loop_gives(seed: int, frames: int, scale: float) -> None:
    generator = np.random.default_rng(seed)
    logits = (scale * generator.standard_normal((frames, len(ENGLISH.tokens)))).astype(np.float32)
    logits[generator.random(frames) < 0.3, ENGLISH.blank] += 10 * scale
    repeats = logits[np.sort(generator.integers(max(frames, 1), size=frames))]
    words = greedy(repeats, ENGLISH, frame_seconds=1.0).words
    expected = greedy_loop(repeats, ENGLISH)
    assert [(w.word, w.start, w.end) for w in words] == [entry[:3] for entry in expected]
    assert [w.confidence for w in words] == pytest.approx([entry[3] for entry in expected], rel=1e-4)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    cuts=st.lists(st.integers(0, 60)),
    vocabulary=st.sampled_from([ENGLISH, CHINESE, SPACED]),
)
def test_logits_in_parts_give_the_same_words(seed: int, cuts: list[int], vocabulary: Vocabulary) -> None:
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((60, len(vocabulary.tokens))).astype(np.float32)
    logits = logits[np.sort(generator.integers(60, size=60))]  # repeats
    search = GreedySearch(vocabulary, 0.02)
    parts = [search.feed(part) for part in np.split(logits, sorted(cuts))]
    words = [word for part in [*parts, search.finish()] for word in part]
    expected = greedy(logits, vocabulary, 0.02).words
    assert [word.word for word in words] == [word.word for word in expected]
    for field in ("start", "end", "confidence"):
        assert [getattr(word, field) for word in words] == pytest.approx(
            [getattr(word, field) for word in expected]
        )


# Alignment


def collapse(path: tuple[int, ...], blank: int) -> tuple[int, ...]:
    return tuple(token for token, _ in itertools.groupby(path) if token != blank)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 6), blank=st.integers(0, 2), data=st.data())
def test_alignment_is_the_best_of_all_paths(seed: int, frames: int, blank: int, data: st.DataObject) -> None:
    logits = np.random.default_rng(seed).normal(scale=2, size=(frames, 3)).astype(np.float32)
    path = data.draw(st.tuples(*[st.integers(0, 2)] * frames))
    target = collapse(path, blank)
    vocabulary = Vocabulary(("A", "B", "C"), blank=blank)

    logs = np.log(softmax(logits))
    scores = {
        path: sum(logs[frame, token] for frame, token in enumerate(path))
        for path in itertools.product(range(3), repeat=frames)
        if collapse(path, blank) == target
    }
    best = max(scores, key=lambda path: scores[path])

    spans = align(logits, target, vocabulary)
    aligned = np.full(frames, blank)
    for token, start, end, total in zip(
        spans.tokens, spans.starts, spans.ends, spans.log_posteriors, strict=True
    ):
        assert start < end
        aligned[start:end] = token
        assert total == pytest.approx(logs[start:end, token].sum(), abs=1e-9)
    assert tuple(spans.tokens) == target
    assert tuple(aligned.tolist()) == best


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), frames=st.integers(1, 50))
def test_aligning_the_greedy_text_gives_the_greedy_spans(seed: int, frames: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(frames, len(ENGLISH.tokens))).astype(np.float32)
    found = best_path(*best_tokens(logits, ENGLISH), ENGLISH.blank)
    aligned = align(logits, found.tokens.tolist(), ENGLISH)
    assert np.array_equal(aligned.starts, found.starts)
    assert np.array_equal(aligned.ends, found.ends)
    assert np.allclose(aligned.log_posteriors, found.log_posteriors, atol=1e-5)


def test_words_of_a_known_text_get_times_although_others_were_more_likely() -> None:
    logits = spoken("_AA_|_B_")
    a, delimiter, c = (ENGLISH.tokens.index(token) for token in "A|C")
    logits[6, c] = logits[6].max() - 0.1  # C is second best where B was recognised
    got = words(align(logits, [a, delimiter, c], ENGLISH), ENGLISH, 0.5, 1.0)
    assert [(word.word, word.start, word.end) for word in got] == [("A", 1.5, 2.58), ("C", 4.0, 4.58)]


def test_aligning_nothing_gives_nothing() -> None:
    assert not len(align(spoken("___"), [], ENGLISH).tokens)
    assert not len(align(spoken(""), [], ENGLISH).tokens)


def test_what_cannot_be_aligned_is_refused() -> None:
    with pytest.raises(TextError, match="2 tokens need at least 3 frames, there are 2"):
        align(spoken("AA"), [5, 5], ENGLISH)
    for token in (-1, ENGLISH.blank, len(ENGLISH.tokens)):
        with pytest.raises(EngineError, match="must be indices below 9 other than the blank, 0"):
            align(spoken("AA"), [token], ENGLISH)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_no_numbers_are_refused(bad: float) -> None:
    logits = spoken("A_B")
    logits[1, 2] = bad
    with pytest.raises(EngineError, match="NaN or infinite"):
        greedy(logits, ENGLISH, 0.02)
    with pytest.raises(EngineError, match="NaN or infinite"):
        align(logits, [5], ENGLISH)


@pytest.mark.parametrize("shape", [(9,), (4, 8), (1, 4, 9)])
def test_logits_must_fit_the_vocabulary(shape: tuple[int, ...]) -> None:
    with pytest.raises(EngineError, match=r"do not fit a vocabulary of 9 tokens.*expected \(frames, 9\)"):
        greedy(np.zeros(shape, np.float32), ENGLISH, 0.02)


def test_a_masked_token_of_minus_infinity_is_never_chosen() -> None:
    logits = spoken("AB")
    logits[:, 5] = -np.inf
    assert greedy(logits, ENGLISH, 0.02).text.endswith("B")


# Segments


def say(*words: tuple[str, float, float]) -> list[Word]:
    return [Word(word, start, end, 1.0) for word, start, end in words]


def test_segments_end_at_pauses() -> None:
    words = say(("A", 0.0, 0.5), ("B", 1.0, 1.5), ("C", 2.25, 2.5))
    assert segments(words) == [Segment(0.0, 1.5, "A B"), Segment(2.25, 2.5, "C")]


def test_segments_last_at_most_ten_seconds() -> None:
    words = say(*((str(i), i * 1.0, i + 0.9) for i in range(25)))
    assert [(s.start, s.end) for s in segments(words)] == [(0.0, 9.9), (10.0, 19.9), (20.0, 24.9)]


def test_segments_have_at_most_84_characters() -> None:
    lengths = (27, 27, 28, 27, 28, 28, 100)
    words = say(*(("X" * length, i * 0.1, i * 0.1 + 0.1) for i, length in enumerate(lengths)))
    assert [len(segment.text) for segment in segments(words)] == [84, 56, 28, 100]


def test_segments_of_a_language_without_spaces() -> None:
    assert segments(say(("你", 0.0, 0.1), ("好", 0.1, 0.2)), separator="") == [Segment(0.0, 0.2, "你好")]


def test_no_words_no_segments() -> None:
    assert segments([]) == []
