"""Fusion of native steps: each rule alone, and what it leaves as it is."""

from __future__ import annotations

import pytest

from littlefoot.errors import LittlefootError
from littlefoot.runtime.native.fusion import fuse
from littlefoot.runtime.native.ops import NativeOps
from littlefoot.runtime.native.steps import Activate, Add, Attention, Input, Linear, Norm, Step
from littlefoot.runtime.native.unsupported import UnsupportedError


def fused(*steps: Step, mergeable: bool = True) -> dict[int, Step]:
    return dict(fuse([Input(()), *steps], lambda one, other: mergeable))


def linear(source: int, name: str = "a", **settings: str) -> Linear:
    return Linear((source,), (name,), **settings)


def test_an_activation_joins_the_product_before_it() -> None:
    found = fused(linear(0), Activate((1,), "gelu"), Norm((2,), None, 1e-5))
    assert found == {0: Input(()), 1: linear(0, activation="gelu"), 3: Norm((1,), None, 1e-5)}


def test_an_activation_of_what_others_read_too_stays() -> None:
    steps = (linear(0), Activate((1,), "gelu"), Add((1, 2)))
    assert fused(*steps) == dict(enumerate((Input(()), *steps)))


@pytest.mark.parametrize("inputs", [(0, 1), (1, 0)])
def test_a_sum_joins_its_product(inputs: tuple[int, int]) -> None:
    found = fused(linear(0), Add(inputs), Norm((2,), None, 1e-5))
    assert found == {0: Input(()), 1: Linear((0, 0), ("a",)), 3: Norm((1,), None, 1e-5)}


def test_a_product_has_one_residual() -> None:
    found = fused(Norm((0,), None, 1e-5), linear(0), Add((1, 2)), Add((3, 0)))
    assert found[2] == Linear((0, 1), ("a",))
    assert found[4] == Add((2, 0))


def attention(*inputs: int) -> Attention:
    return Attention(inputs, 8, 1.0, None, ())


def test_query_key_and_value_become_one_layer() -> None:
    steps = (linear(0, "v"), linear(0, "q"), linear(0, "k"), attention(2, 3, 1), Norm((4,), None, 1e-5))
    assert fused(*steps) == {
        0: Input(()),
        1: Linear((0,), ("q", "k", "v")),
        4: attention(1, 1, 1),
        5: Norm((4,), None, 1e-5),
    }
    assert len(fused(*steps, mergeable=False)) == 6
    assert len(fused(*steps, Add((3, 5)))) == 7  # the key is read twice


def test_an_operation_that_the_kernels_lack_is_named() -> None:
    with pytest.raises(UnsupportedError, match="the operation sigmoid") as caught:
        NativeOps({}).sigmoid(None)
    assert isinstance(caught.value, LittlefootError)
