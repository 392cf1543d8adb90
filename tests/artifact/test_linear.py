"""Layers are written and read as what they are, and what they are says how they are computed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from artifacts import few_bits, tiny

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.artifact.linear import (
    EightBitWeight,
    FloatWeight,
    PackedWeight,
    Product,
    Rounding,
    StoredLayer,
    put,
    quantized_layers,
    read,
    read_rounding,
    same,
)
from littlefoot.artifact.packing import TERNARY, Table
from littlefoot.network.inventory import inventory

ROUNDING = Rounding(np.array(0.5, np.float32), np.array(3, np.uint8))


def layers_of(artifact: Artifact) -> list[str]:
    return [layer.name for layer in inventory(artifact.config) if layer.multiplies]


def written_again(artifact: Artifact) -> dict[str, np.ndarray]:
    """The tensors of an artifact of which every layer and factor was read and written."""
    made = put(artifact.weights, {name: read(name, artifact.weights) for name in layers_of(artifact)})
    for layer in inventory(artifact.config):
        for factor in layer.factors:
            if (rounding := read_rounding(factor, artifact.weights)) is not None:
                made.update(rounding.tensors(factor))
    return made


def check_written_again(artifact: Artifact) -> None:
    made = written_again(artifact)
    assert made.keys() == artifact.weights.keys()
    for name, array in artifact.weights.items():
        assert made[name].dtype == array.dtype, name
        np.testing.assert_array_equal(made[name], array, err_msg=name)


@pytest.mark.parametrize("name", checkpoint.bundled())
def test_bundled_models_are_written_as_they_were_read(name: str) -> None:
    check_written_again(checkpoint.load(name))


@pytest.mark.parametrize(
    "model",
    [
        tiny(),
        few_bits(1),
        few_bits(2, 4, (-3, -1, 1, 3), positions=4, front_end=8),
        few_bits(2, 2, TERNARY, groups=2, positions=8, front_end=4),
    ],
    ids=["float", "1 bit", "symmetric", "groups"],
)
def test_models_are_written_as_they_were_read(model: Artifact) -> None:
    check_written_again(model)


@pytest.mark.parametrize("shape", [(4, 40), (4, 5, 8)], ids=["linear", "convolution"])
@pytest.mark.parametrize(("bits", "table"), [(1, ()), (2, TERNARY), (4, ())])
def test_packed_levels_come_back(shape: tuple[int, ...], bits: int, table: Table) -> None:
    levels = np.random.default_rng(0).choice(np.array(table or (-1, 1), np.int8), shape)
    if bits == 4:
        levels *= 7
    weight = PackedWeight.pack(levels, np.ones(4, np.float32), bits, table)
    assert weight.convolves == (len(shape) > 2)
    again = read("a", StoredLayer(weight).tensors("a")).weight
    assert isinstance(again, PackedWeight)
    np.testing.assert_array_equal(again.levels, levels)


def test_a_weight_and_its_input_say_how_a_layer_is_computed() -> None:
    whole = FloatWeight(np.zeros((4, 8), np.float32))
    eight = EightBitWeight(np.zeros((4, 8), np.int8), np.ones(4, np.float32))
    taps = EightBitWeight(np.zeros((4, 8, 3), np.int8), np.ones(4, np.float32))
    for layer, product in (
        (StoredLayer(whole), Product.FLOAT),
        (StoredLayer(eight), Product.DYNAMIC),
        (StoredLayer(eight, ROUNDING), Product.STATIC),
        (StoredLayer(eight, unrounded=True), Product.WEIGHT_ONLY),
        (StoredLayer(taps), Product.WEIGHT_ONLY),  # the input of no convolution is rounded at run time
        (StoredLayer(taps, ROUNDING), Product.STATIC),
    ):
        assert layer.product is product
        assert read("a", layer.tensors("a")).product is product


def test_a_layer_leaves_nothing_of_what_it_takes_the_place_of() -> None:
    model = few_bits(2, 4, TERNARY, groups=2)
    name = layers_of(model)[-2]
    assert name in quantized_layers(model.weights)
    weight = FloatWeight(np.zeros((16, 24), np.float32))
    made = put(model.weights, {name: StoredLayer(weight)})
    assert {n for n in made if n.startswith(f"{name}.")} == {f"{name}.bias", f"{name}.weight"}
    assert name not in quantized_layers(made)


def test_inputs_are_the_same_only_if_all_of_it_is() -> None:
    shift = np.ones(8, np.float32)
    others = [
        replace(ROUNDING, act_scale=np.array(0.25, np.float32)),
        replace(ROUNDING, act_zero_point=np.array(4, np.uint8)),
        replace(ROUNDING, bits=4),
        replace(ROUNDING, shift=shift),
        replace(ROUNDING, smoothing=shift),
        None,
    ]
    assert same(ROUNDING, replace(ROUNDING))
    assert same(None, None)
    assert not any(same(ROUNDING, other) for other in others)
    assert same(replace(ROUNDING, shift=shift), replace(ROUNDING, shift=shift.copy()))


def test_few_bits_of_an_input_end_where_their_levels_do() -> None:
    low, high = replace(ROUNDING, bits=2).limits
    assert (low, high) == (-1.5, 0.0)  # levels 0 to 3, of which 3 is zero, half a unit apart
