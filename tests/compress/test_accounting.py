"""The sizes and run times that Yeh et al. (2022) count come out of their formulas."""

from __future__ import annotations

import programs
import pytest

from littlefoot.network.config import ModelConfig

accounting = programs.load("benchmarks/accounting.py")


@pytest.mark.parametrize(("bits", "megabytes"), [(16, 184.42), (2, 35.84), (1, 25.23)])
def test_the_papers_sizes(bits: int, megabytes: float) -> None:
    found = accounting.storage_mb(
        accounting.PAPER_PARAMETERS, accounting.BASE_LINEAR_WEIGHTS, bits, accounting.BASE_SHIFTS
    )
    assert found == pytest.approx(megabytes, abs=0.015)


@pytest.mark.parametrize(("bits", "megabytes"), [(16, 188.74), (2, 40.11), (1, 29.49)])
def test_the_sizes_of_the_public_geometry(bits: int, megabytes: float) -> None:
    base = ModelConfig.from_dict({"model_type": "wav2vec2"})
    assert accounting.linear_weights(base) == accounting.BASE_LINEAR_WEIGHTS
    assert accounting.model_storage_mb(base, bits) == pytest.approx(megabytes, abs=0.1)


@pytest.mark.parametrize(("bits", "share"), [(32, 1.0), (2, 0.15), (1, 0.12)])
def test_the_papers_run_times(bits: int, share: float) -> None:
    assert accounting.estimated_runtime(bits) == pytest.approx(share, abs=0.005)
