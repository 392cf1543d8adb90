"""Define the state of a stream: the tensors that are carried from one chunk to the next."""

from __future__ import annotations

from dataclasses import dataclass

from littlefoot.network.config import ModelConfig

WAVEFORM, VALID, SEEN, FEATURES, ADAPTER = "waveform", "valid", "seen", "features", "adapter"


@dataclass(frozen=True)
class StreamTensor:
    """A part of a stream's state: ``name`` is an input of the network, ``next.name`` an output."""

    name: str
    shape: tuple[int, ...]
    """Shape without the batch."""
    start: tuple[int, ...]
    """Shape at the beginning of a stream, where all values are zero."""
    frames_axis: int | None = None
    """Axis, counted with the batch, along which the output has the chunk's own frames, which replace the
    oldest ones; None if the output replaces the whole input."""


def stream_state(config: ModelConfig) -> list[StreamTensor]:
    """List all parts of a stream's state except the number of frames so far."""
    ahead, width = config.right_context_frames, config.hidden_size
    tail = config.num_conv_pos_embeddings - config.squeeze_factor
    tensors = [StreamTensor(FEATURES, (tail, width), (tail - ahead, width))]
    for layer in range(config.num_hidden_layers):
        heads, left = config.attention_heads(layer), config.left_block_frames
        keys, values = (heads, config.head_dim, left), (heads, left, config.head_dim)
        if config.map(layer) == layer:
            tensors.append(StreamTensor(f"keys.{layer}", keys, keys, 3))
        tensors.append(StreamTensor(f"values.{layer}", values, values, 2))
    if config.add_adapter:
        last = (1, config.adapter_channels)
        tensors += [
            StreamTensor(f"{ADAPTER}.{layer}", last, last) for layer in range(config.num_adapter_layers)
        ]
    return tensors
