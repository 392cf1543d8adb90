"""The section ``littlefoot`` of a ``config.json``: the origin of a model, its making, and its figures.

Unknown keys of a section are kept, and a section is written as it was read: fields that were not set are
left out.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """An object of ``config.json``."""

    model_config = ConfigDict(frozen=True, extra="allow")

    def to_dict(self) -> dict[str, Any]:
        """Return what the file has."""
        return self.model_dump(exclude_unset=True)


class Origin(Section):
    """The repository on the Hugging Face Hub that a model is from."""

    repository: str
    commit: str


class Teacher(Section):
    """The model that a recipe began with."""

    name: str = ""
    parameters: int = 0
    sha256: str = ""
    """Fingerprint of everything that influences the output (``artifact.fingerprint``)."""
    origin: Origin | None = None


class Quantization(Section):
    """Rounding of the weights."""

    bits: int | float | None = None
    """Bits of the Transformer's linear layers; their mean where they differ."""
    mode: str | None = None
    """``static`` or ``dynamic``, as in ``QuantizeConfig``."""
    kept: list[str] = []
    """Layers in higher precision."""
    trained: bool = False
    """True after quantization-aware training."""
    activations: int | None = None
    """Bits of the layers' inputs, after quantization-aware training."""
    precisions: list[int] = []
    """Nested precisions, if there are several."""
    logit_error: float | None = None
    disagreement: float | None = None
    speedup: float | None = None


class Streaming(Section):
    """Training of a streaming model."""

    trained_chunk_frames: list[int] = []


class SetSize(Section):
    """Amount of a set's training speech."""

    utterances: int
    seconds: float


class DevErrors(Section):
    """Error rates on the dev splits, by set, as fractions."""

    wer: dict[str, float] = {}
    cer: dict[str, float] = {}


class Training(Section):
    """The last training of the weights."""

    method: str = ""
    step: int = 0
    epoch: int = 0
    data: dict[str, SetSize] = {}
    data_sha256: str = ""
    dev: DevErrors | None = None
    settings: dict[str, Any] = {}


class Measured(Section):
    """Figures of a model that ``shrink --target`` made."""

    bytes: int | None = None
    wer: float | None = None


class Plan(Section):
    """The target and the figures of ``shrink --target`` (``littlefoot.plan.report.to_dict``)."""

    measured: Measured = Measured()
    split: str = ""
    utterances: int = 0


class Provenance(Section):
    """The section ``littlefoot`` of ``config.json``."""

    format_version: int | None = None
    origin: Origin | None = None
    recipe: list[dict[str, Any]] = []
    """The steps that made the model, one after the other, as a recipe has them."""
    teacher: Teacher | None = None
    quantization: Quantization | None = None
    streaming: Streaming | None = None
    exits: list[int] = []
    """Numbers of layers after which the model was trained to stop."""
    training: Training | None = None
    plan: Plan | None = None
