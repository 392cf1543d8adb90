"""Multiply-accumulate operations of a network, computed from its geometry.

Counted are the products of convolutions, linear layers and attention, as published model sizes count them;
norms, activations and softmax, a few per cent, are not.
"""

from __future__ import annotations

from math import prod

from littlefoot.artifact import Artifact
from littlefoot.audio import SAMPLE_RATE
from littlefoot.network import mel
from littlefoot.network.config import ModelConfig
from littlefoot.network.weights import expected_weights


def macs(config: ModelConfig, samples: int) -> dict[str, int]:
    """Multiply-accumulates of one pass over so many samples, by the name of the layer that does them.

    A layer that several Transformer layers share counts as often as it is used. The products of attention,
    which have no weights, are ``encoder.layers.N.attention.scores`` and ``.attention.mixing``.
    """
    counts: dict[str, int] = {}
    length = samples
    lengths = []  # frames after each layer of the front end
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        length = max((length - kernel) // stride + 1, 0)
        lengths.append(length)
    frames = length
    if config.feat_extract_first == "log_mel":
        window, bands = config.conv_kernel[0], config.conv_dim[0]
        sizes = (mel.sinusoids(window).size, mel.bands(bands, window, SAMPLE_RATE).size)
        counts["feature_extractor.log_mel"] = lengths[0] * sum(sizes)
    for name, shape in expected_weights(config).items():
        layer = name.removesuffix(".weight")
        if layer == name or len(shape) < 2 or layer.endswith("rel_attn_embed"):  # the last is looked up
            continue
        if layer.startswith("feature_extractor."):
            counts[layer] = prod(shape) * lengths[int(layer.split(".")[2])]
        else:
            counts[layer] = prod(shape) * _uses(config, layer) * frames
    for number in range(config.num_hidden_layers):
        pairs = config.attention_heads(number) * config.head_dim * frames * frames
        attention = f"encoder.layers.{number}.attention"
        if config.map(number) == number:
            counts[f"{attention}.scores"] = pairs
        counts[f"{attention}.mixing"] = pairs
    return counts


def macs_by_width(artifact: Artifact, samples: int) -> tuple[int, int]:
    """Multiply-accumulates of one pass: (in 8 bits, in floating point)."""
    narrow = wide = 0
    for layer, count in macs(artifact.config, samples).items():
        if _is_narrow(artifact, layer):
            narrow += count
        else:
            wide += count
    return narrow, wide


def _uses(config: ModelConfig, layer: str) -> int:
    """How many times a pass uses a layer's weights on every frame."""
    parts = layer.split(".")
    if parts[:2] != ["encoder", "layers"]:
        return 1
    if "delta" in parts:
        return 1
    number = int(parts[2])
    users = [n for n in range(config.num_hidden_layers) if config.block(n) == number]
    if parts[-1] in ("q_proj", "k_proj"):
        return sum(config.map(n) == n for n in users)
    if parts[-1] == "gru_rel_pos_linear":  # on every head
        return config.num_attention_heads * sum(config.map(n) == n for n in users)
    return len(users)


def _is_narrow(artifact: Artifact, layer: str) -> bool:
    """Whether a layer's product is one of 8-bit numbers, as ``runtime.onnx_ops`` chooses."""
    if layer.endswith(".scores"):
        block = artifact.config.block(int(layer.split(".")[2]))
        return f"encoder.layers.{block}.attention.scores.left.input_scale" in artifact.weights
    weight = artifact.weights.get(f"{layer}.weight")
    if weight is None or weight.dtype.kind not in "iu":
        return False
    if f"{layer}.input_scale" in artifact.weights:
        return True
    # Linear layers find the input's scale at run time, unless it is to stay as it is.
    return "conv" not in layer.split(".")[-1] and f"{layer}.input_bits" not in artifact.weights
