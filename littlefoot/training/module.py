"""The trainable model: parameters under their checkpoint names, run by ``littlefoot.network.encoder``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as checkpoint_activations

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import EncoderOutput, encode, encode_features, head
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Kind, Part
from littlefoot.network.weights import expected_weights
from littlefoot.training.torch_ops import TorchOps

MakeOps = Callable[..., TorchOps]
"""The encoder's operations in a call of the model: ``TorchOps``, or takes the same arguments."""

HEAD, HEAD_PROJECTION = "lm_head.weight", "head_projection"
"""The output layer (V, D), and what a model in training may have before it."""
_DROPOUTS = [f.name for f in dataclasses.fields(ModelConfig) if f.name.endswith("_dropout")]


class Segment(nn.Module):
    """A part of the network: parameters, and a call that lets PyTorch's hooks know when they are used."""

    def forward(self, part: Callable[..., Any], *values: Any) -> Any:
        return part(*values)


class Parameters(Mapping[str, Tensor]):
    """A module's parameters by name, as they are when asked for: shards are whole only in their segment.

    A head behind a projection is their product, as the encoder has one layer there.
    """

    def __init__(self, module: nn.Module) -> None:
        self._places = {
            f"{path}.{leaf}".lstrip("."): (owner._parameters, leaf)
            for path, owner in module.named_modules()
            for leaf in owner._parameters
        }

    def __getitem__(self, name: str) -> Tensor:
        parameters, leaf = self._places[name]
        value = cast(Tensor, parameters[leaf])
        return value @ self[HEAD_PROJECTION] if name == HEAD and HEAD_PROJECTION in self._places else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


class CTCModel(nn.Module):
    """A CTC recogniser of any supported family.

    Parameters carry the names of Hugging Face checkpoints without the model's prefix, so that
    ``state_dict()``, an artifact and ``encode`` speak of the same tensors.

    A student may have a parameter more, ``head_projection`` (D', D): its head then has a teacher's width D',
    and its outputs are those of the product of the two, which an artifact has.

    With ``recompute``, training keeps only what enters each block and convolution and computes the rest
    again for the gradient (Chen et al. 2016): a fraction of the memory for about a third more time.
    """

    recompute = False
    dropout = True
    """True if training drops values, with the probabilities of the configuration."""

    def __init__(
        self,
        config: ModelConfig,
        vocabulary: Vocabulary,
        preprocessor: dict[str, Any],
        weights: dict[str, Tensor],
        card: str = "",
    ) -> None:
        super().__init__()
        if len(vocabulary.tokens) != config.vocab_size:
            raise ConfigError(
                f"the vocabulary has {len(vocabulary.tokens)} tokens, but vocab_size is {config.vocab_size}"
            )
        self.config = config
        self.vocabulary = vocabulary
        self.preprocessor = preprocessor
        self.card = card
        for name, value in weights.items():
            *path, leaf = name.split(".")
            parent: nn.Module = self
            for part in path:
                if part not in parent._modules:
                    parent.add_module(part, Segment())
                parent = parent.get_submodule(part)
            parent.register_parameter(leaf, nn.Parameter(value))

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        time_mask: Tensor | None = None,
        feature_mask: Tensor | None = None,
        make_ops: MakeOps = TorchOps,
    ) -> tuple[Tensor, Tensor]:
        """Logits and their lengths for a padded batch.

        Args:
            waveforms: (B, T) float32 at 16 kHz, prepared as ``preprocessor`` says, zeros after each length.
            lengths: (B,) int64, samples of each utterance.
            time_mask: (B, F) bool, frames replaced by the mask embedding.
            feature_mask: (B, D) bool, channels set to zero.
            make_ops: the operations, which a compression method may change.

        Returns:
            logits (B, F, V) before the softmax, and frame lengths (B,).
        """
        output = self.encode(waveforms, lengths, time_mask, feature_mask, make_ops)
        assert output.frame_lengths is not None  # lengths were given
        return output.logits, output.frame_lengths

    def encode(
        self,
        waveforms: Tensor,
        lengths: Tensor | None = None,
        time_mask: Tensor | None = None,
        feature_mask: Tensor | None = None,
        make_ops: MakeOps = TorchOps,
        config: ModelConfig | None = None,
    ) -> EncoderOutput:
        """Compute logits like ``forward``, and also hidden states and the front end's features.

        Args: config: configuration to use with the same weights instead of the model's own, with other chunks
            or
                other strengths of positions.
        """
        ops = make_ops(Parameters(self), self.training, time_mask, feature_mask, self._run)
        return encode(ops, self._computed(config), waveforms, lengths)

    def encode_features(
        self,
        features: Tensor,
        frame_lengths: Tensor,
        time_mask: Tensor | None = None,
        feature_mask: Tensor | None = None,
        make_ops: MakeOps = TorchOps,
        config: ModelConfig | None = None,
    ) -> EncoderOutput:
        """Compute like ``encode``, from the front end's features (B, F, C) of a padded batch and their
        lengths (B,).
        """
        ops = make_ops(Parameters(self), self.training, time_mask, feature_mask, self._run)
        return encode_features(ops, self._computed(config), features, frame_lengths)

    def head(self, hidden_state: Tensor) -> Tensor:
        """Logits (B, F, V) of a layer's output (B, F, D), as if the model ended there."""
        ops = TorchOps(Parameters(self), self.training)
        return cast(Tensor, head(ops, self._computed(None), hidden_state))

    def _computed(self, config: ModelConfig | None) -> ModelConfig:
        config = config or self.config
        return config if self.dropout else config.replace(**dict.fromkeys(_DROPOUTS, 0.0))

    def _run(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        segment = self.get_submodule(name)
        if self.recompute and self.training:
            return checkpoint_activations(segment, part, *values, use_reentrant=False)
        return segment(part, *values)

    @classmethod
    def from_artifact(cls, artifact: Artifact) -> CTCModel:
        """Take over the weights of an artifact or checkpoint, as float32 copies.

        One that was never masked in training, and has no mask embedding, gets one of zeros.

        Raises ConfigError for a quantized artifact, which has no weights left to train.
        """
        if artifact.config.littlefoot.quantization is not None:
            raise ConfigError(
                "this artifact is quantized and cannot be trained: start from its full-precision model"
            )
        weights = {
            name: torch.from_numpy(np.array(value, dtype=np.float32))
            for name, value in artifact.weights.items()
        }
        weights.setdefault("masked_spec_embed", torch.zeros(artifact.config.hidden_size))
        return cls(artifact.config, artifact.vocabulary, artifact.preprocessor, weights, artifact.card)

    @classmethod
    def from_config(
        cls, config: ModelConfig, vocabulary: Vocabulary, do_normalize: bool = True, seed: int = 0
    ) -> CTCModel:
        """Make a model with random weights, initialised like wav2vec 2.0."""
        generator = torch.Generator().manual_seed(seed)
        shapes = {**expected_weights(config), "masked_spec_embed": (config.hidden_size,)}
        weights = {name: _initial(name, shape, config, generator) for name, shape in shapes.items()}
        preprocessor = {"sampling_rate": SAMPLE_RATE, "do_normalize": do_normalize}
        return cls(config, vocabulary, preprocessor, weights)

    def with_weights(self, weights: dict[str, Tensor]) -> CTCModel:
        """Make the same model with other weights of the same names; it shares their memory."""
        return CTCModel(self.config, self.vocabulary, self.preprocessor, weights, self.card)

    def to_artifact(self) -> Artifact:
        """Copies of the weights on the CPU as an artifact, ready to be saved."""
        weights = {
            name: parameter.detach().cpu().float().numpy().copy()
            for name, parameter in Parameters(self).items()
            if name != HEAD_PROJECTION
        }
        return Artifact(self.config, weights, self.vocabulary, dict(self.preprocessor), self.card)


def from_pretrained(path_or_id: str | Path, language: str | None = None) -> CTCModel:
    """Load a trainable model by a bundled name, an artifact or checkpoint directory, or a Hub id."""
    return CTCModel.from_artifact(checkpoint.load(path_or_id, language=language))


def _initial(name: str, shape: tuple[int, ...], config: ModelConfig, generator: torch.Generator) -> Tensor:
    """One tensor's initial values, by the rules of wav2vec 2.0's reference implementation."""
    layer, value = inventory(config).owner(name), torch.zeros(shape)
    if name.endswith(".bias") or layer.begins == "zeros":
        return value
    if layer.begins == "ones":
        return torch.ones(shape)
    if layer.kind is Kind.VECTOR:
        return value.uniform_(generator=generator)
    if layer.part is Part.POSITIONS:
        fan = shape[2] * config.hidden_size
        return value.normal_(0.0, 2.0 / math.sqrt(fan), generator=generator)
    if layer.part is Part.FRONT_END:
        return nn.init.kaiming_normal_(value, generator=generator)
    if layer.part is Part.PROJECTION:
        bound = 1.0 / math.sqrt(shape[1])
        return value.uniform_(-bound, bound, generator=generator)
    return value.normal_(0.0, config.initializer_range, generator=generator)
