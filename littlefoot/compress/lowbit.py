"""Train models of few bits (quantization-aware training).

The method is that of Yeh et al. (2022) for speech models, with the techniques of BiT (Liu et al. 2022) and
LSQ (Esser et al. 2020). The Transformer's linear layers have 1, 2, 3 or 4 bits and everything else 8, in
training as in the artifact (``littlefoot.compress.fake_quant``), and the teacher is the model in full
precision.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import TRAINING_PARTS, FloatWeight, StoredLayer, put
from littlefoot.artifact.packing import TERNARY, WeightCode, layer_bytes, symmetric
from littlefoot.compress.calibration import LayerInput, collect, load_clips, some
from littlefoot.compress.distill import Distillation, denominator_of, learn, training_set
from littlefoot.compress.distillation_settings import DistillationSettings
from littlefoot.compress.fake_quant import FakeQuantOps, RoundingPlan
from littlefoot.compress.gptq import Factor
from littlefoot.compress.inner_rotation import rotated
from littlefoot.compress.lowbit_layers import (
    near_gptq,
    nearest_scales,
    stored_rounding,
    stored_weight,
    upper_scales,
)
from littlefoot.compress.methods import StepContext
from littlefoot.compress.mixed import (
    WIDTHS,
    bits_of_layers,
    choose_bits,
    linear_budget,
    mean_bits,
    sensitivity,
)
from littlefoot.compress.rounding import fit
from littlefoot.compress.teacher import Teacher, make_teacher
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import WAVEFORM_LAYER, Part
from littlefoot.network.weights import packable
from littlefoot.system import atomic
from littlefoot.system.checks import Count, PositiveFloat, PositiveInt
from littlefoot.training.devices import processes
from littlefoot.training.forward_backward import Denominator
from littlefoot.training.module import CTCModel
from littlefoot.training.torch_ops import TorchOps

Width = Literal[1, 2, 3, 4, 8]
"""Bits that engines compute with."""
OtherWidth = Literal[4, 8, 16, 32]

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class LowbitConfig(DistillationSettings):
    """Settings of quantization-aware training."""

    bits: Width = 2
    """Bits of the weights of the Transformer's linear layers: 1, 2, 3, 4 or 8."""
    levels: Literal["symmetric", "zero", "ternary"] = "symmetric"
    """Codebook of 2 bits: ``symmetric``, -3 -1 1 3; ``zero``, -2 -1 0 1; or ``ternary``, -1 0 1, five to a
    byte."""
    group_size: Count = 0
    """Number of columns that share a scale; 0 for one scale per row. A group scale is a multiple of its row's
    scale."""
    layer_bits: dict[str, Width] = field(default_factory=dict)
    """Other bits for some of these layers, by patterns of their names; the last match counts."""
    budget_mb: PositiveFloat | None = None
    """Largest size of the artifact's weights, in units of 10^6 bytes. The bits of each of these layers are
    chosen by its sensitivity (``littlefoot.compress.mixed``)."""
    max_sensitivity: PositiveFloat | None = None
    """Largest sum of the sensitivities of these layers before training, in nats per frame, by which their
    bits are chosen. With ``budget_mb`` too, the smallest model that meets both."""
    activations: Literal[2, 4, 8] | None = 8
    """Bits of these layers' inputs: 8, 4 or 2, or None, which does not round them."""
    shift: bool = True
    """Subtract a learned activation offset before the input of queries, keys and values is rounded. Pre-norm
    models do not need it, because the bias of the norm has the same effect."""
    front_end: OtherWidth = 8
    """Bits of the convolutions except the first, and of the feature projection: 4, 8, 16 or 32."""
    positions: OtherWidth = 8
    """Bits of the positional convolution: 4, 8, 16 or 32."""
    head: OtherWidth = 8
    """Bits of the CTC head: 4, 8, 16 or 32."""
    initialisation: Literal["gptq", "nearest"] = "nearest"
    """Initial weights: rounded to the ``nearest`` value, or by ``gptq``."""
    descent: tuple[Width, ...] = ()
    """Larger numbers of bits to train with first, such as [8, 4]; each result initialises the next."""
    descent_steps: PositiveInt = 500
    """Training steps with each number of bits in ``descent``."""
    nested_precisions: tuple[Width, ...] = ()
    """Nested precisions: fewer bits that the same weights are trained for in turn with ``bits``. The artifact
    runs with any of them, because their codes are the first bits of the stored ones
    (``littlefoot.artifact.precisions``)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nested_precisions:
            if any(fewer >= self.bits for fewer in self.nested_precisions) or self.bits == 8:
                raise ConfigError(
                    f"nested precisions {list(self.nested_precisions)} of {self.bits} bits: they must have "
                    "fewer bits than the artifact, and the artifact at most 4, because they are read from "
                    "the same codes"
                )
            if self.levels != "symmetric" or self.group_size:
                raise ConfigError("nested precisions need levels: symmetric and group_size: 0")
        if self.layer_bits and self.mixed:
            raise ConfigError(
                "budget_mb and max_sensitivity choose the bits of all layers: leave out layer_bits"
            )

    @property
    def mixed(self) -> bool:
        """Return True if the bits of layers are chosen."""
        return self.budget_mb is not None or self.max_sensitivity is not None

    def code(self, bits: int) -> WeightCode:
        """Return how a layer with this number of bits is stored."""
        tables = {"symmetric": symmetric(2), "zero": (), "ternary": TERNARY}
        table = tables[self.levels] if bits == 2 else ()
        if self.nested_precisions and 1 < bits < 8:  # the upper bits of two's complement are not symmetric
            table = symmetric(bits)
        return WeightCode(bits, table, self.group_size if bits < 8 else 0)


def infer_shape(model: ModelConfig, config: LowbitConfig) -> ModelConfig:
    """Return the model's configuration, labelled as quantized.

    Raises ConfigError for layers that cannot have the requested bits. A budget chooses only possible ones.
    """
    shapes = {layer.name: layer.shape for layer in inventory(model) if layer.multiplies}
    last = (
        replace(config, bits=8, nested_precisions=(), budget_mb=None, max_sensitivity=None)
        if config.mixed
        else config
    )
    for settings in (*(_phase(last, bits) for bits in config.descent), last):
        layer_codes(shapes, settings, model)
    return model.replace(littlefoot={"quantization": {}})


def lowbit(model: Artifact, config: LowbitConfig, step: StepContext) -> Artifact:
    """Train a model with few bits on the outputs of its teacher.

    Raises:
        ConfigError: the model is already quantized, layers cannot have these bits, patterns match none, or
            the speech is silent.
        TrainingError: as ``littlefoot.compress.distill.distill``.
    """
    unrounded = CTCModel.from_artifact(model)
    data = training_set(unrounded, config, step)
    # Eight bits of a front end that is not trained change its features too little to matter in training.
    front_end = unrounded if config.front_end >= 8 else None
    teacher = make_teacher(model, config, step, data, front_end)
    same = front_end is not None and teacher.has_features_of(front_end)
    paths = [utterance.path for utterance in some(step.speech().of_split("train"))]
    model = rotated(model)
    step.progress("collecting the inputs of the layers")
    clips = load_clips(paths, model)
    if config.mixed:
        config = replace(
            config, budget_mb=None, max_sensitivity=None, layer_bits=mixed_bits(model, clips, config, step)
        )
    phases = [
        (_phase(config, bits), replace(step, directory=step.directory / f"{bits}-bit"))
        for bits in config.descent
    ]
    for settings, where in [*phases, (config, step)]:
        model = plain(model)
        inputs = collect(model, clips, moments=config.initialisation == "gptq")
        plan = make_plan(model, inputs, settings)
        step.progress(f"rounding to {settings.bits} bits")
        student = prepare(model, inputs, plan, settings)
        denominator = denominator_of(where, student, settings)
        objective = LowbitDistillation(student, teacher, settings, plan, denominator, same)
        model = learn(objective, data.under(settings.train), where)
    return convert(model, plan, config)


def mixed_bits(
    model: Artifact, clips: Sequence[Any], config: LowbitConfig, step: StepContext
) -> dict[str, Width]:
    """Choose the bits of each of the Transformer's linear layers under the budget; keep them in the step's
    directory.

    A resumed run keeps the choice.
    """
    path = step.directory / "bits.json"
    with processes().main_process_first():
        if not path.exists():
            inputs = collect(model, clips, moments=True)
            options = sensitivity(model, clips, inputs, WIDTHS, config.code, step.progress)
            left = None
            if config.budget_mb is not None:
                bytewise = replace(config, budget_mb=None, max_sensitivity=None, bits=8, nested_precisions=())
                plan = make_plan(model, inputs, bytewise)
                made = convert(prepare(model, inputs, plan, bytewise).to_artifact(), plan, bytewise)
                left = linear_budget(made, config.budget_mb, options)
                rows = (len(model.weights[f"{name}.weight"]) for name in options)
                left -= sum(4 * len(config.nested_precisions) * count for count in rows)
            chosen = choose_bits(options, left, config.max_sensitivity)
            with atomic.file(path) as temporary:
                temporary.write_text(json.dumps(chosen, indent=1), encoding="utf-8")
    bits: dict[str, Width] = json.loads(path.read_text(encoding="utf-8"))
    step.progress("bits: " + ", ".join(f"{name} {width}" for name, width in bits.items()))
    return bits


def _phase(config: LowbitConfig, bits: Width) -> LowbitConfig:
    """Return the settings of a preceding training with more bits."""
    return replace(
        config,
        bits=bits,
        layer_bits={pattern: max(bits, fewer) for pattern, fewer in config.layer_bits.items()},
        nested_precisions=(),
        train=replace(config.train, steps=config.descent_steps),
    )


class LowbitDistillation(Distillation[LowbitConfig]):
    """Distillation of a model that is rounded, in turn to each of the precisions that are trained
    together."""

    method = "quantization-aware distillation"

    def __init__(
        self,
        student: CTCModel,
        teacher: Teacher,
        config: LowbitConfig,
        plan: RoundingPlan,
        denominator: Denominator | None = None,
        same_features_as_teacher: bool = False,
    ) -> None:
        super().__init__(student, teacher, config, denominator)
        self._same, self._plan, self._precisions = (
            same_features_as_teacher,
            plan,
            1 + len(config.nested_precisions),
        )

    def make_ops(self, *arguments: Any) -> TorchOps:
        """Round to the precision of this step."""
        return FakeQuantOps(self._plan, self.step % self._precisions, *arguments)

    def _same_features_as_teacher(self) -> bool:
        return self._same


def plain(model: Artifact) -> Artifact:
    """Return a trained model without the parts that only its training uses."""
    left_out = {*TRAINING_PARTS, "input_shift"}
    weights = {n: v for n, v in model.weights.items() if n.rpartition(".")[2] not in left_out}
    return replace(model, weights=weights)


def make_plan(model: Artifact, inputs: Sequence[LayerInput], config: LowbitConfig) -> RoundingPlan:
    """Decide the bits of each layer.

    Raises ConfigError for patterns that match no layer, and for layers that cannot be packed.
    """
    names = [name for group in inputs for name in group.layers if f"{name}.weight" in model.weights]
    shapes = {name: model.weights[f"{name}.weight"].shape for name in names}
    few, weights = packable(model.config), layer_codes(shapes, config, model.config)
    owners: dict[str, str] = {}
    input_bits: dict[str, int] = {}
    for group in inputs:
        quantized = [name for name in group.layers if name in weights and weights[name][0].bits <= 8]
        factor = f"{group.layers[0]}.weight" not in model.weights
        chosen_bits = config.activations if factor or any(name in few for name in quantized) else 8
        if chosen_bits is None or not (quantized or factor):
            continue
        owner = group.layers[0] if factor else quantized[0]
        input_bits[owner] = 8 if factor else chosen_bits
        owners.update(dict.fromkeys(group.layers if factor else quantized, owner))
    return RoundingPlan(weights, owners, input_bits)


def layer_codes(
    shapes: Mapping[str, Sequence[int]], config: LowbitConfig, model: ModelConfig
) -> dict[str, tuple[WeightCode, ...]]:
    """Return how the weights of layers are stored: first for all bits, then for each nested precision.

    Raises ConfigError for patterns that match no layer, and for layers that cannot be packed.
    """
    few, parts = packable(model), {layer.name: layer.part for layer in inventory(model)}
    bits = bits_of_layers([name for name in shapes if name in few], config.bits, config.layer_bits)
    codes: dict[str, tuple[WeightCode, ...]] = {}
    for name, (rows, *columns) in shapes.items():
        if name == WAVEFORM_LAYER:
            continue
        if name in bits:
            fewer = () if bits[name] == 8 else config.nested_precisions
            precisions = [bits[name], *(min(bits[name], b) for b in fewer)]
            codes[name] = tuple(config.code(b) for b in precisions)
        else:
            codes[name] = (WeightCode(_other_bits(parts[name], config)),)
        for code in codes[name]:
            try:
                layer_bytes((rows, math.prod(columns)), code)
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from None
    return codes


def _other_bits(part: Part, config: LowbitConfig) -> int:
    """Return the bits of a layer outside the Transformer's linear layers."""
    if part in (Part.FRONT_END, Part.PROJECTION):
        return config.front_end
    return {Part.POSITIONS: config.positions, Part.HEAD: config.head}.get(part, 8)


def prepare(
    model: Artifact, inputs: Sequence[LayerInput], plan: RoundingPlan, config: LowbitConfig
) -> CTCModel:
    """Add the trained parameters other than the weights to a model (``littlefoot.compress.fake_quant``)."""
    weights: Arrays = {name: np.array(value, np.float32) for name, value in model.weights.items()}
    few = packable(model.config)
    for group in inputs:
        if (owner := plan.inputs.get(group.layers[0])) is not None:
            bits = plan.input_bits[owner]
            found = fit(group, model.weights, bits, smooth=False)
            weights[f"{owner}.log_input_scale"] = np.log([found.scale]).astype(np.float32)
            if found.zero_point.dtype == np.uint8:
                zero = float(found.zero_point) / ((1 << bits) - 1)
                weights[f"{owner}.input_zero"] = np.array([zero], np.float32)
                biased = all(f"{name}.bias" in model.weights for name in group.layers)  # which takes it up
                # In pre-norm blocks, the bias of the norm makes an offset superfluous.
                shifted = config.shift and biased and not model.config.do_stable_layer_norm
                if shifted and owner.endswith(("q_proj", "k_proj", "v_proj")):
                    weights[f"{owner}.input_shift"] = np.zeros(group.rows.shape[1], np.float32)
        factor: Factor | None = None  # of the input, which the layers share
        for name in group.layers:
            codes = plan.weights.get(name, ())
            if codes and codes[0].bits < 8:
                weight = weights[f"{name}.weight"]
                # The inputs of a convolution are not columns: all its weights have the same importance.
                rows = group.rows if weight.ndim == 2 else np.ones((1, weight[0].size), np.float32)
                weight = weight.reshape(len(weight), -1)
                if config.initialisation == "gptq" and name in few:
                    factor = factor or Factor.of(group.second_moments())
                    start, scales = near_gptq(weight, factor, codes[0])
                    weights[f"{name}.weight"] = start
                else:
                    scales = nearest_scales(weight, rows, codes[0])
                start = weights[f"{name}.weight"].reshape(weight.shape)
                others = [upper_scales(start, rows, scales, codes[0], code) for code in codes[1:]]
                stacked = np.concatenate([s.reshape(-1) for s in (scales, *others)])
                weights[f"{name}.log_weight_scale"] = np.log(stacked).astype(np.float32)
    tensors = {name: torch.from_numpy(value) for name, value in weights.items()}
    return CTCModel(
        model.config.replace(littlefoot={}), model.vocabulary, dict(model.preprocessor), tensors, model.card
    )


@torch.no_grad()
def convert(model: Artifact, plan: RoundingPlan, config: LowbitConfig) -> Artifact:
    """Convert a trained model to a packed artifact, which computes the same in integers."""
    layers: dict[str, StoredLayer] = {}
    others: Arrays = {}
    inputs = {owner: stored_rounding(model, owner, bits) for owner, bits in plan.input_bits.items()}
    for name, codes in plan.weights.items():
        rounding = inputs[plan.inputs[name]] if name in plan.inputs else None
        weight = stored_weight(model, name, codes, config.nested_precisions)
        unrounded = rounding is None and not isinstance(weight, FloatWeight)
        layers[name] = StoredLayer(weight, rounding, unrounded)
        if rounding is not None and rounding.shift is not None and not isinstance(weight, FloatWeight):
            real = weight.levels * weight.scale.reshape(-1, *[1] * (weight.levels.ndim - 1))
            bias = model.weights[f"{name}.bias"] + real @ rounding.shift
            others[f"{name}.bias"] = bias.astype(np.float32)
    for name, owner in plan.inputs.items():
        if name not in layers:  # a factor of a product
            others.update(inputs[owner].tensors(name))
    weights = put(plain(model).weights, layers) | others
    kept = sorted(name for name, codes in plan.weights.items() if codes[0].bits > 8)
    few = packable(model.config)
    widths = {name: codes[0].bits for name, codes in plan.weights.items() if name in few}
    quantization = {
        "bits": mean_bits(weights, widths),
        "mode": "static",
        "kept": [WAVEFORM_LAYER, *kept] if f"{WAVEFORM_LAYER}.weight" in weights else kept,
        "trained": True,
        "activations": config.activations,
        **({"precisions": [config.bits, *config.nested_precisions]} if config.nested_precisions else {}),
    }
    return replace(model, weights=weights, config=model.config.noting(quantization=quantization))
