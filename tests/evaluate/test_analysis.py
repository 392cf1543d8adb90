"""What is said of layers is what their hidden states show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from conftest import Run
from families import NORM_ORDERS, RELATIVE, speechlike

from littlefoot import artifact
from littlefoot.errors import ConfigError
from littlefoot.evaluate.analysis import analyze, cka
from littlefoot.training.module import CTCModel

CLIPS = [speechlike(0.4, seed) for seed in range(3)]


@pytest.mark.parametrize("family", [*NORM_ORDERS, RELATIVE])
def test_layers_are_measured_on_their_hidden_states(family: str) -> None:
    made = oracle.tiny(family).artifact
    model = CTCModel.from_artifact(made).eval()
    with torch.no_grad():
        outputs = [model.encode(torch.from_numpy(clip)[None]).hidden_states for clip in CLIPS]
    found = analyze(made, CLIPS)
    for layer, motion in enumerate(found.layers):
        entered = torch.cat([states[layer][0] for states in outputs]).double()
        left = torch.cat([states[layer + 1][0] for states in outputs]).double()
        distance = (left - entered).norm(dim=1)
        assert motion.distance == pytest.approx(float(distance.mean()), rel=1e-4)
        assert motion.relative_distance == pytest.approx(
            float((distance / entered.norm(dim=1)).mean()), rel=1e-4
        )
        assert motion.cosine == pytest.approx(float(torch.cosine_similarity(entered, left).mean()), rel=1e-4)
    assert len(found.states) == made.config.num_hidden_layers + 1


def test_cka_is_its_formula() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((50, 4)).astype(np.float32), rng.standard_normal((50, 7)).astype(np.float32)
    a, b = x - x.mean(0), y - y.mean(0)
    expected = np.linalg.norm(b.T @ a) ** 2 / (np.linalg.norm(a.T @ a) * np.linalg.norm(b.T @ b))
    assert cka([x], [y])[0, 0] == pytest.approx(expected, rel=1e-4)


def test_cka_does_not_see_rotation_shift_and_scale() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((60, 6)).astype(np.float32)
    rotation = np.linalg.qr(rng.standard_normal((6, 6)))[0].astype(np.float32)
    assert cka([x], [3 * x @ rotation + 5])[0, 0] == pytest.approx(1.0, abs=1e-5)
    assert cka([x], [np.zeros_like(x)])[0, 0] == 0.0


def test_models_with_other_frame_rates_are_compared_at_the_same_moments(tmp_path: Path, run: Run) -> None:
    paths = [
        artifact.save(oracle.tiny(family).artifact, tmp_path / family)
        for family in ("wav2vec2-large", "log-mel")
    ]
    done = run("analyze", *paths, "--json")
    assert done.code == 0, done.err
    first, second = json.loads(done.out)
    count = oracle.tiny("wav2vec2-large").artifact.config.num_hidden_layers
    assert len(first["layers"]) == count
    np.testing.assert_allclose(np.diag(first["cka"]), 1.0, atol=1e-3)
    assert np.array(second["cka_with_first"]).shape == (len(second["layers"]) + 1, count + 1)


def test_a_table_and_a_picture(tmp_path: Path, run: Run) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra bench")
    path = artifact.save(oracle.tiny("wav2vec2-base").artifact, tmp_path / "model")
    for suffix in (".png", ".svg"):
        done = run("analyze", path, "--plot", tmp_path / f"picture{suffix}")
        assert done.code == 0, done.err
        assert (tmp_path / f"picture{suffix}").stat().st_size > 5000
    assert "CKA with the input's" in done.out


def test_nothing_to_analyse_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(ConfigError, match="no recording long enough"):
        analyze(oracle.tiny("wav2vec2-base").artifact, [np.zeros(10, np.float32)])
    path = artifact.save(oracle.tiny("wav2vec2-base").artifact, tmp_path / "model")
    twice = run("analyze", path, path)
    assert (twice.code, "named twice" in twice.err) == (2, True)
    assert run("analyze", path, "--data", tmp_path / "missing.wav").code == 1
