"""docs/families.md: what runs, streams and compresses of each family, as the code decides it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import oracle
from families import FAMILIES as VARIANTS

from littlefoot.compress import chain
from littlefoot.compress.recipe import Recipe, make_step
from littlefoot.errors import ConfigError
from littlefoot.network.activations import ACTIVATIONS
from littlefoot.network.config import ModelConfig
from littlefoot.network.families import FAMILIES

DOCUMENT = Path(__file__).parents[1] / "docs" / "families.md"

METHODS: dict[str, dict[str, Any]] = {
    "stream": {"chunk_frames": 4, "left_context_frames": 20, "right_context_frames": 2},
    "distill": {"student": {"layers": 2, "intermediate_size": 0.75}},
    "prune": {"sparsity": 0.2},
    "share": {"group": 2, "map_group": 2, "delta_rank": 2},
    "lowbit": {"bits": 2},
    "quantize": {"bits": 8},
}


def answer(config: ModelConfig, method: str) -> str:
    """Empty if a method can work on a model, else why it cannot."""
    try:
        chain.infer_shape(config, Recipe((make_step(method, METHODS[method]),)))
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
            reason = answer(config, method)
            cells.append(f"no ({reasons.setdefault(reason, len(reasons) + 1)})" if reason else "yes")
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
