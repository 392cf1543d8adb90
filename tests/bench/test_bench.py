"""The parts of littlefoot bench, each by itself."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import artifacts
import numpy as np
import onnx
import onnxruntime
import oracle
import pytest
from families import speechlike

from littlefoot import artifact
from littlefoot.artifact import Artifact
from littlefoot.bench import compare, energy, macs, report, table, worker
from littlefoot.bench.entries import Entry
from littlefoot.bench.process import EntryError, Process
from littlefoot.bench.runner import BenchSettings, Row
from littlefoot.bench.summary import roofline_share
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.evaluate import statistics
from littlefoot.runtime import graph
from littlefoot.system import machine

# Multiply-accumulates


def counted(made: Artifact, samples: int) -> int:
    """Multiply-accumulates of the products in the graph, from the shapes that occur when it runs.

    A last tap of zeros, which some engine needs, is no part of the network; a symmetric Hann window's is.
    """
    model = graph.build(made).proto()
    reached = {value.name for value in model.graph.input}  # what depends on constants alone is computed once
    for node in model.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
    products = [
        node for node in model.graph.node if node.op_type in ("Conv", "MatMul") and reached & set(node.input)
    ]
    names = sorted({name for node in products for name in (*node.input[:2], *node.output)})
    kernels = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    window = made.config.conv_kernel[0]
    initial = {
        name: (*k.shape[:-1], k.shape[-1] - (k.ndim == 4 and k.shape[-1] != window and not k[..., -1].any()))
        for name, k in kernels.items()
        if k.ndim
    }
    inputs = {value.name for value in model.graph.input}
    del model.graph.output[:]
    wanted = [name for name in names if name not in initial and name not in inputs]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    values = session.run(wanted, {"waveform": np.zeros((1, samples), np.float32)})
    shapes = initial | {name: value.shape for name, value in zip(wanted, values, strict=True)}
    total = 0
    for node in products:
        outputs = int(np.prod(shapes[node.output[0]]))
        if node.op_type == "Conv":
            total += outputs * int(np.prod(shapes[node.input[1]][1:]))
        else:
            total += outputs * shapes[node.input[0]][-1]
    return total


SHARED = {
    "layer_blocks": [0, 0, 2, 2],
    "layer_maps": [0, 0, 0, 3],
    "num_hidden_layers": 4,
    "layer_norms": True,
    "layer_delta_rank": 2,
    "layer_depth_embedding": True,
}
PRUNED = {"layer_attention_heads": [1, 2], "layer_intermediate_size": [5, 24]}


@pytest.mark.parametrize("variant", oracle.VARIANTS)
def test_operations_of_every_family_are_those_of_its_graph(variant: str) -> None:
    made = oracle.tiny(variant).artifact
    assert sum(macs.macs(made.config, 8000).values()) == counted(made, 8000)


@pytest.mark.parametrize("changes", [SHARED, PRUNED], ids=["shared", "pruned"])
def test_operations_of_changed_layers_are_those_of_their_graph(changes: dict[str, Any]) -> None:
    made = artifacts.tiny(**changes)
    assert sum(macs.macs(made.config, 3000).values()) == counted(made, 3000)


def test_operations_in_8_bits_are_told_from_others() -> None:
    from littlefoot.compress.calibration import collect
    from littlefoot.compress.quantize import QuantizeConfig, quantize_static
    from littlefoot.compress.rounding import fit

    made = artifacts.tiny()
    assert macs.macs_by_width(made, 4000) == (0, sum(macs.macs(made.config, 4000).values()))
    inputs = collect(made, [speechlike(0.5)])
    scales = {each.layers: fit(each, made.weights) for each in inputs}
    narrow, wide = macs.macs_by_width(quantize_static(made, inputs, scales, QuantizeConfig()), 4000)
    frames = made.config.frames(4000)
    mixing = 2 * made.config.hidden_size * frames**2  # two layers; attention times values stays as it is
    assert narrow + wide == sum(macs.macs(made.config, 4000).values())
    assert wide >= mixing
    assert narrow > 0.5 * (narrow + wide)


# Statistics


def test_a_ratio_without_noise_is_settled() -> None:
    middle, low, high = statistics.median_interval([[2.0] * 3] * 4)
    assert (middle, low, high) == (2.0, 2.0, 2.0)
    assert statistics.is_settled(middle, low, high)


def test_what_differs_from_launch_to_launch_widens_the_interval() -> None:
    steady = [[1.0, 1.2, 0.8, 1.0]] * 4  # rounds scatter, launches agree
    moved = [[0.8] * 4, [1.0] * 4, [1.0] * 4, [1.2] * 4]
    _, low, high = statistics.median_interval(steady)
    _, lower, higher = statistics.median_interval(moved)
    assert higher - lower > high - low
    assert not statistics.is_settled(1.0, lower, higher)


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for seed in range(200):
        launches = generator.normal(1.0, 0.02, (8, 1))
        _, low, high = statistics.median_interval(launches + generator.normal(0, 0.02, (8, 6)), seed)
        hits += low <= 1.0 <= high
    assert hits / 200 > 0.85  # bootstraps over few launches are a little narrow


def test_models_that_cannot_be_told_apart_share_a_rank() -> None:
    scores = [5, 9, 9, 2]
    assert statistics.ranks(4, lambda a, b: scores[a] > scores[b] + 1) == [3, 1, 1, 4]


def test_equal_models_do_not_differ_and_worse_ones_do() -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(3, 12, 100)
    first = generator.binomial(words, 0.3)
    assert statistics.paired_difference(first, first, words) == (0, 0, 0, 1)
    second = first + (generator.random(100) < 0.3)
    difference, low, high, p_value = statistics.paired_difference(first, second, words)
    assert difference == pytest.approx((second.sum() - first.sum()) / words.sum())
    assert 0 < low < difference < high
    assert p_value < 0.01


def test_speakers_are_drawn_together_where_there_are_several() -> None:
    keys = [("a", "1"), ("a", "2"), ("b", "1"), ("a", "1"), ("a", "3"), ("a", "4"), ("a", ""), ("a", "")]
    assert statistics.clusters_of(keys).tolist() == [0, 1, 2, 0, 3, 4, 5, 6]
    assert statistics.clusters_of(keys[:4]).tolist() == [0, 1, 2, 3]  # three are too few to draw from
    sums = statistics.cluster_sums(np.array([[1, 2], [3, 4], [5, 6]]), np.array([7, 9, 7]))
    assert sums.tolist() == [[6, 8], [3, 4]]


def test_intervals_over_speakers_are_wider_where_speakers_differ() -> None:
    generator = np.random.default_rng(3)
    speakers = np.repeat(np.arange(10), 30)
    words = np.full(300, 10)
    second = generator.binomial(words, generator.uniform(0.1, 0.5, 10)[speakers])
    first = np.zeros(300, np.int64)
    widths = []
    for clusters in (np.arange(300), speakers):
        middle, low, high = statistics.paired_statistic(second, first, words, clusters, lambda a, b: a - b)
        assert middle == pytest.approx(second.sum() / 3000)
        assert low < middle < high
        widths.append(high - low)
    assert widths[1] > 2 * widths[0]


def test_pairs_tell_what_separate_intervals_would_not() -> None:
    generator = np.random.default_rng(1)
    words = generator.integers(3, 12, 200)
    first = generator.binomial(words, generator.uniform(0, 1, 200))  # some utterances are hard for both
    second = np.minimum(first + (generator.random(200) < 0.2), words)
    _, low, high, _ = statistics.paired_difference(first, second, words)
    draws = generator.integers(200, size=(500, 200))
    alone = np.ptp(np.percentile(first[draws].sum(1) / words[draws].sum(1), [2.5, 97.5]))
    assert low > 0
    assert high - low < alone / 2


def test_the_share_of_the_peak_is_that_of_the_same_operations_only(tmp_path: Path) -> None:
    row = Row(Entry("littlefoot", "x", "x"), tmp_path, precision="f32", times={(10.0, 1): [[0.5]]})
    counts, peaks = {"int8": 10**9, "rest": 10**9}, {"int8": 1e11, "f32": 2e10}
    share = roofline_share(row, counts, peaks, BenchSettings())
    assert share == pytest.approx((2e9 / 1e11 + 2e9 / 2e10) / 0.5)
    tables = replace(row, kernels="avx2", times={(10.0, 1): [[0.05]]})  # twice as fast as any multiplication
    assert roofline_share(tables, counts, peaks, BenchSettings()) is None


# The worker and its process


def test_the_clock_adds_less_than_a_hundredth() -> None:
    own: list[float] = []

    def work() -> None:
        start = time.perf_counter()
        end = start + 0.004
        while time.perf_counter() < end:
            pass
        own.append(time.perf_counter() - start)

    clocked = worker.clocked(work)
    assert np.median(np.array(clocked) / own[-len(clocked) :]) < 1.01
    assert worker.Worker().overhead() < 0.004 * 0.01


def test_a_short_recording_is_repeated_and_its_first_time_does_not_count() -> None:
    calls = []
    times = worker.clocked(lambda: calls.append(time.sleep(0.02 if not calls else 0.001)), 0.03)
    assert len(times) == len(calls) - 1 >= 1
    assert min(times) < 0.02


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return artifact.save(artifacts.tiny(), tmp_path / "model")


def entry(source: Path) -> dict[str, Any]:
    from dataclasses import asdict

    from littlefoot.bench.entries import Entry

    return asdict(Entry("one", "littlefoot", str(source)))


def test_a_model_answers_from_a_process_of_its_own(model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "clip.npy", speechlike(0.5))
    with Process(tmp_path / "cache") as process:
        found = process.ask("prepare", entry=entry(model), folder=str(tmp_path), samples=16_000)
        assert found["parameters"] == artifacts.tiny().parameters
        assert found["bytes"] == sum(path.stat().st_size for path in model.iterdir())
        loaded = process.ask("load", entry=entry(model), folder=str(tmp_path), threads=1)
        assert loaded["seconds"] > 0
        said = process.ask("transcribe", path=str(tmp_path / "clip.npy"))
        assert set(said) == {"text", "seconds", "cpu_seconds"}
        assert process.ask("turn", path=str(tmp_path / "clip.npy"))["seconds"] > 0
        assert process.ask("stream", path=str(tmp_path / "clip.npy")) is None  # not made for it
        # A hundred megabytes at least: an interpreter with numpy and an engine, and none of this process's.
        assert 5e7 < process.ask("peak_rss") < 1e9
        with pytest.raises(EntryError, match=r"FileNotFoundError.*missing\.npy"):
            process.ask("turn", path=str(tmp_path / "missing.npy"))
        assert process.ask("turn", path=str(tmp_path / "clip.npy"))["seconds"] > 0  # and it goes on
        os.kill(process.pid, signal.SIGSEGV)
        with pytest.raises(EntryError, match=r"ended during 'turn' \(SIGSEGV\)"):
            process.ask("turn", path=str(tmp_path / "clip.npy"))


def test_a_model_that_never_answers_is_given_up(tmp_path: Path) -> None:
    with Process(tmp_path, timeout=0.05) as process, pytest.raises(EntryError, match="no answer"):
        process.ask("peaks", threads=1)


def test_delays_of_a_stream_are_counted_from_the_first_word(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream:
        """Text 0.3 s after a word that begins at 0.2 s."""

        heard = 0

        def feed(self, samples: np.ndarray) -> SimpleNamespace:
            self.heard += len(samples)
            return SimpleNamespace(text="A" if self.heard >= 8000 else "", final=[])

        def finish(self) -> SimpleNamespace:
            return SimpleNamespace(text="", final=[SimpleNamespace(start=0.2, text="A")])

    found = worker.delays(Stream(), np.zeros(16_000, np.float32))
    assert found["first_partial"] == pytest.approx(0.3, abs=0.05)
    assert 0 <= found["finalisation"] < 0.05


# Energy


@pytest.fixture
def no_rapl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "has_rapl", lambda: False)


@pytest.mark.usefixtures("no_rapl")
@pytest.mark.parametrize(
    ("virtual", "in_table", "tdp", "kind", "says"),
    [
        (True, 100.0, None, report.UNAVAILABLE, "virtual machine"),
        (False, None, None, report.UNAVAILABLE, "in no table"),
        (False, 100.0, None, report.ESTIMATED, "100 W"),
        (True, None, 30.0, report.ESTIMATED, "30 W, as given"),
    ],
)
def test_energy_is_estimated_only_where_the_power_is_known(
    monkeypatch: pytest.MonkeyPatch,
    virtual: bool,
    in_table: float | None,
    tdp: float | None,
    kind: str,
    says: str,
) -> None:
    pytest.importorskip("codecarbon")
    monkeypatch.setattr(machine, "threads", lambda: 4)
    monkeypatch.setattr(energy, "is_virtual", lambda: virtual)
    monkeypatch.setattr(energy, "tdp_of_table", lambda: in_table)
    source = energy.find(tdp)
    assert source.kind == kind
    assert says in source.detail
    assert source.watts_per_thread == (None if kind == report.UNAVAILABLE else (tdp or 100) / 4)


def test_without_codecarbon_energy_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "find_spec", lambda name: None)
    source = energy.find()
    assert source.kind == report.UNAVAILABLE
    assert "pip install" in source.detail
    assert energy.carbon(None) == (None, report.UNAVAILABLE)


def test_an_unknown_processor_has_no_power(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("codecarbon")
    monkeypatch.setattr(machine, "processor", lambda: "Nobody's Processor 1")
    assert energy.tdp_of_table() is None
    monkeypatch.setattr(machine, "processor", lambda: "AMD EPYC 7763")
    assert energy.tdp_of_table() == 280


def test_measured_energy_is_the_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    codecarbon = pytest.importorskip("codecarbon")
    calls: list[str] = []

    class Tracker:
        final_emissions_data = SimpleNamespace(cpu_energy=2.0, ram_energy=9.0)

        def __init__(self, **options: Any) -> None:
            assert options["tracking_mode"] == "machine"

        def start(self) -> None:
            calls.append("start")

        def stop(self) -> None:
            calls.append("stop")

    monkeypatch.setattr(codecarbon, "OfflineEmissionsTracker", Tracker)
    assert energy.measured_joules(lambda: calls.append("work")) == 2 * 3.6e6
    assert calls == ["start", "work", "stop"]


def test_carbon_is_a_countrys_or_the_worlds() -> None:
    pytest.importorskip("codecarbon")
    world, whose = energy.carbon(None)
    france, its = energy.carbon("fra")
    assert world is not None
    assert france is not None
    assert france < world / 4
    assert "world" in whose
    assert "France" in its
    with pytest.raises(ConfigError, match="--country XXX is unknown"):
        energy.carbon("XXX")


# Reports


def row(name: str, **changes: Any) -> report.Model:
    values: dict[str, Any] = {
        "name": name,
        "kind": "littlefoot",
        "source": name,
        "bytes": 10_000_000,
        "peak_rss_bytes": 200_000_000,
        "wer": 0.2,
        "wer_interval": (0.1, 0.3),
        "times_as_fast": 2.0,
        "times_as_fast_interval": (1.98, 2.02),
        "settled": True,
    }
    return report.Model(**{**values, **changes})


def made(*models: report.Model, fingerprint: str = "f") -> report.Report:
    return report.Report(
        created="2026-01-01T00:00:00+00:00",
        command="littlefoot bench",
        seconds_taken=1,
        baseline=models[0].name,
        lengths_s=[10],
        threads=[1],
        headline_s=10,
        launches=1,
        rounds=1,
        measuring_overhead=0,
        notes=[],
        machine=report.Machine(
            processor="P",
            instructions=[],
            virtual=False,
            threads=2,
            memory_bytes=None,
            platform="x",
            versions={},
            load_before=None,
            load_after=None,
            peak_ops_per_s={},
        ),
        energy=report.Energy(source=report.UNAVAILABLE, detail="", g_co2_per_kwh=None, co2_source=""),
        data=report.Data(
            manifests=[],
            split="test",
            sets={"a": 1},
            seconds=60,
            words=10,
            pseudo_labelled=[],
            fingerprint=fingerprint,
            failed=[],
        ),
        utterances=[],
        models=list(models),
    )


def test_a_report_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = made(row("a"), row("b", error="broken"))
    written.save(tmp_path / "r.json")
    assert report.load(tmp_path / "r.json") == written


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    with pytest.raises(LittlefootError, match="cannot be read"):
        report.load(path)
    path.write_text('{"schema_version": 1}')
    with pytest.raises(LittlefootError, match="not a report of littlefoot bench"):
        report.load(path)
    made(row("a")).model_copy(update={"schema_version": 99}).save(path)
    with pytest.raises(LittlefootError, match="schema version 99"):
        report.load(path)


def test_the_readme_of_the_schema_names_every_figure() -> None:
    text = (Path(__file__).parents[2] / "docs" / "bench.md").read_text(encoding="utf-8")
    missing = [name for name in report.Model.model_fields if f"`{name}`" not in text]
    assert not missing


@pytest.mark.parametrize(
    ("changes", "measure", "regression"),
    [
        ({"bytes": 10_400_000}, "MB", False),
        ({"bytes": 10_600_000}, "MB", True),
        ({"wer": 0.25}, "WER %", True),
        ({"wer": 0.1}, "WER %", False),
        ({"times_as_fast": 1.5, "times_as_fast_interval": (1.4, 1.6)}, "times as fast as first", True),
        ({"times_as_fast": 1.5, "times_as_fast_interval": (0.5, 2.5)}, "times as fast as first", False),
        ({"times_as_fast": 3.0, "times_as_fast_interval": (2.9, 3.1)}, "times as fast as first", False),
        ({"error": "crashed"}, "models that work", True),
    ],
)
def test_a_regression_is_beyond_threshold_and_chance(
    changes: dict[str, Any], measure: str, regression: bool
) -> None:
    old, new = made(row("first"), row("a")), made(row("first"), row("a", **changes))
    changed, _ = compare.compare(new, old, 0.05)
    (found,) = [change for change in changed if change.model == "a" and change.measure == measure]
    assert found.regression == regression
    assert [change for change in changed if change.regression] == ([found] if regression else [])


def test_only_what_is_the_same_is_compared() -> None:
    old, new = made(row("first"), row("a")), made(row("a"), row("b"), fingerprint="g")
    changed, notes = compare.compare(new, old)
    assert {change.measure for change in changed} == {"MB", "peak MB"}
    assert any("utterances" in note for note in notes)
    assert any("baseline" in note for note in notes)
    assert {"b is new", "first is gone"} <= set(notes)


def test_a_table_goes_between_its_marks_and_nowhere_else(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    path.write_text("# Before\n\n<!-- bench -->\nold\n<!-- /bench -->\n\nafter\n")
    table.write_markdown(path, made(row("a"), row("b|c", error="no *model*")))
    text = path.read_text()
    assert text.startswith("# Before\n\n<!-- bench -->\n| model | MB |")
    assert text.endswith("<!-- /bench -->\n\nafter\n")
    assert "\nold\n" not in text
    assert "| b\\|c |" in text
    assert "no \\*model\\*" in text
    path.write_text("# Mine\n")
    with pytest.raises(LittlefootError, match="has no lines <!-- bench -->"):
        table.write_markdown(path, made(row("a")))
    assert path.read_text() == "# Mine\n"


def test_a_ratio_that_is_not_settled_shows_its_interval() -> None:
    text = table.markdown(
        made(
            row("a"), row("b", settled=False, times_as_fast_interval=(1.5, 2.6)), row("c", times_as_fast=3.0)
        )
    )
    assert "2.00 (1.50 - 2.60)" in text
    assert "| 3.00 |" in text


def test_the_worker_imports_nothing_that_a_model_does_not_need() -> None:
    import subprocess

    code = "import sys, littlefoot.bench.worker; print('numpy' in sys.modules, 'openvino' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
