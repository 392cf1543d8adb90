"""Streams on the native kernels: chunks that are computed side by side, and the frames that they keep."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
from artifacts import few_bits, tiny
from families import speechlike

from littlefoot.artifact import Artifact
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native import model_file
from littlefoot.runtime.native.engine import NativeFrames, NativeStreams
from littlefoot.runtime.native.program import Program

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the native kernels are not installed: pip install ./native"
)


def live(bits: int, chunk: int, left: int, right: int = 2) -> Artifact:
    """A model of few bits, or of 32, which is in floating point."""
    streaming = {"chunk_frames": chunk, "left_context_frames": left, "right_context_frames": right}
    settings = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, **streaming}
    return tiny(**settings) if bits == 32 else few_bits(bits, 8, positions=8, front_end=8, **settings)


def streams_of(artifact: Artifact, threads: int) -> NativeStreams:
    return NativeStreams(model_file.encode(artifact, "stream"), threads)


def fed(frames: NativeFrames, waveform: np.ndarray, block: int) -> np.ndarray:
    blocks = [frames.feed(waveform[start : start + block]) for start in range(0, len(waveform), block)]
    return np.concatenate([*blocks, frames.finish()])


@pytest.mark.parametrize("bits", [2, 32])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_stream_beside_others_is_exactly_what_it_is_alone(threads: int, bits: int) -> None:
    artifact = live(bits, chunk=4, left=20)
    waveforms = [speechlike(1.0 + 0.1 * seed, seed) for seed in range(12)]
    blocks = [500 + 333 * number for number in range(12)]
    alone = [fed(streams_of(artifact, 1).frames(0), *each) for each in zip(waveforms, blocks, strict=True)]
    together = streams_of(artifact, threads)
    begin = Barrier(12)

    def run(number: int) -> np.ndarray:
        frames = together.frames(0)
        begin.wait()
        return fed(frames, waveforms[number], blocks[number])

    for _ in range(20):  # a chunk is so short that two need not meet
        with ThreadPoolExecutor(12) as pool:
            found = list(pool.map(run, range(12)))
        for mine, expected in zip(found, alone, strict=True):
            np.testing.assert_array_equal(mine, expected)
        if together.most_at_once > 1:
            break
    assert together.most_at_once > 1, "no two chunks were computed side by side"


@pytest.mark.parametrize("bits", [2, 32])
@pytest.mark.parametrize(("chunk", "left"), [(1, 1), (3, 5), (4, 16), (7, 40), (24, 9)])
def test_the_memory_of_a_stream_is_the_left_context(chunk: int, left: int, bits: int) -> None:
    artifact = live(bits, chunk, left)
    name = next(name for name in ("avx512", "avx2", "neon", "scalar") if name in native.available())
    program = Program(artifact, name, 1)
    features = native.front_end(artifact, program)
    assert features is not None
    waveform = speechlike(2.5)
    whole = native.NativeEngine(features, None, program).run(waveform)
    streams = NativeStreams(model_file.encode(artifact, "stream"), 1, name)
    for block in (700, 40000):
        np.testing.assert_allclose(fed(streams.frames(0), waveform, block), whole, atol=1e-4)
