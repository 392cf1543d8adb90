"""Calls of the native package that no artifact makes: refused, or safe between threads and processes."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artifacts import difference, few_bits, noise

from littlefoot import artifact as artifacts
from littlefoot.artifact import safetensors_io
from littlefoot.artifact.packing import levels_of
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native.layers import Scales
from littlefoot.runtime.registry import create

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the native kernels are not installed: pip install ./native"
)

LARGE = (1 << 16, (1 << 16) + 1, 1 << 31, 1 << 32, 1 << 61, 1 << 62, (1 << 63) - 1)


def misaligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins a byte behind where its numbers may."""
    room = np.zeros(array.nbytes + array.itemsize, np.uint8)
    start = 1 if room.ctypes.data % array.itemsize == 0 else 0
    found: np.ndarray = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    assert not found.flags.aligned
    return found


# Sizes


def test_heads_beyond_the_columns_are_refused() -> None:
    import littlefoot_native

    program = littlefoot_native.Program(16, 1)
    for heads, head_dim, offset in product((1, 2, *LARGE), (8, *LARGE), (0, 9, -1, *LARGE)):
        place = (0, offset)
        if heads * head_dim + offset <= 16 and offset >= 0:
            program.attention(place, place, place, heads, head_dim, 1.0)
            continue
        with pytest.raises(ValueError, match=r"the heads reach beyond|attention needs heads"):
            program.attention(place, place, place, heads, head_dim, 1.0)
    assert program.run(np.ones((3, 16), np.float32)).shape == (3, 16)


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_columns_without_end_are_refused(bits: int) -> None:
    import littlefoot_native

    levels = [] if bits == 8 else list(levels_of(bits))
    for columns in (0, -1, -8, *LARGE):
        with pytest.raises(ValueError, match="columns"):
            littlefoot_native.Product(np.zeros((4, 0), np.uint8), columns, bits, levels, 8)


@pytest.mark.parametrize("levels", [[-1, 0, 1], [-1, 1], [0] * 256])
def test_8_bits_have_no_levels(levels: list[int]) -> None:
    import littlefoot_native

    with pytest.raises(ValueError, match=f"{len(levels)} levels do not fit 8 bits"):
        littlefoot_native.Product(np.zeros((4, 2), np.uint8), 10, 8, levels, 8)


def test_sums_beyond_32_bits_are_refused() -> None:
    import littlefoot_native

    with pytest.raises(ValueError, match="need more than 32 bits"):
        littlefoot_native.Product(np.zeros((4, 8000), np.uint8), 64_000, 1, [-127, 127], 8)


def test_programs_without_end_are_refused() -> None:
    import littlefoot_native

    for width in (0, -1, *LARGE[1:]):
        with pytest.raises(ValueError, match="1 to 65536 input columns"):
            littlefoot_native.Program(width, 1)


def test_zero_points_beyond_their_bits_are_refused() -> None:
    import littlefoot_native

    matrix = littlefoot_native.Product(np.zeros((4, 2), np.uint8), 16, 1, [-1, 1], 4)
    with pytest.raises(ValueError, match="zero point 0 to 15"):
        littlefoot_native.Program(16, 1).linear(
            0, matrix, Scales(np.ones(4, np.float32), 1.0, 16, None, None), None
        )


def test_a_norm_over_time_of_a_huge_kernel_is_refused() -> None:
    import littlefoot_native

    with pytest.raises(ValueError, match="4096 taps at most"):
        littlefoot_native.FrontEnd(1).waveform_layer(
            np.ones((1, 4097), np.float32), 5, None, "time", None, None, 1e-5, "gelu"
        )


# Alignment


def test_misaligned_numbers_are_refused() -> None:
    import littlefoot_native

    program = littlefoot_native.Program(16, 1)
    half = littlefoot_native.Product(np.zeros((4, 32), np.uint8), 16, 16, [], 0)
    ones, off = np.ones(16, np.float32), misaligned(np.ones(16, np.float32))
    calls: list[Any] = [
        lambda: program.layer_norm(0, off, ones, 1e-5),
        lambda: program.add_vector(0, off),
        lambda: program.linear(0, half, None, misaligned(np.ones(4, np.float32))),
        lambda: half.multiply(misaligned(np.ones((3, 16), np.float32))),
        lambda: program.run(misaligned(np.ones((3, 16), np.float32))),
        lambda: program.run(np.ones((3, 16), np.float32), [misaligned(np.ones((1, 3, 3), np.float32))]),
        lambda: littlefoot_native.Product(np.zeros((4, 2), np.uint8), 16, 1, [-1, 1], 4).multiply(
            np.zeros((3, 16), np.uint8), misaligned(np.zeros((3, 4), np.int32))
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="must be aligned"):
            call()


def test_an_artifact_whose_tensors_are_misaligned_runs(tmp_path: Path) -> None:
    model = few_bits(2, 8, positions=8, front_end=8)
    saved = artifacts.save(model, tmp_path / "model")
    tensors, _ = safetensors_io.read(saved / "model.safetensors")
    assert all(tensor.flags.aligned for tensor in tensors.values())
    path = tmp_path / "shifted.safetensors"
    whole = (saved / "model.safetensors").read_bytes()
    length = int.from_bytes(whole[:8], "little")
    path.write_bytes((length + 1).to_bytes(8, "little") + whole[8 : 8 + length] + b" " + whole[8 + length :])
    shifted, _ = safetensors_io.read(path)
    for name, tensor in tensors.items():
        assert shifted[name].flags.aligned
        np.testing.assert_array_equal(shifted[name], tensor)
    waveform = misaligned(noise(3000))
    found = create(artifacts.load(saved)).run(waveform)
    np.testing.assert_array_equal(found, create(model).run(waveform.copy()))


# Threads and processes


def test_threads_may_share_a_product() -> None:
    import littlefoot_native

    rng = np.random.default_rng(0)
    levels = rng.choice(np.array([-1, 1], np.int8), (300, 512))
    packed = np.packbits(levels > 0, axis=1, bitorder="little")
    matrix = littlefoot_native.Product(packed, 512, 1, [-1, 1], 4)
    inputs = [rng.integers(0, 16, (200, 512)).astype(np.uint8) for _ in range(4)]
    expected = [a.astype(np.int32) @ levels.T.astype(np.int32) for a in inputs]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(10):
            for found, right in zip(pool.map(matrix.multiply, inputs), expected, strict=True):
                np.testing.assert_array_equal(found, right)


def test_threads_may_share_a_program() -> None:
    model = few_bits(2, 8, positions=8, front_end=8)
    engine = create(model, threads=2)
    clips = [noise(samples, seed) for seed, samples in enumerate((900, 4000, 2500, 7000))]
    expected = [create(model, threads=2).run(clip) for clip in clips]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for found, right in zip(pool.map(engine.run, clips), expected, strict=True):
                assert difference(found, right) < 1e-6


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted on Linux")
def test_a_native_engine_has_its_threads_once() -> None:
    """Front end and program share them, and take turns."""

    def threads() -> int:
        return len(os.listdir("/proc/self/task"))

    before = threads()
    engine = create(few_bits(2, 8, positions=8, front_end=8), threads=4)
    assert engine.name == "native"
    engine.run(noise(4000))
    assert threads() == before + 3  # the calling thread is the fourth


def test_a_step_that_is_added_meanwhile_does_not_change_a_run() -> None:
    import littlefoot_native

    matrix = littlefoot_native.Product(np.ones((900, 128), np.uint8), 64, 16, [], 0)

    def widen(program: Any) -> None:
        for _ in range(20):
            program.linear(0, matrix, None, None)
            program.layer_norm(0, None, None, 1e-5)

    for _ in range(2):
        program = littlefoot_native.Program(64, 2)
        program.layer_norm(0, None, None, 1e-5)
        x = np.random.default_rng(0).standard_normal((2000, 64)).astype(np.float32)
        with ThreadPoolExecutor(2) as pool:
            adding = pool.submit(widen, program)
            while not adding.done():
                try:
                    assert program.run(x).shape[1] in (64, 900)
                except RuntimeError as error:
                    assert "a step was added" in str(error)  # noqa: PT017
            adding.result()


FORKS = """
import os, sys, threading
import numpy as np
from artifacts import few_bits, noise
from littlefoot.runtime.registry import create
engine = create(few_bits(2, 8, positions=8, front_end=8), threads=3)
waveform = noise(20000)
expected = engine.run(waveform)
stop = False
def busy():
    while not stop:
        engine.run(waveform)
thread = threading.Thread(target=busy)
if sys.argv[1] == "busy":
    thread.start()
for _ in range(12):
    child = os.fork()
    if not child:
        same = all(np.array_equal(engine.run(waveform), expected) for _ in range(3))
        grandchild = os.fork()
        if not grandchild:
            os._exit(not np.array_equal(engine.run(waveform), expected))
        _, status = os.waitpid(grandchild, 0)
        del engine
        os._exit(not (same and status == 0))
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    assert np.array_equal(engine.run(waveform), expected)
stop = True
if sys.argv[1] == "busy":
    thread.join()
print("all the same")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes do not fork here")
@pytest.mark.parametrize("parent", ["idle", "busy"])
def test_after_a_fork_there_are_threads_again(parent: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, parent],
        cwd=Path(__file__).parents[1] / "support",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("all the same\n", 0), done.stderr
