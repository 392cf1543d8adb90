"""A disk that fills up while a model trains, and a cache that several processes fill at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from artifacts import noise, tiny
from tones import write_recipe, write_set

from littlefoot import artifact
from littlefoot.runtime import cache
from littlefoot.runtime.registry import create

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(place)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def littlefoot(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    command = [sys.executable, "-m", "littlefoot", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_a_full_disk_ends_training_with_a_remedy_and_it_goes_on(tmp_path: Path, small_disk: Path) -> None:
    more = {"steps": 20, "checkpoint_minutes": 0.0, "eval_every": 10}
    recipe = write_recipe(tmp_path, write_set(tmp_path, 8), **more)
    whole = littlefoot("train", recipe, "-o", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    full = littlefoot("train", recipe, "-o", small_disk / "run" / "out")
    assert full.returncode == 1
    assert (
        "No space left on device): free some space or correct the permissions, then run the same command "
        "with --resume" in (full.stderr)
    )
    assert "Traceback" not in full.stderr
    assert not list(small_disk.rglob("*.partial"))
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    again = littlefoot("train", recipe, "-o", small_disk / "run" / "out", "--resume")
    assert again.returncode == 0, again.stderr
    expected, found = (artifact.load(path) for path in (tmp_path / "whole", small_disk / "run" / "out"))
    for name, weight in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], weight, err_msg=name)


FILL = """
import json, sys
from artifacts import noise, tiny
from littlefoot.runtime.registry import create
sys.stdin.readline()
print(json.dumps(create(tiny(int(sys.argv[1])), "openvino", 1, "f32").run(noise(2000)).tolist()))
"""


@pytest.mark.parametrize("seed", range(5))
def test_processes_that_fill_the_cache_at_once_say_the_same(seed: int, cache_directory: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    command = [sys.executable, "-c", FILL, str(seed)]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(4)
    ]
    said = []
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in started:
        said.append(json.loads(process.communicate()[0]))
        assert process.returncode == 0
    (entry,) = cache_directory.iterdir()
    assert cache.load(entry.name) is not None
    expected = create(tiny(seed), "openvino", 1, "f32", cached=False).run(noise(2000))
    for each in [*said, create(tiny(seed), "openvino", 1, "f32").run(noise(2000)).tolist()]:
        np.testing.assert_allclose(each, expected, atol=1e-5)
