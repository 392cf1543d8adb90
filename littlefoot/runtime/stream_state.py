"""What goes into a network for a chunk of a stream, by name, and what of it is kept for the next."""

from __future__ import annotations

from dataclasses import dataclass

from littlefoot.network.config import ModelConfig

WAVEFORM, VALID, SEEN, FEATURES = "waveform", "valid", "seen", "features"


@dataclass(frozen=True)
class StreamTensor:
    """A part of a stream's state: ``name`` goes in, ``next.name`` comes out."""

    name: str
    shape: tuple[int, ...]
    """Without the batch."""
    start: tuple[int, ...]
    """Its shape at the beginning of a stream, where all of it is zero."""
    frames_axis: int | None = None
    """Where not None, what comes out are the chunk's own frames along this axis, counted with the batch: they
    replace the oldest ones."""


def stream_state(config: ModelConfig) -> list[StreamTensor]:
    """All parts of a stream's state but the number of frames seen."""
    ahead, width = config.right_context_frames, config.hidden_size
    tail = config.num_conv_pos_embeddings - 1
    tensors = [StreamTensor(FEATURES, (tail, width), (tail - ahead, width))]
    for layer in range(config.num_hidden_layers):
        heads, left = config.attention_heads(layer), config.left_context_frames
        keys, values = (heads, config.head_dim, left), (heads, left, config.head_dim)
        if config.map(layer) == layer:
            tensors.append(StreamTensor(f"keys.{layer}", keys, keys, 3))
        tensors.append(StreamTensor(f"values.{layer}", values, values, 2))
    return tensors
