"""Beam search against all paths: texts, language models, hot words, lexicons, pieces, times, bad input."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_decode import CHINESE, ENGLISH, SPACED, Logits, softmax, spoken

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode import beam as beam_module
from littlefoot.decode.align import align
from littlefoot.decode.beam import BeamConfig, BeamDecoder, BeamResult
from littlefoot.decode.greedy import greedy
from littlefoot.decode.hotwords import read_hotwords
from littlefoot.decode.lexicon import Lexicon, read_lexicon
from littlefoot.decode.lookahead import Lookahead
from littlefoot.decode.ngram import BEGIN, END, NGram, estimate
from littlefoot.decode.spans import words
from littlefoot.errors import ConfigError, EngineError, LittlefootError

UNLIMITED = {"beam": 10**6, "token_floor": -math.inf, "score_range": math.inf}
EVERYTHING = BeamConfig(alpha=0.7, beta=0.4, unknown=-1.5, unknown_letter=-0.3, **UNLIMITED)  # type: ignore[arg-type]

SMALL = Vocabulary(("<pad>", "<unk>", "|", "A", "B"))
WORDS = estimate([["A", "B"], ["A", "BA", "A"], ["B"], ["AB", "A", "B"]], order=3)
CHARACTERS = estimate(["A|B", "AB|A", "BA", "A|A|B"], order=3)
HOT = {"AB": 1.0, "a b": 0.5, "B": 0.3, "B A B": 2.0, "BA": 0.8}


def decode(logits: Logits, decoder: BeamDecoder, best: int = 1) -> BeamResult:
    search = decoder.start()
    search.feed(logits)
    return search.finish(best)


def random_logits(seed: int, frames: int, vocabulary: Vocabulary, scale: float = 1.5) -> Logits:
    shape = frames, len(vocabulary.tokens)
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


# All paths


def text_of(path: tuple[int, ...], vocabulary: Vocabulary) -> str:
    """What a path spells, word delimiters as ``|``."""
    silent = {i for i, token in enumerate(vocabulary.tokens) if token[0] in "<["} | {vocabulary.blank}
    merged = [token for token, _ in itertools.groupby(-1 if t in silent else t for t in path) if token >= 0]
    delimiter = vocabulary.word_delimiter
    if delimiter not in vocabulary.tokens:
        return "".join(vocabulary.tokens[token] for token in merged)
    text = "".join(vocabulary.tokens[token] for token in merged)
    return "|".join(word for word in text.split(delimiter) if word)


def all_texts(
    logits: Logits, vocabulary: Vocabulary, added: Callable[[str], float] = lambda text: 0.0
) -> dict[str, float]:
    """The score of every text: the sum over its paths, and what is added."""
    logs = np.log(softmax(logits))
    sums: dict[str, float] = defaultdict(lambda: -math.inf)
    for path in itertools.product(range(len(vocabulary.tokens)), repeat=len(logits)):
        text = text_of(path, vocabulary)
        total = sum(logs[frame, token] for frame, token in enumerate(path))
        sums[text] = float(np.logaddexp(sums[text], total))
    return {text: total + added(text) for text, total in sums.items()}


def assert_the_same(result: BeamResult, expected: dict[str, float]) -> None:
    found = {alternative.text: alternative.score for alternative in result.alternatives}
    finite = {text.replace("|", " "): score for text, score in expected.items() if score > -math.inf}
    assert found == pytest.approx(finite, abs=1e-6)
    scores = [alternative.score for alternative in result.alternatives]
    assert scores == sorted(scores, reverse=True)
    assert " ".join(word.word for word in result.words) == result.alternatives[0].text


def sentence_score(model: NGram, tokens: list[str]) -> float:
    padded = [BEGIN, *tokens, END]
    return sum(model.log_prob(padded[end], padded[:end]) for end in range(1, len(padded)))


def of_words(text: str, listed: Collection[str] = ()) -> float:
    words = text.split("|") if text else []
    unknown = [word for word in words if word not in WORDS.tokens]
    letters = sum(len(word) for word in unknown if word not in listed)
    return 0.7 * sentence_score(WORDS, words) + 0.4 * len(words) - 1.5 * len(unknown) - 0.3 * letters


def of_characters(text: str) -> float:
    words = text.split("|") if text else []
    return 0.7 * sentence_score(CHARACTERS, list(text)) + 0.4 * len(words)


def of_hot_words(text: str, weights: dict[str, float] = HOT) -> float:
    """Every occurrence, as whole words."""
    found = f"|{text}|"
    total = 0.0
    for phrase, weight in weights.items():
        spelled = phrase.upper().replace(" ", "|")
        starts = [i for i in range(len(found)) if found.startswith(f"|{spelled}|", i)]
        total += weight * len(spelled) * len(starts)
    return total


@pytest.mark.parametrize("seed", range(8))
def test_an_unlimited_beam_sums_over_all_paths(seed: int) -> None:
    logits = random_logits(seed, seed % 6, SMALL)
    assert_the_same(decode(logits, BeamDecoder(SMALL, 1.0, EVERYTHING), 10**6), all_texts(logits, SMALL))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("lm", "added"), [(WORDS, of_words), (CHARACTERS, of_characters)])
def test_a_language_model_scores_words_or_characters(
    seed: int, lm: NGram, added: Callable[[str], float]
) -> None:
    logits = random_logits(seed, 5, SMALL)
    decoder = BeamDecoder(SMALL, 1.0, EVERYTHING, lm)
    assert_the_same(decode(logits, decoder, 10**6), all_texts(logits, SMALL, added))


@pytest.mark.parametrize("seed", range(5))
def test_hot_words_add_their_weight_for_every_occurrence_as_whole_words(seed: int) -> None:
    logits = random_logits(seed, 6, SMALL)
    decoder = BeamDecoder(SMALL, 1.0, EVERYTHING, hotwords=HOT)
    assert_the_same(decode(logits, decoder, 10**6), all_texts(logits, SMALL, of_hot_words))


def test_language_model_hot_words_and_lexicon_together() -> None:
    logits = random_logits(0, 6, SMALL)
    decoder = BeamDecoder(SMALL, 1.0, EVERYTHING, WORDS, HOT, Lexicon(["a", "BA", "ABA"], SMALL))

    def added(text: str) -> float:
        if not set(text.split("|")) <= {"", "A", "BA", "ABA"}:
            return -math.inf
        return of_words(text, listed=("A", "BA", "ABA")) + of_hot_words(text)

    assert_the_same(decode(logits, decoder, 10**6), all_texts(logits, SMALL, added))


@pytest.mark.parametrize("seed", range(3))
def test_letters_of_hot_words_cost_nothing_where_a_language_model_lacks_them(seed: int) -> None:
    logits = random_logits(seed, 5, SMALL)
    decoder = BeamDecoder(SMALL, 1.0, EVERYTHING, WORDS, {"ab": 1.0, "BB BAB": 0.5})

    def added(text: str) -> float:
        hot = of_hot_words(text, {"ab": 1.0, "BB BAB": 0.5})
        return of_words(text, listed=("AB", "BB", "BAB")) + hot

    assert_the_same(decode(logits, decoder, 10**6), all_texts(logits, SMALL, added))


def test_without_a_word_delimiter_every_token_is_a_word() -> None:
    lm = estimate(["你好", "好", "你你好"], order=2)
    logits = random_logits(1, 5, CHINESE)
    decoder = BeamDecoder(CHINESE, 1.0, EVERYTHING, lm, {"你好": 0.5, "好好你": 1.0, "好": 0.2})

    def added(text: str) -> float:
        hot = sum(
            weight * len(phrase) * sum(text.startswith(phrase, i) for i in range(len(text)))
            for phrase, weight in (("你好", 0.5), ("好好你", 1.0), ("好", 0.2))
        )
        return 0.7 * sentence_score(lm, list(text)) + 0.4 * len(text) + hot

    found = decode(logits, decoder, 10**6).alternatives
    expected = all_texts(logits, CHINESE, added)
    assert {each.text: each.score for each in found} == pytest.approx(expected, abs=1e-6)


def test_the_delimiter_may_be_a_space_and_the_blank_anywhere() -> None:
    logits = random_logits(2, 5, SPACED)
    lm = estimate(["a|b", "ba"], order=2)
    decoder = BeamDecoder(SPACED, 1.0, EVERYTHING, lm)

    def added(text: str) -> float:
        return 0.7 * sentence_score(lm, list(text)) + 0.4 * len(text.split("|") if text else [])

    expected = all_texts(logits, SPACED, added)
    found = decode(logits, decoder, 10**6).alternatives
    assert {each.text.replace(" ", "|"): each.score for each in found} == pytest.approx(expected, abs=1e-6)


# A limited beam


@pytest.mark.parametrize("beam", [1, 4, 32])
def test_clear_speech_needs_no_wide_beam(beam: int) -> None:
    logits = spoken("__AA_A_||_?BB_C__|_CA__", confidence=0.95)
    result = decode(logits, BeamDecoder(ENGLISH, 0.02, BeamConfig(beam=beam)))
    assert result.alternatives[0].text == greedy(logits, ENGLISH, 0.02).text == "AA BC CA"
    assert len(result.alternatives) == 1


def test_a_wider_beam_finds_no_less_likely_text() -> None:
    logits = random_logits(3, 200, ENGLISH, scale=1.0)
    scores = [
        decode(logits, BeamDecoder(ENGLISH, 0.02, BeamConfig(beam=beam), hotwords={"ab": 1.0}))
        .alternatives[0]
        .score
        for beam in (1, 8, 64)
    ]
    assert scores == sorted(scores)


def test_looking_ahead_in_words_finds_likelier_texts_in_a_narrow_beam(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    letters = Vocabulary(("<pad>", "|", *"ABCDE"))
    lm = estimate([["ABC", "ADE"], ["BEAD", "CAB"], ["DEAD", "BED"]], order=2)
    config = BeamConfig(beam=3, alpha=1.0, beta=1.0, unknown=-8.0)

    def found() -> list[float]:
        decoder = BeamDecoder(letters, 0.02, config, lm)
        return [decode(random_logits(seed, 12, letters), decoder).alternatives[0].score for seed in range(40)]

    ahead = found()
    monkeypatch.setattr(NGram, "words", lambda model: ())
    without = found()
    gained = np.array(ahead) - np.array(without)
    assert gained.mean() > 1
    assert np.count_nonzero(gained > 1e-6) > 2 * np.count_nonzero(gained < -1e-6)


def test_a_begun_word_gains_what_the_best_word_that_begins_so_gains() -> None:
    gains = {"BED": -1.0, "BEAD": -3.0, "CAB": -2.0, "BE": -5.0}
    ahead = Lookahead(gains, unknown=-4.0)
    for prefix in ("B", "BE", "BEA", "BEAD", "BED", "C", "CA", "X", "BEADS", "BA"):
        known = [gain for word, gain in gains.items() if word.startswith(prefix)]
        assert ahead(prefix) == max([*known, -4.0])
    assert ahead("") == 0


def test_the_best_texts_are_different_and_in_order() -> None:
    logits = random_logits(4, 30, ENGLISH)
    found = decode(logits, BeamDecoder(ENGLISH, 0.02), best=5).alternatives
    assert len({each.text for each in found}) == 5
    assert [each.score for each in found] == sorted((each.score for each in found), reverse=True)


@settings(max_examples=30, deadline=None)
@given(cuts=st.lists(st.integers(0, 120), max_size=6), seed=st.integers(0, 100))
def test_pieces_of_any_size_give_what_the_whole_gives(cuts: list[int], seed: int) -> None:
    logits = random_logits(seed, 120, SMALL, scale=3)
    decoder = BeamDecoder(SMALL, 0.02, BeamConfig(beam=8), WORDS, HOT)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam_module, "COMMIT_FRAMES", 25)
        whole = decode(logits, decoder, best=3)
        search = decoder.start()
        for piece in np.split(logits, sorted(cuts)):
            search.feed(piece)
        assert search.finish(best=3) == whole


def test_partial_texts_grow_into_the_result() -> None:
    logits = spoken("_A_B_|_CC_|__A_")
    search = BeamDecoder(ENGLISH, 0.02).start()
    seen = [search.partial()]
    for frame in logits:
        search.feed(frame[None])
        seen.append(search.partial())
    assert [text for text, _ in itertools.groupby(seen)] == ["", "A", "AB", "AB C", "AB C A"]
    assert search.finish().alternatives[0].text == "AB C A"


@pytest.mark.parametrize("seed", range(3))
def test_what_is_settled_leaves_the_search_and_changes_nothing(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(seed)
    frames = "".join(generator.choice(list("ABC|_"), 1000, p=[0.1, 0.1, 0.1, 0.2, 0.5]))
    logits = spoken(frames, confidence=0.8)
    logits += generator.normal(scale=0.5, size=logits.shape).astype(np.float32)
    decoder = BeamDecoder(ENGLISH, 0.02, hotwords={"CAB": 0.5})
    monkeypatch.setattr(beam_module, "COMMIT_FRAMES", 10**6)
    expected = decode(logits, decoder)
    monkeypatch.setattr(beam_module, "COMMIT_FRAMES", 50)
    search = decoder.start()
    longest = 0
    for frame in logits:
        search.feed(frame[None])
        longest = max(longest, len(search.rows))
    assert longest < 500
    assert len(search.words) > 50
    settled = list(search.words)
    found = search.finish()
    assert found.words[: len(settled)] == settled
    assert found.alternatives[0].text == expected.alternatives[0].text
    assert found.alternatives[0].score == pytest.approx(expected.alternatives[0].score)
    assert [word.word for word in found.words] == [word.word for word in expected.words]
    np.testing.assert_allclose(
        [(w.start, w.end, w.confidence) for w in found.words],
        [(w.start, w.end, w.confidence) for w in expected.words],
    )


# Words


def test_times_and_confidence_are_those_of_forced_alignment() -> None:
    logits = spoken("__AA_B__|CC_", confidence=0.7)
    logits[9, ENGLISH.tokens.index("A")] += 1
    lm = estimate([["AB", "A"]] * 5, order=2)
    found = decode(logits, BeamDecoder(ENGLISH, 0.5, BeamConfig(alpha=3.0), lm))
    assert found.alternatives[0].text == "AB A"
    tokens = [ENGLISH.tokens.index(token) for token in "AB|A"]
    expected = words(align(logits, tokens, ENGLISH), ENGLISH, 0.5)
    assert [(w.word, w.start, w.end) for w in found.words] == [(w.word, w.start, w.end) for w in expected]
    confidences = [word.confidence for word in expected]
    assert [word.confidence for word in found.words] == pytest.approx(confidences, rel=1e-5)
    assert found.words[1].confidence < 0.1  # the model heard C


# Hot words


def test_a_hot_word_wins_where_it_was_nearly_as_likely() -> None:
    logits = spoken("_A_B_|_C_")
    a, c = (ENGLISH.tokens.index(token) for token in "AC")
    logits[6 + 1, a] = logits[6 + 1, c] - 0.5
    assert decode(logits, BeamDecoder(ENGLISH, 0.02)).alternatives[0].text == "AB C"
    hot = BeamDecoder(ENGLISH, 0.02, hotwords={"ab a": 0.2})
    assert decode(logits, hot).alternatives[0].text == "AB A"
    assert decode(spoken("_C_C_"), hot).alternatives[0].text == "CC"


@pytest.mark.parametrize("weight", [0.5, 1.0])
@pytest.mark.parametrize("phrases", [["A B"], ["B C", "A"], ["ABCA", "BCC"], ["A B C", "B"]])
def test_hot_words_never_join_words(weight: float, phrases: list[str]) -> None:
    decoder = BeamDecoder(ENGLISH, 0.02, hotwords=dict.fromkeys(phrases, weight))
    for frames in ("_A_|_B_|_C_", "AA|BB|CC", "A_||_B|C__|"):
        assert decode(spoken(frames, confidence=0.9), decoder).alternatives[0].text == "A B C"


def test_a_hot_word_in_another_word_earns_nothing() -> None:
    hot, plain = BeamDecoder(ENGLISH, 0.02, hotwords={"AB": 1.0}), BeamDecoder(ENGLISH, 0.02)
    for frames, times in (("_A_B_C", 0), ("CAB", 0), ("CA|B", 0), ("AB|C", 1), ("C|AB", 1), ("AB|AB", 2)):
        earned = (
            decode(spoken(frames), hot).alternatives[0].score
            - decode(spoken(frames), plain).alternatives[0].score
        )
        assert earned == pytest.approx(times * 2 * 1.0, abs=1e-6)


def test_hot_words_are_read_with_and_without_weights(tmp_path: Path) -> None:
    path = tmp_path / "hot.txt"
    path.write_bytes("\ufeffab c\t2.5\r\n\r\nCab\n".encode())
    assert read_hotwords(path, ENGLISH, weight=0.7) == {"ab c": 2.5, "Cab": 0.7}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"AB\nxylo\n", r"line 2: hot word 'xylo' holds characters outside of .* alphabet: 'l' 'o' 'x' 'y'"),
        (b"AB\theavy\n", r"line 1: the weight 'heavy' is not a number"),
        (b"AB\t\n", r"line 1: the weight '' is not a number"),
        (b"AB\t-1\n", r"line 1: hot word 'AB': the weight -1.0 is not a number above 0"),
        (b"AB\tnan\n", r"the weight nan is not a number above 0"),
        (b"\t1\n", r"line 1: a hot word is empty"),
        (b"\xff\xfe\n", r"line 1: is not UTF-8"),
        (b"\n \n", r"hot\.txt: is empty"),
    ],
)
def test_useless_hot_words_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "hot.txt").write_bytes(content)
    with pytest.raises(LittlefootError, match=message):
        read_hotwords(tmp_path / "hot.txt", ENGLISH)


# Lexicons


def test_only_words_of_the_lexicon_come_out(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("ab\ncab\nzoo\n\nACC\n")
    decoder = BeamDecoder(ENGLISH, 0.02, lexicon=read_lexicon(tmp_path / "words.txt", ENGLISH))
    for seed in range(20):
        found = decode(random_logits(seed, 60, ENGLISH, scale=3), decoder, best=10)
        for alternative in found.alternatives:
            assert set(alternative.text.split()) <= {"AB", "CAB", "ACC"}
        assert found.alternatives[0].text == " ".join(word.word for word in found.words)


def test_a_word_that_is_not_finished_is_left_out() -> None:
    decoder = BeamDecoder(ENGLISH, 0.02, lexicon=Lexicon(["AB", "CCC"], ENGLISH))
    assert decode(spoken("_AB_|_C_C_", confidence=0.999), decoder).alternatives[0].text == "AB"


def test_useless_lexicons_are_refused(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("HELLO\nWORLD\n")
    with pytest.raises(ConfigError, match=r"words\.txt: 2 of its 2 words need characters such as 'L' 'O'"):
        read_lexicon(tmp_path / "words.txt", ENGLISH)
    with pytest.raises(LittlefootError, match=r"none\.txt: cannot be read"):
        read_lexicon(tmp_path / "none.txt", ENGLISH)
    with pytest.raises(ConfigError, match="an alphabet with a word delimiter"):
        Lexicon(["你"], CHINESE)
    with pytest.raises(ConfigError, match="no word that the alphabet can spell"):
        Lexicon(["HELLO"], ENGLISH)


# Bad input


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beam": 0}, "a beam of 0 is impossible"),
        ({"alpha": math.nan}, "alpha nan"),
        ({"alpha": -0.1}, "alpha -0.1 is impossible"),
        ({"beta": math.inf}, "beta inf"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BeamConfig(**settings)  # type: ignore[arg-type]


def test_logits_that_do_not_fit_are_refused() -> None:
    search = BeamDecoder(ENGLISH, 0.02).start()
    with pytest.raises(EngineError, match="do not fit a vocabulary"):
        search.feed(np.zeros((3, 4), np.float32))
    with pytest.raises(EngineError, match="NaN or infinite"):
        search.feed(np.full((3, 9), np.nan, np.float32))


def test_nothing_said_is_an_empty_text() -> None:
    for frames in ("", "___", "||_|", "??"):
        decoder = BeamDecoder(ENGLISH, 0.02, lm=WORDS, hotwords=HOT)
        result = decode(spoken(frames, confidence=0.999), decoder)
        assert (result.words, result.alternatives[0].text) == ([], "")


def test_masked_tokens_never_come_out_and_a_masked_blank_is_survived() -> None:
    logits = spoken("A_B_|_C")
    logits[:, 5] = -np.inf
    text = decode(logits, BeamDecoder(ENGLISH, 0.02)).alternatives[0].text
    assert "A" not in text
    logits[:, ENGLISH.blank] = -np.inf
    assert decode(logits, BeamDecoder(ENGLISH, 0.02, lexicon=Lexicon(["BC"], ENGLISH))).alternatives
