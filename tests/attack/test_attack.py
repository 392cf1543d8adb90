"""Every reader withstands a short attack; ``make attack`` and ``make attack-long`` take more time."""

from __future__ import annotations

import pytest
from campaign import attack, find, targets


@pytest.mark.slow
@pytest.mark.parametrize("place", targets(), ids=lambda place: place[1])
def test_a_reader_withstands_a_short_attack(place: tuple[str, str]) -> None:
    tries = max(5, round(150 / find(*place).slowness))
    row = attack(place, seed=0, tries=tries, seconds=None)
    assert not row.failures, row.examples
    assert row.refused > 0
    assert row.tries == tries
