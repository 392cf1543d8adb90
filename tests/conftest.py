"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compiled models go to a cache of the test's own, empty at first."""
    directory = tmp_path / "littlefoot-cache"
    monkeypatch.setenv("LITTLEFOOT_CACHE", str(directory))
    return directory
