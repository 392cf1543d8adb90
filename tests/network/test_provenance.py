"""The section littlefoot of config.json: typed, and written as it was read."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest

from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig

BUNDLED = sorted((Path(__file__).parents[2] / "littlefoot" / "bundled").glob("littlefoot-*/config.json"))


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.parent.name)
def test_bundled_models_keep_their_sections(path: Path) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    config = ModelConfig.from_dict(values)
    assert json.loads(json.dumps(config.to_dict()))["littlefoot"] == values["littlefoot"]
    assert config.littlefoot.training is not None
    assert config.littlefoot.training.step > 0
    assert pickle.loads(pickle.dumps(config)) == config == ModelConfig.from_dict(config.to_dict())


def test_unknown_keys_are_kept_and_unset_ones_left_out() -> None:
    section = {"quantization": {"bits": 2, "moon": "full"}, "later": [1, {"a": None}]}
    config = ModelConfig.from_dict({"model_type": "wav2vec2", "littlefoot": section})
    assert config.to_dict()["littlefoot"] == section
    noting = config.noting(exits=[3], quantization={**section["quantization"], "bits": 1})  # type: ignore[dict-item]
    assert noting.littlefoot.to_dict() == {
        **section,
        "exits": [3],
        "quantization": {"bits": 1, "moon": "full"},
    }
    assert "littlefoot" not in ModelConfig().to_dict()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([], "littlefoot must be a valid dictionary"),
        ({"quantization": 3}, r"littlefoot\.quantization must be a valid dictionary"),
        ({"quantization": {"bits": "two"}}, r"littlefoot\.quantization\.bits.*not 'two'"),
        ({"exits": [1, "last"]}, r"littlefoot\.exits\[1\] must be a valid integer.*not 'last'"),
        ({"origin": {"repository": "a/b"}}, r"littlefoot\.origin\.commit: Field required"),
    ],
)
def test_a_damaged_section_is_refused_by_name(section: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict({"model_type": "wav2vec2", "littlefoot": section})
