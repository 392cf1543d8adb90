"""Read and write the configuration of a model, with the key names of Hugging Face's ``config.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from littlefoot.errors import ConfigError
from littlefoot.network import rules
from littlefoot.network.families import FAMILIES
from littlefoot.network.geometry import Geometry
from littlefoot.network.layers import in_block
from littlefoot.system import checks

# Keys that are not in transformers. They are written to config.json only if they differ from the default.
_OWN = (
    "feat_extract_first",
    "waveform_gain",
    "sinusoidal_positions",
    "layer_attention_heads",
    "layer_intermediate_size",
    "layer_blocks",
    "layer_maps",
    "layer_norms",
    "layer_delta_rank",
    "layer_depth_embedding",
    "linear_ranks",
    "chunk_frames",
    "left_context_frames",
    "right_context_frames",
)
# Keys that only some families of transformers know; config.json has them where they say something.
_RARE = (
    "conv_pos_batch_norm",
    "add_adapter",
    "adapter_kernel_size",
    "adapter_stride",
    "num_adapter_layers",
    "output_hidden_size",
    "position_embeddings_type",
    "rotary_embedding_base",
    "conv_depthwise_kernel_size",
    "conformer_conv_dropout",
    "attention_bias",
    "convolution_bias",
    "scale_input",
    "squeeze_factor",
    "position_buckets",
    "max_position_embeddings",
    "feature_layer_norm_eps",
    "left_max_position_embeddings",
    "right_max_position_embeddings",
    "adapter_act",
)


@dataclass(frozen=True)
class ModelConfig(Geometry):
    """Configuration of one CTC model. Lengths are counted in samples at 16 kHz or in frames."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rules.check(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Read a parsed ``config.json``. Raises ConfigError, which names the wrong key."""
        if "model_type" not in values:
            raise ConfigError("the configuration has no model_type: it is not a model's config.json")
        known = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        model_type = values["model_type"]
        family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
        merged = family.settings({**family.always, **family.defaults, **values}) if family else values
        arguments: dict[str, Any] = {"extra": {}}
        for key, value in merged.items():
            if key not in known:
                arguments["extra"][key] = value
            else:
                given = tuple(value) if isinstance(value, list) else value
                arguments[key] = checks.value(cls, key, given, strict=key != "littlefoot")
        return cls(**arguments)

    @classmethod
    def unknown_keys(cls, values: Mapping[str, Any]) -> set[str]:
        """Return the keys of a parsed ``config.json`` that ``from_dict`` keeps in ``extra``."""
        family = FAMILIES.get(str(values.get("model_type")))
        given = family.settings({**family.defaults, **values}) if family else values
        return set(given) - ({f.name for f in dataclasses.fields(cls)} - {"extra"})

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``, from which ``from_dict`` makes an equal configuration."""
        known = [self.family.transformers] if self.family.transformers else []
        values: dict[str, Any] = {"architectures": known, **self.extra}
        for f in dataclasses.fields(self):
            if f.name in ("extra", "littlefoot"):
                continue
            if f.name in _OWN and f.name not in self.own_settings:
                continue
            value = getattr(self, f.name)
            if f.name in _RARE and value == f.default and f.name not in self.family.defaults:
                continue
            values[f.name] = list(value) if isinstance(value, tuple) else value
        values["num_feat_extract_layers"] = len(self.conv_dim)
        if noted := self.littlefoot.to_dict():
            values["littlefoot"] = noted
        return self.family.keys(values)

    def replace(self, **changes: Any) -> ModelConfig:
        """Return a copy with some fields changed, and check it."""
        return dataclasses.replace(self, **changes)

    def noting(self, **sections: Any) -> ModelConfig:
        """Return a copy with some sections of ``littlefoot`` changed."""
        return self.replace(littlefoot={**self.littlefoot.to_dict(), **sections})

    def first_layers(self, count: int) -> ModelConfig:
        """Return the configuration of a model that ends after the first ``count`` layers.

        Raises ConfigError if the model has fewer layers, or for a count below 1.
        """
        if not 1 <= count <= self.num_hidden_layers:
            raise ConfigError(f"layers {count}: the model has 1 to {self.num_hidden_layers}")
        per_layer = ("layer_attention_heads", "layer_intermediate_size", "layer_blocks", "layer_maps")
        return self.replace(
            num_hidden_layers=count,
            linear_ranks={
                name: rank
                for name, rank in self.linear_ranks.items()
                if (place := in_block(name)) and place[0] < count
            },
            **{name: getattr(self, name)[:count] for name in per_layer},
        )

    @property
    def own_settings(self) -> dict[str, Any]:
        """Return the settings, by key, that prevent transformers from loading the model."""
        usual = {**self.family.always, **self.family.defaults}
        own = {
            name: value
            for name in (*_OWN, *self.family.always)
            if (value := getattr(self, name)) != usual.get(name, _DEFAULTS[name])
        }
        if self.feat_extract_first == "nemo_mel" and len(set(self.conv_dim[1:])) > 1:
            own["conv_dim"] = self.conv_dim  # transformers has one number for all
        return own


_DEFAULTS = {
    field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    for field in dataclasses.fields(ModelConfig)
}
