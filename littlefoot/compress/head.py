"""Train a CTC head for an encoder that does not change, on hidden states that are computed once."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from littlefoot.artifact import Artifact
from littlefoot.compress.methods import StepContext
from littlefoot.network.config import ModelConfig
from littlefoot.system.checks import Checked, PositiveFloat, PositiveInt
from littlefoot.training.data import TrainingSet
from littlefoot.training.devices import precision
from littlefoot.training.module import CTCModel
from littlefoot.training.objective import ctc_loss
from littlefoot.training.train_config import TrainConfig

_BATCH = 16


@dataclass(frozen=True)
class HeadConfig(Checked):
    """Settings of the head's training."""

    section = "head."

    seconds: PositiveFloat = 2000.0
    """Seconds of speech that are encoded, drawn from all sets."""
    epochs: PositiveInt = 30
    """Passes over this speech."""
    lr: PositiveFloat = 5e-3
    """Peak learning rate, with a cosine decay to zero."""
    seed: int = 0


def infer_shape(model: ModelConfig, config: HeadConfig) -> ModelConfig:
    """Return the configuration unchanged."""
    return model


def make_head(model: Artifact, config: HeadConfig, step: StepContext) -> Artifact:
    """Train ``lm_head`` from scratch and change nothing else. Raises TrainingError without usable speech."""
    if step.untrained:
        return model
    network = CTCModel.from_artifact(model).eval()
    states = _states(network, config, step)
    step.progress(f"a head for {sum(len(x) for x, _ in states)} frames of {len(states)} utterances")
    head = _train(states, network, config)
    weights = {**model.weights}
    for leaf, value in head.state_dict().items():
        weights[f"lm_head.{leaf}"] = value.numpy()
    return Artifact(model.config, weights, model.vocabulary, model.preprocessor, model.card)


@torch.no_grad()
def _states(network: CTCModel, config: HeadConfig, step: StepContext) -> list[tuple[Tensor, list[int]]]:
    """Return the head's inputs (F, D) and the tokens, for utterances drawn from the speech."""
    rows = step.speech().of_split("train")
    do_normalize = bool(network.preprocessor.get("do_normalize", True))
    train = TrainConfig(speeds=[1.0], gain_db=0.0, time_mask_fraction=0.0, feature_mask_fraction=0.0)
    data = TrainingSet(rows, network.vocabulary, network.config, train, do_normalize)
    norm = nn.LayerNorm(network.config.hidden_size, network.config.layer_norm_eps)
    norm.load_state_dict(
        {leaf: network.get_parameter(f"encoder.layer_norm.{leaf}") for leaf in ("weight", "bias")}
    )
    reduced = precision(train) == "bf16"
    states: list[tuple[Tensor, list[int]]] = []
    seconds = 0.0
    epoch = data.epoch(1)
    for number in np.random.default_rng(config.seed).permutation(len(epoch)):
        if seconds >= config.seconds:
            break
        batch = data.load(1, epoch[int(number)])
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            output = network.encode(batch.waveforms, batch.lengths)
        hidden = output.hidden_states[-1].float()
        if network.config.do_stable_layer_norm:
            hidden = norm(hidden)
        assert output.frame_lengths is not None  # lengths were given
        tokens = iter(batch.targets.tolist())
        sizes = zip(output.frame_lengths.tolist(), batch.target_lengths.tolist(), strict=True)
        for row, (frames, count) in zip(hidden, sizes, strict=True):
            states.append((row[:frames].clone(), list(itertools.islice(tokens, count))))
        seconds += batch.seconds
    return states


def _train(states: list[tuple[Tensor, list[int]]], network: CTCModel, config: HeadConfig) -> nn.Linear:
    """Train the head with Adam on batches of utterances in random order."""
    torch.manual_seed(config.seed)
    head = nn.Linear(network.config.hidden_size, network.config.vocab_size)
    nn.init.normal_(head.weight, 0.0, 0.02)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.Adam(head.parameters(), lr=config.lr)
    batches = -(-len(states) // _BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.epochs * batches)
    rng = np.random.default_rng(config.seed)
    for _ in range(config.epochs):
        order = rng.permutation(len(states))
        for places in np.array_split(order, batches):
            chosen = [states[int(place)] for place in places]
            logits = head(nn.utils.rnn.pad_sequence([state for state, _ in chosen], batch_first=True))
            frames = torch.tensor([len(state) for state, _ in chosen])
            targets = torch.tensor([token for _, tokens in chosen for token in tokens])
            lengths = torch.tensor([len(tokens) for _, tokens in chosen])
            loss = ctc_loss(logits, frames, targets, lengths, network.vocabulary.blank)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    return head
