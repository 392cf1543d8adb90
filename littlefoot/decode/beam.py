"""CTC prefix beam search with language models, hot words and lexicons, frame by frame.

Graves and Jaitly, "Towards end-to-end speech recognition with recurrent neural networks", ICML 2014, section
3.2; Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent
DNNs", 2014, algorithm 1. The score of a text is

    ln P(text | speech) + alpha ln P(text) + beta words + unknown unknown words + unknown_letter their letters
    + hot words

where P(text | speech) sums over all alignments, and P(text) is the language model's, which is added when a
word ends (at every character, if it is a model of characters). Word delimiters at the ends and repeated ones
do not count: alignments that differ only in them are alignments of one text. Special tokens count as blanks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.align import align, frames_needed
from littlefoot.decode.fusion import BEAM, Context, TokenFusion, WordFusion
from littlefoot.decode.hotwords import HotWords
from littlefoot.decode.lexicon import Lexicon
from littlefoot.decode.lm import DELIMITER, LanguageModel
from littlefoot.decode.spans import Spans, checked, log_softmax, words
from littlefoot.errors import ConfigError
from littlefoot.transcript.results import Alternative, Word

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

COMMIT_FRAMES = 250
"""Number of frames after which the words that all hypotheses share leave the search, to bound its memory."""
_NO_BLANK = -100.0
"""Least log posterior of a blank, so that every hypothesis can continue at every frame."""


@dataclass(frozen=True)
class BeamConfig:
    """Settings of the search. All scores are natural logarithms."""

    beam: int | None = None
    """Number of hypotheses that survive each frame; None: 128 with a language model of words, else 32."""
    alpha: float | None = None
    """Weight of the language model; None: the default of its kind (``littlefoot.decode.fusion``)."""
    beta: float | None = None
    """Added for each word, to compensate for the cost of each in a model of words; None as for alpha."""
    unknown: float = -1.0
    """Added for each word (character) that is not in the language model."""
    unknown_letter: float = -0.5
    """Added for each letter of a word that neither a language model of words nor the hot words contain;
    nothing is added if there is a lexicon."""
    token_floor: float = -7.0
    """Tokens with a smaller log posterior in a frame do not extend hypotheses in that frame."""
    score_range: float = 14.0
    """Hypotheses whose score is lower than the best by more than this are dropped."""

    def __post_init__(self) -> None:
        if self.beam is not None and self.beam < 1:
            raise ConfigError(
                f"a beam of {self.beam} is impossible: it is a number of hypotheses, at least 1"
            )
        for name in ("alpha", "beta", "unknown", "unknown_letter"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and (name != "alpha" or value >= 0)):
                raise ConfigError(f"{name} {value} is impossible: it is a finite number, alpha at least 0")


class BeamDecoder:
    """The parts that all searches of a recogniser share. Make one and use it for any number of recordings."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        frame_seconds: float,
        config: BeamConfig | None = None,
        lm: LanguageModel | None = None,
        hotwords: Mapping[str, float] | None = None,
        lexicon: Lexicon | None = None,
    ) -> None:
        """
        Args:
            vocabulary: V tokens.
            frame_seconds: duration of a frame.
            config: settings; the defaults if None.
            lm: a model of words or of characters, for this alphabet (see ``littlefoot.decode.lm.load``).
            hotwords: phrases with their weights, natural logarithms per character.
            lexicon: the words of which texts may consist, for this alphabet.

        Raises:
            ConfigError: hot words cannot be spelled in the alphabet, or it consists of pieces.
        """
        if vocabulary.merges is not None and (lm is not None or hotwords or lexicon is not None):
            raise ConfigError(
                "language models, hot words and lexicons need an alphabet of letters, but this model's "
                "tokens are pieces of words: leave them out"
            )
        self.vocabulary = vocabulary
        self.frame_seconds = frame_seconds
        self.config = config or BeamConfig()
        self.hotwords = HotWords(hotwords, vocabulary) if hotwords else None
        self.fusion: WordFusion | TokenFusion | None = None
        if lm is not None:
            settings = lm, vocabulary, self.config.alpha, self.config.beta, self.config.unknown
            if vocabulary.delimiter >= 0 and DELIMITER not in lm:
                letter = self.config.unknown_letter if lexicon is None else 0.0
                listed = self.hotwords.words if self.hotwords else ()
                self.fusion = WordFusion(*settings, unknown_letter=letter, listed=listed)
            else:
                self.fusion = TokenFusion(*settings)
        self.beam = self.config.beam or (self.fusion.BEAM if self.fusion else BEAM)
        self.lexicon = lexicon
        self.delimiter = vocabulary.delimiter
        silent = zip(vocabulary.written, vocabulary.begins, strict=True)
        self.special = np.array([not (text or begins) for text, begins in silent])
        self.special[vocabulary.blank] = False

    def start(self) -> "BeamSearch":
        """Begin the search in a recording."""
        return BeamSearch(self)

    def posteriors(self, logits: NDArray[np.floating]) -> Floats:
        """Return the log posteriors of logits, (F, V) each, with special tokens added to the blank."""
        log_posteriors = log_softmax(checked(logits, self.vocabulary))
        blank = self.vocabulary.blank
        for token in np.flatnonzero(self.special):
            log_posteriors[:, blank] = np.logaddexp(log_posteriors[:, blank], log_posteriors[:, token])
        log_posteriors[:, self.special] = -np.inf
        log_posteriors[:, blank] = np.maximum(log_posteriors[:, blank], _NO_BLANK)
        return log_posteriors


class BeamResult(NamedTuple):
    """The result of a search."""

    words: list[Word]
    """Words of the best text, with times from the beginning of the first frame."""
    alternatives: list[Alternative]
    """The best texts, best first; the first is the result."""


Node = tuple["Node", int] | None
"""The last token of a prefix, and the node of the tokens before it."""


class BeamSearch:
    """The search in one recording: feed it frames in pieces of any size, then finish.

    The result does not depend on the pieces. Hypotheses are prefixes without blanks; there are B of them.
    """

    def __init__(self, decoder: BeamDecoder) -> None:
        self._decoder = decoder
        self.words: list[Word] = []
        """Words that all hypotheses share and that will not change any more."""
        self._frames = 0  # before the first row
        self.rows: list[Floats] = []  # (V,) log posteriors of each frame behind the words
        self._blank = np.zeros(1)  # (B,) log probability of all paths to a prefix that end in a blank
        self._spoken = np.full(1, -np.inf)  # log probability of those that end in the last token
        self._gained = np.zeros(1)  # scores of language model and hot words
        # The empty prefix counts as ended by a delimiter: another changes nothing.
        blank = decoder.vocabulary.blank
        self._last = np.array([decoder.delimiter if decoder.delimiter >= 0 else blank])
        self._key = np.zeros(1, np.uint64)  # a hash of the prefix
        self._parent = np.ones(1, np.uint64)  # the hash without its last token
        self._hot = np.zeros(1, np.int64)  # state of the hot words
        self._entry = np.zeros(1, np.int64)  # node of the lexicon
        self._nodes: list[Node] = [None]
        self._contexts: list[Context] = [decoder.fusion.begin() if decoder.fusion else (None, None)]

    def feed(self, logits: NDArray[np.floating]) -> None:
        """Continue the search.

        Args:
            logits: (F, V), before softmax; the frames after those of the last call.

        Raises:
            EngineError: the logits do not fit the vocabulary or are not finite.
        """
        if not len(logits):
            return
        log_posteriors = self._decoder.posteriors(logits)
        open_tokens = log_posteriors >= self._decoder.config.token_floor
        open_tokens[:, self._decoder.special] = False
        open_tokens[:, self._decoder.vocabulary.blank] = False
        for row, is_open in zip(log_posteriors, open_tokens, strict=True):
            self.rows.append(row)
            self._step(row, np.flatnonzero(is_open))
            if (self._frames + len(self.rows)) % COMMIT_FRAMES == 0:
                self._commit()

    def partial(self) -> str:
        """Return the best text so far; its last word may be incomplete."""
        best = int((np.logaddexp(self._blank, self._spoken) + self._gained).argmax())
        return self._text(_tokens(self._nodes[best]))

    def finish(self, best: int = 1) -> BeamResult:
        """End the recording and return its text.

        Args:
            best: largest number of texts to return; there may be fewer.
        """
        chains = [_tokens(node) for node in self._nodes]
        totals = np.logaddexp(self._blank, self._spoken) + self._gained + self._finish()
        if np.isneginf(totals).all():  # no text ends with a complete word of the lexicon
            chains = [self._without_last_word(chain) for chain in chains]
            totals = np.logaddexp(self._blank, self._spoken) + self._gained
        scores: dict[tuple[int, ...], float] = {}
        for chain, total in zip(chains, totals.tolist(), strict=True):
            tokens = tuple(chain[:-1] if chain[-1:] == [self._decoder.delimiter] else chain)
            scores[tokens] = float(np.logaddexp(scores.get(tokens, -np.inf), total))
        ranked = sorted(scores, key=lambda tokens: (-scores[tokens], tokens))
        alternatives = [
            Alternative(self._text(tokens), scores[tokens])
            for tokens in ranked[:best]
            if np.isfinite(scores[tokens])
        ]
        return BeamResult(self.words + self._words(self._align(ranked[0])), alternatives)

    def _step(self, row: Floats, tokens: Integers) -> None:
        """Search one frame: ``row`` (V,) log posteriors, ``tokens`` (K,) those that may extend prefixes."""
        decoder = self._decoder
        count = len(self._blank)
        total = np.logaddexp(self._blank, self._spoken)
        delimited = self._last == decoder.delimiter
        blank = total + row[decoder.vocabulary.blank]
        spoken = np.where(delimited, total, self._spoken) + row[self._last]
        if not len(tokens):
            self._blank, self._spoken = blank, spoken
            return

        # (B, K) extensions; to repeat a token takes a blank between
        repeated = np.where(delimited, -np.inf, self._blank)
        same = self._last[:, None] == tokens
        extended = np.where(same, repeated[:, None], total[:, None]) + row[tokens]
        # An extension that is a prefix of the beam already adds to it.
        parents, children = np.nonzero(self._key[:, None] == self._parent)
        if len(children):
            last = self._last[children]
            again = last == self._last[parents]
            arriving = np.where(again, repeated[parents], total[parents]) + row[last]
            spoken[children] = np.logaddexp(spoken[children], arriving)
            columns = tokens.searchsorted(last)
            columns[columns == len(tokens)] = 0
            there = tokens[columns] == last
            extended[parents[there], columns[there]] = -np.inf

        gains = self._gains(tokens)
        scores = np.concatenate(
            (
                np.logaddexp(blank, spoken) + self._gained,
                (extended + (self._gained[:, None] + gains)).ravel(),
            )
        )
        kept = np.flatnonzero(scores > scores.max() - decoder.config.score_range)
        if len(kept) > decoder.beam:
            kept = np.sort(kept[np.argpartition(-scores[kept], decoder.beam - 1)[: decoder.beam]])
        stay = kept[: kept.searchsorted(count)]
        origin, column = np.divmod(kept[len(stay) :] - count, len(tokens))
        if len(stay) < count or len(origin):
            self._select(stay, origin, tokens[column], gains[origin, column])
        self._blank = np.concatenate((blank[stay], np.full(len(origin), -np.inf)))
        self._spoken = np.concatenate((spoken[stay], extended[origin, column]))

    def _gains(self, tokens: Integers) -> Floats:
        """Return the scores (B, K) that tokens (K,) add to prefixes; -inf where the lexicon forbids them."""
        decoder = self._decoder
        if decoder.fusion is None:
            gains = np.zeros((len(self._blank), len(tokens)))
        else:
            gains = decoder.fusion.gains(self._contexts, tokens)
        if decoder.hotwords is not None:
            gains += decoder.hotwords.gain(self._hot, tokens)
        if decoder.lexicon is not None:
            gains[decoder.lexicon.follow(self._entry[:, None], tokens) < 0] = -np.inf
        return gains

    def _select(self, stay: Integers, origin: Integers, tokens: Integers, gains: Floats) -> None:
        """Keep prefixes (S,) as they are, and others (E,) extended by a token each, which gained (E,)."""
        decoder = self._decoder
        parent = self._key[origin]
        self._key = np.concatenate((self._key[stay], _hash(parent, tokens)))
        self._parent = np.concatenate((self._parent[stay], parent))
        self._last = np.concatenate((self._last[stay], tokens))
        self._gained = np.concatenate((self._gained[stay], self._gained[origin] + gains))
        nodes, contexts = self._nodes, self._contexts
        kept, new = stay.tolist(), list(zip(origin.tolist(), tokens.tolist(), strict=True))
        self._nodes = [nodes[i] for i in kept] + [(nodes[i], token) for i, token in new]
        if decoder.fusion is not None:
            follow = decoder.fusion.follow
            self._contexts = [contexts[i] for i in kept] + [follow(contexts[i], token) for i, token in new]
        if decoder.hotwords is not None:
            after = decoder.hotwords.follow(self._hot[origin], tokens)
            self._hot = np.concatenate((self._hot[stay], after))
        if decoder.lexicon is not None:
            after = decoder.lexicon.follow(self._entry[origin], tokens)
            self._entry = np.concatenate((self._entry[stay], after))

    def _finish(self) -> Floats:
        """Return the scores (B,) that are added where texts end; -inf for incomplete words of the lexicon."""
        decoder = self._decoder
        gains = np.zeros(len(self._blank))
        if decoder.fusion is not None:
            gains += [decoder.fusion.finish(context) for context in self._contexts]
        if decoder.hotwords is not None:
            gains += decoder.hotwords.finish(self._hot)
        if decoder.lexicon is not None:
            ends = decoder.lexicon.follow(self._entry, np.array(decoder.delimiter)) == 0
            gains[~ends & (self._entry != 0)] = -np.inf
        return gains

    def _commit(self) -> None:
        """Remove the words that all prefixes share, as aligned on the best of them, and their frames."""
        chains = [_tokens(node) for node in self._nodes]
        shared = next(
            (place for place, column in enumerate(zip(*chains, strict=False)) if len(set(column)) > 1),
            min(map(len, chains)),
        )
        best = int((np.logaddexp(self._blank, self._spoken) + self._gained).argmax())
        spans = self._align(chains[best])
        for cut in range(shared, 0, -1):
            end = int(spans.ends[cut - 1])
            if self._ends_word(chains, cut) and all(
                frames_needed(chain[cut:]) <= len(self.rows) - end for chain in chains
            ):
                break
        else:
            return
        self.words += self._words(spans.first(cut))
        self.rows = self.rows[end:]
        self._frames += end
        self._nodes = [_node(chain[cut:]) for chain in chains]

    def _ends_word(self, chains: Sequence[Sequence[int]], cut: int) -> bool:
        """Return True if the first tokens of all prefixes, which are the same, end with a word."""
        vocabulary = self._decoder.vocabulary
        if vocabulary.merges is not None:
            return all(len(chain) > cut and vocabulary.begins[chain[cut]] for chain in chains)
        return vocabulary.delimiter in (-1, chains[0][cut - 1])

    def _align(self, tokens: Sequence[int]) -> Spans:
        size = len(self._decoder.vocabulary.tokens)
        return align(np.array(self.rows).reshape(-1, size), tokens, self._decoder.vocabulary)

    def _words(self, spans: Spans) -> list[Word]:
        seconds = self._decoder.frame_seconds
        return words(spans, self._decoder.vocabulary, seconds, self._frames * seconds)

    def _text(self, tokens: Sequence[int]) -> str:
        """Return the text of all words, followed by tokens."""
        vocabulary = self._decoder.vocabulary
        return vocabulary.join([*(word.word for word in self.words), *vocabulary.words(tokens)])

    def _without_last_word(self, tokens: list[int]) -> list[int]:
        while tokens and tokens[-1] != self._decoder.delimiter:
            tokens = tokens[:-1]
        return tokens


def _tokens(node: Node) -> list[int]:
    tokens = []
    while node is not None:
        node, token = node
        tokens.append(token)
    return tokens[::-1]


def _node(tokens: Sequence[int]) -> Node:
    node: Node = None
    for token in tokens:
        node = (node, token)
    return node


def _hash(prefix: NDArray[np.uint64], tokens: Integers) -> NDArray[np.uint64]:
    """Hash prefixes, each extended by a token; mixed as in splitmix64 (Steele et al., OOPSLA 2014)."""
    mixed = (prefix ^ (tokens.astype(np.uint64) + np.uint64(1))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
