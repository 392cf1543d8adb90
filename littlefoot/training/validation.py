"""Measure the dev loss and word errors of a model during training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import SAMPLE_RATE, pcm, reading
from littlefoot.audio.manifest import Utterance
from littlefoot.errors import LittlefootError
from littlefoot.evaluate.metrics import evaluate
from littlefoot.training.data import pad
from littlefoot.training.module import CTCModel, MakeOps
from littlefoot.training.objective import ctc_loss
from littlefoot.training.pronunciations import spelling
from littlefoot.training.torch_ops import TorchOps


def mean_wer(wer: Mapping[str, float]) -> float:
    """Mean over the sets, each counting the same whatever its size."""
    return float(np.mean(list(wer.values())))


@dataclass
class DevScore:
    loss: float
    """Nats per character over all sets."""
    wer: dict[str, float] = field(default_factory=dict)
    """Word error rates by set."""
    cer: dict[str, float] = field(default_factory=dict)
    """Character error rates by set."""

    @property
    def mean_wer(self) -> float:
        return mean_wer(self.wer)


class DevSet:
    """The dev utterances, decoded once and kept in memory as 16-bit samples."""

    def __init__(
        self,
        utterances: Sequence[Utterance],
        vocabulary: Vocabulary,
        do_normalize: bool,
        batch_seconds: float,
        lexicon: str | None = None,
    ) -> None:
        """If there is a lexicon, ``wer`` counts its phones instead of words."""
        self.vocabulary, self.do_normalize = vocabulary, do_normalize
        self.spelling, self.spoken = spelling(vocabulary, lexicon), lexicon is not None
        self.skipped = 0
        rows = []
        for utterance in utterances:
            try:
                samples = reading.read(utterance.path)
            except LittlefootError:
                self.skipped += 1
                continue
            rows.append((utterance, pcm.to_int16(samples)))
        rows.sort(key=lambda row: len(row[1]))
        self._batches: list[list[tuple[Utterance, npt.NDArray[np.int16]]]] = [[]]
        for row in rows:
            if self._batches[-1] and len(row[1]) * len(self._batches[-1]) > batch_seconds * SAMPLE_RATE:
                self._batches.append([])
            self._batches[-1].append(row)
        self.size = len(rows)

    @torch.no_grad()
    def score(
        self,
        model: CTCModel,
        autocast: Callable[[], AbstractContextManager[None]],
        make_ops: MakeOps = TorchOps,
    ) -> DevScore:
        """Decode every dev utterance greedily and score it; the model is left in evaluation mode."""
        model.eval()
        device = next(model.parameters()).device
        loss, characters = 0.0, 0
        pairs: dict[str, tuple[list[str], list[str]]] = {}
        for batch in self._batches:
            waveforms = [pcm.to_float(samples) for _, samples in batch]
            lengths = torch.tensor([len(waveform) for waveform in waveforms], device=device)
            if self.do_normalize:
                waveforms = [reading.normalize(waveform) for waveform in waveforms]
            with autocast():
                logits, frames = model(
                    torch.from_numpy(pad(waveforms)).to(device), lengths, make_ops=make_ops
                )
            targets = [self._targets(utterance.text) for utterance, _ in batch]
            flat = torch.tensor([token for tokens in targets for token in tokens], device=device)
            target_lengths = torch.tensor([len(tokens) for tokens in targets], device=device)
            mean = ctc_loss(logits, frames, flat, target_lengths, self.vocabulary.blank)
            loss += float(mean) * int(target_lengths.sum())
            characters += int(target_lengths.sum())
            best = logits.argmax(-1).cpu().numpy()
            for (utterance, _), ids, count in zip(batch, best, frames.tolist(), strict=True):
                references, hypotheses = pairs.setdefault(utterance.set_name, ([], []))
                best_path = merged(ids[:count], self.vocabulary.blank)
                references.append(self._reference(utterance.text))
                hypotheses.append(self._shown(best_path))
        score = DevScore(loss / max(characters, 1))
        for name, (references, hypotheses) in sorted(pairs.items()):
            result = evaluate(references, hypotheses)
            score.wer[name], score.cer[name] = result.wer, result.cer
        return score

    def _targets(self, text: str) -> list[int]:
        """Return nothing for a text outside the alphabet: it counts in the word errors, not in the loss."""
        return [] if self.spelling.unknown(text) else self.spelling.encode(text)

    def _reference(self, text: str) -> str:
        return self._shown(self._targets(text)) if self.spoken else text

    def _shown(self, tokens: list[int]) -> str:
        """Tokens as a text whose words are counted."""
        if self.spoken:
            return " ".join(self.vocabulary.tokens[token] for token in tokens)
        return self.vocabulary.decode(tokens)


def merged(best: npt.NDArray[np.int64], blank: int) -> list[int]:
    """Merge the best tokens of frames (F,): repeats become one, blanks are dropped."""
    tokens = best[np.flatnonzero(np.diff(best, prepend=-1))]
    return tokens[tokens != blank].tolist()  # type: ignore[no-any-return]
