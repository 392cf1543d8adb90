"""docs/families.md: what runs, streams and compresses of each family, as the code decides it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import oracle
import pytest
from families import FAMILIES as VARIANTS

from littlefoot.compress import chain
from littlefoot.compress.prune import PARTS
from littlefoot.compress.recipe import Recipe, make_step
from littlefoot.errors import ConfigError
from littlefoot.network.activations import ACTIVATIONS
from littlefoot.network.config import ModelConfig
from littlefoot.network.families import FAMILIES
from littlefoot.runtime import registry
from littlefoot.runtime.native import model_file

DOCUMENT = Path(__file__).parents[1] / "docs" / "families.md"

METHODS: dict[str, dict[str, Any]] = {
    "stream": {"chunk_frames": 4, "left_context_frames": 20, "right_context_frames": 2},
    "distill": {"student": {"layers": 2, "intermediate_size": 0.75}},
    "prune": {"sparsity": 0.2},
    "share": {"group": 2, "map_group": 2, "delta_rank": 2},
    "lowbit": {"bits": 2},
    "quantize": {"bits": 8},
}


def answer(config: ModelConfig, method: str, settings: dict[str, Any]) -> str:
    """Empty if a method can work on a model, else why it cannot."""
    try:
        chain.infer_shape(config, Recipe((make_step(method, settings),)))
    except ConfigError as error:
        return str(error).split(": ", 1)[-1]
    return ""


def table() -> str:
    """The table and its notes: a row for each variant that is compared with transformers."""
    reasons: dict[str, int] = {}
    lines = [f"| model | `model_type` | {' | '.join(METHODS)} |", "|---" * (len(METHODS) + 2) + "|"]
    for variant in VARIANTS:
        config = oracle.tiny(variant).artifact.config.replace(num_hidden_layers=4)
        cells = []
        for method in METHODS:
            if reason := answer(config, method, METHODS[method]):
                possible = [
                    part
                    for part in PARTS
                    if method == "prune" and not answer(config, method, {"sparsity": 0.1, "parts": [part]})
                ]
                number = reasons.setdefault(reason, len(reasons) + 1)
                cells.append(f"{', '.join(possible) or 'no'} ({number})")
            else:
                cells.append("yes")
        lines.append(f"| {variant} | `{config.model_type}` | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- ({number}) {reason}" for reason, number in reasons.items())])


def test_the_table_says_what_the_code_does() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    written = re.search(r"<!-- families -->\n(.*?)\n<!-- /families -->", text, re.DOTALL)
    assert written is not None
    assert written[1] == table(), f"put this between the marks of {DOCUMENT.name}:\n{table()}"


def test_every_family_has_a_row() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert {name for name in FAMILIES if f"| `{name}` |" in text} == set(FAMILIES)


def test_the_activations_are_listed() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    listed = text.partition("## Activations")[2].partition("##")[0]
    assert set(re.findall(r"`(\w+)`", listed)) - {"hidden_act", "feat_extract_activation"} == {
        *ACTIVATIONS,
        "prelu",
        "xielu",
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "wav2vec2-conformer"},
        {"model_type": "wav2vec2-conformer", "position_embeddings_type": "rotary"},
        {"model_type": "wav2vec2-bert", "add_adapter": True},
        {"model_type": "sew"},
        {"model_type": "sew-d"},
        {"model_type": "parakeet_ctc"},
        {"add_adapter": True},
    ],
    ids=lambda changes: "-".join(str(value) for value in list(changes.values())[:2]),
)
def test_packed_models_that_the_kernels_lack_run_on_engines(
    changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    made = artifacts.few_bits(2, positions=8, front_end=8, **changes)
    waveform = artifacts.noise(8000)
    options: dict[str, Any] = {"threads": 1, "precision": "f32", "cached": False}
    expected = registry.create(made, "onnxruntime", kernels="off", **options).run(waveform)
    assert expected.shape == (made.config.frames(8000), made.config.vocab_size)
    assert np.isfinite(expected).all()
    assert expected.std() > 1e-3
    found = registry.create(made, "onnxruntime", kernels="auto", **options).run(waveform)
    assert "packed weights are expanded to 8 bits" in caplog.text
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ConfigError, match="one file: the native kernels do not support"):
        model_file.encode(made, "model")
