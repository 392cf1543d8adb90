"""The encoder, played in PyTorch, says what transformers says, for every family it describes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from families import FULL_SIZE, speechlike
from hypothesis import given
from hypothesis import strategies as st
from oracle import VARIANTS, Oracle, build, padded, tiny

from littlefoot.network.distances import distance_rows, relative_buckets
from littlefoot.network.encoder import EncoderOutput, encode
from littlefoot.training.module import CTCModel
from littlefoot.training.torch_ops import TorchOps

TOLERANCE = 1e-4
SECONDS = (0.02, 0.1, 0.5, 1.3, 4.0)


@pytest.fixture(params=VARIANTS)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return tiny(request.param)


def ours(oracle: Oracle, waveforms: np.ndarray, lengths: np.ndarray | None = None) -> EncoderOutput:
    """Encode (B, T) with PyTorch, in evaluation."""
    weights = {name: torch.from_numpy(value) for name, value in oracle.artifact.weights.items()}
    sizes = None if lengths is None else torch.from_numpy(lengths)
    with torch.no_grad():
        return encode(TorchOps(weights), oracle.artifact.config, torch.from_numpy(waveforms), sizes)


def speech(oracle: Oracle, seconds: float, seed: int = 0) -> np.ndarray:
    """A waveform (T,), long enough for a frame of the model."""
    return speechlike(max(seconds, (oracle.artifact.config.shortest + 0.5) / 16_000), seed)


def worst(a: Any, b: Any) -> float:
    """The largest difference; shapes must agree."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


@pytest.mark.parametrize("seconds", SECONDS)
def test_logits_are_those_of_transformers(oracle: Oracle, seconds: float) -> None:
    waveform = speech(oracle, seconds)
    assert worst(ours(oracle, waveform[None]).logits[0], oracle.logits(waveform)) <= TOLERANCE


def test_frames_are_as_many_as_the_configuration_says(oracle: Oracle) -> None:
    config = oracle.artifact.config
    for samples in (config.shortest, config.shortest + 1, 1999, 4000):
        frames = ours(oracle, np.ones((1, samples), np.float32)).logits.shape[1]
        assert frames == config.frames(samples) > 0


def test_hidden_states_and_features_are_those_of_transformers(oracle: Oracle) -> None:
    waveform = speechlike(0.7)
    output = ours(oracle, waveform[None])
    encoder = oracle.model.base_model.encoder
    blocks = encoder.layers if hasattr(encoder, "layers") else encoder.encoder.layer
    seen: list[torch.Tensor] = []
    hooks = [blocks[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].clone()))]
    hooks += [
        block.register_forward_hook(
            lambda module, args, out: seen.append((out if torch.is_tensor(out) else out[0]).clone())
        )
        for block in blocks
    ]
    try:
        oracle.logits(waveform)
    finally:
        for hook in hooks:
            hook.remove()
    assert len(output.hidden_states) == len(seen) == oracle.artifact.config.num_hidden_layers + 1
    for layer, (found, expected) in enumerate(zip(output.hidden_states, seen, strict=True)):
        assert worst(found, expected) <= TOLERANCE, layer
    with torch.no_grad():
        features = oracle.model.base_model.feature_extractor(torch.from_numpy(waveform)[None])
    assert worst(output.features, features.transpose(1, 2)) <= TOLERANCE


@pytest.mark.parametrize("fill", [0.0, 3.0])
def test_an_utterance_in_a_padded_batch_gets_what_it_gets_alone(oracle: Oracle, fill: float) -> None:
    waveforms = [speech(oracle, seconds, seed) for seed, seconds in enumerate((1.0, 0.4, 0.73, 0.02))]
    output = ours(oracle, *padded(waveforms, fill))
    assert output.frame_lengths is not None
    for row, waveform in enumerate(waveforms):
        alone = ours(oracle, waveform[None]).logits[0]
        assert output.frame_lengths[row] == len(alone)
        assert worst(output.logits[row, : len(alone)], alone) <= 1e-5


@pytest.mark.parametrize("samples", [3, 39])
def test_an_utterance_too_short_for_a_frame_leaves_the_others_alone(oracle: Oracle, samples: int) -> None:
    long, short = speechlike(0.5), speechlike(0.5)[:samples]
    assert oracle.artifact.config.frames(samples) == 0
    output = ours(oracle, *padded([long, short]))
    assert output.frame_lengths is not None
    assert output.frame_lengths[1] <= 0
    assert torch.isfinite(output.logits).all()
    assert worst(output.logits[0], ours(oracle, long[None]).logits[0]) <= 1e-5


def test_gradients_flow_to_every_parameter(oracle: Oracle) -> None:
    model = CTCModel.from_artifact(oracle.artifact).train()
    torch.manual_seed(0)
    waveforms, lengths = (torch.from_numpy(a) for a in padded([speechlike(0.5), speechlike(0.3, 1)]))
    time_mask = (
        torch.arange(model.config.feature_frames(8000)) % 4 == 0
    )  # or the mask embedding plays no part
    logits, frames = model(waveforms, lengths, time_mask.expand(2, -1))
    loss = sum(
        torch.log_softmax(row[:count], -1)[:, 3].sum() for row, count in zip(logits, frames, strict=True)
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # A norm right after a convolution takes its bias out again; softmax does so with the keys' bias.
        if not name.endswith(("conv.bias", "k_proj.bias")):
            assert parameter.grad.abs().max() > 0, name


def test_gradients_are_those_of_transformers(oracle: Oracle) -> None:
    waveform = torch.from_numpy(speechlike(0.4))[None]
    gradients = []
    model = CTCModel.from_artifact(oracle.artifact).eval()
    for run in (lambda x: oracle.model(x).logits, lambda x: model.encode(x).logits):
        given_waveform = waveform.clone().requires_grad_()
        run(given_waveform).square().sum().backward()
        gradients.append(given_waveform.grad)
    expected, found = gradients
    assert found is not None
    assert expected is not None
    assert worst(found, expected) <= TOLERANCE * float(expected.abs().max())


@given(quarter=st.integers(2, 100), beyond=st.integers(1, 1000))
def test_buckets_of_distances_are_those_of_transformers(quarter: int, beyond: int) -> None:
    check_buckets(4 * quarter, quarter + beyond)


@pytest.mark.parametrize(("num_buckets", "limit"), [(320, 800), (32, 80), (32, 128)])
def test_buckets_of_published_models(num_buckets: int, limit: int) -> None:
    check_buckets(num_buckets, limit)


def check_buckets(num_buckets: int, limit: int) -> None:
    from transformers.models.wavlm.modeling_wavlm import WavLMAttention  # takes seconds to import

    attention = WavLMAttention(8, 2, num_buckets=num_buckets, max_distance=limit)
    distances = np.arange(-3 * limit, 3 * limit + 1)
    expected = attention._relative_positions_bucket(torch.from_numpy(distances)).numpy()
    table = relative_buckets(num_buckets, limit)
    assert table.shape == (2 * limit + 1,)
    np.testing.assert_array_equal(table[np.clip(distances, -limit, limit) + limit], expected)


@pytest.mark.parametrize(("buckets", "limit"), [(256, 512), (8, 24), (16, 16), (32, 512)])
def test_rows_of_distances_are_those_of_transformers(buckets: int, limit: int) -> None:
    from transformers.models.sew_d.modeling_sew_d import make_log_bucket_position  # takes seconds to import

    distances = np.arange(-3 * limit, 3 * limit + 1)
    found = make_log_bucket_position(torch.from_numpy(distances), buckets, limit).long()
    expected = (found + buckets).clamp(0, 2 * buckets - 1).numpy()
    table = distance_rows(buckets, limit)
    assert table.shape == (2 * limit + 1,)
    np.testing.assert_array_equal(table[np.clip(distances, -limit, limit) + limit], expected)


@pytest.mark.slow
@pytest.mark.parametrize("family", FULL_SIZE)
def test_full_size_models_are_those_of_transformers(family: str) -> None:
    oracle = build(family, **FULL_SIZE[family])
    for seconds in (0.5, 5.0):
        waveform = speechlike(seconds)
        assert worst(ours(oracle, waveform[None]).logits[0], oracle.logits(waveform)) <= TOLERANCE
