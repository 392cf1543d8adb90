"""The campaign itself: it sees crashes, hangs, memory, foreign exceptions and wrong results."""

from __future__ import annotations

import random
from collections import Counter

import campaign
import campaign_examples
import pytest
from campaign import mutated

TRIES = 8


@pytest.mark.parametrize("kind", ["crash", "hang", "memory", "exception", "wrong"])
def test_each_kind_of_failure_is_counted(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "hang":
        monkeypatch.setattr(campaign, "HANG_SECONDS", 0.3)
    target = campaign.find("campaign_examples", kind)
    inputs = [campaign.made(target, target.seeds(), 1, index)[0] for index in range(TRIES)]
    expected = Counter(map(campaign_examples.fate, inputs))
    row = campaign.attack(("campaign_examples", kind), seed=1, tries=TRIES, seconds=None)
    assert row.failures == {kind: expected["fail"]}
    assert (row.tries, row.refused, row.read) == (TRIES, expected["refused"], expected["read"])
    assert all(expected[fate] for fate in ("fail", "refused", "read"))
    assert all(example.startswith(kind) for example in row.examples)


def test_a_try_can_be_repeated() -> None:
    target = campaign.find("campaign_examples", "wrong")
    first = [campaign.made(target, target.seeds(), 3, index) for index in range(50)]
    assert first == [campaign.made(target, target.seeds(), 3, index) for index in range(50)]
    assert first != [campaign.made(target, target.seeds(), 4, index) for index in range(50)]


def test_mutations_change_most_inputs() -> None:
    data = bytes(range(256)) * 10
    made = [mutated(random.Random(index), data, data[::-1]) for index in range(500)]
    assert len(set(made) - {data}) > 450
    assert max(map(len, made)) < 60 * len(data)
