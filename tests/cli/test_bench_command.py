"""littlefoot bench on tiny random models, from end to end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import artifacts
import checkpoints
import oracle
import pytest
import soundfile
from conftest import Run
from families import speechlike

from littlefoot import artifact
from littlefoot.artifact import sizes
from littlefoot.bench import energy, page, quiet, report, runner, summary
from littlefoot.bench.process import Process

SECONDS = (0.6, 1.6, 2.0)
QUICK = ("--lengths", "0.5,1", "--threads", "1", "--rounds", "2", "--busy")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    made = artifacts.talkative(artifacts.tiny(), speechlike(1.0))
    return artifact.save(made, tmp_path / "model")


@pytest.fixture
def streaming(tmp_path: Path) -> Path:
    changes = {"chunk_frames": 8, "left_context_frames": 16, "right_context_frames": 2}
    made = artifacts.tiny(seed=1, **changes, feat_extract_norm="layer")
    return artifact.save(artifacts.talkative(made, speechlike(1.0)), tmp_path / "streaming")


@pytest.fixture
def damaged(model: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "damaged"
    shutil.copytree(model, copy)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-5] ^= 0xFF
    (copy / "model.safetensors").write_bytes(weights)
    return copy


def manifest(folder: Path, texts: list[str]) -> Path:
    folder.mkdir()
    lines = ["id\tpath\tseconds\tspeaker\tsplit\ttext"]
    for index, (seconds, text) in enumerate(zip(SECONDS, texts, strict=True)):
        soundfile.write(folder / f"{index}.wav", 0.1 * speechlike(seconds, index), 16_000)
        lines.append(f"{index}\t{index}.wav\t{seconds}\tnobody\ttest\t{text}")
    (folder / "manifest.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "manifest.tsv"


def test_a_row_for_every_model_whatever_happens_to_it(
    run: Run, model: Path, streaming: Path, damaged: Path, tmp_path: Path
) -> None:
    data = manifest(tmp_path / "set", ["ONE TWO", "THREE", "FOUR FIVE SIX"])
    (tmp_path / "set" / "2.wav").write_bytes(b"no audio")
    outputs = [tmp_path / "out" / name for name in ("r.json", "r.html", "r.md")]
    result = run(
        *("bench", model, damaged, streaming, "--data", data, *QUICK, "--launches", "2", "--tdp", "10"),
        *("--json", outputs[0], "--html", outputs[1], "--markdown", outputs[2]),
    )
    assert result.code == 1  # of the damaged model and the damaged recording
    assert [line.split()[1] for line in result.out.splitlines() if line.startswith("│")] == [
        *("model", "damaged", "streaming"),  # the rows
        "streaming",  # of the table of streaming models
    ]
    assert any("damaged tensors" in line for line in result.out.splitlines() if "│ damaged" in line)
    assert "littlefoot: damaged: " in result.err
    assert "damaged tensors" in result.err
    assert "littlefoot: 2: " in result.err
    found = report.load(outputs[0])
    first, broken, live = found.models
    assert found.baseline == "model"
    assert broken.error is not None
    assert "damaged tensors" in broken.error
    assert broken.x_realtime is None
    assert found.data.sets == {"set": 2}
    assert found.data.words == 3
    assert len(found.data.failed) == 1

    for row in (first, live):
        assert row.error is None
        missing = {name for name in report.Model.model_fields if getattr(row, name) is None}
        assert missing <= {"error", "wer_difference", "streaming"}
        assert row.parameters == artifact.load(Path(row.source)).parameters
        assert row.bytes == sizes.disk_bytes(Path(row.source))
        assert [(speed.audio_s, speed.threads) for speed in row.speed] == [(0.5, 1), (1, 1)]
        assert row.x_realtime == row.speed[1].x_realtime == pytest.approx(1 / row.speed[1].rtf)
        assert row.latency_ms.p50 <= row.latency_ms.p95 <= row.latency_ms.p99
        assert row.load_spread_s[0] <= row.load_s <= row.load_spread_s[1]
        assert 0 < row.roofline_share < 1
        assert row.energy_source == report.ESTIMATED
        # 10 W shared by the threads, and grams per hour of audio
        assert row.energy_j_per_audio_s == pytest.approx(10 / found.machine.threads * row.cpu_s_per_audio_s)
        carbon = row.energy_j_per_audio_s * 3600 / 3.6e6 * found.energy.g_co2_per_kwh
        assert row.co2_g_per_audio_h == pytest.approx(carbon)
        assert set(row.per_set) == {"set"}
        assert len(row.hypotheses) == len(found.utterances) == 2
        assert sum(h.errors for h in row.hypotheses) == pytest.approx(row.wer * 3)
    assert first.times_as_fast == 1
    assert first.streaming is None
    assert live.wer_difference.wer == pytest.approx(live.wer - first.wer)
    assert live.streaming.algorithmic_latency_ms == pytest.approx(
        artifact.load(streaming).config.algorithmic_latency / 16
    )
    assert 0 < found.measuring_overhead < 0.01
    assert (outputs[0].parent / found.utterances[0].path).exists()

    html = outputs[1].read_text(encoding="utf-8")
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in html
    begin = html.index('id="data">') + len('id="data">')
    content = json.loads(html[begin : html.index("</script>", begin)])
    assert [row["name"] for row in content["report"]["models"]] == ["model", "damaged", "streaming"]
    assert outputs[2].read_text(encoding="utf-8").startswith("<!-- bench -->\n| model | MB |")


class Dying(Process):
    """A process that the system kills when it has recognised something."""

    def ask(self, do: str, **arguments: Any) -> Any:
        if do == "turn":
            os.kill(self._process.pid, signal.SIGKILL)
        return super().ask(do, **arguments)


def test_a_crash_half_way_leaves_the_others_alone_and_texts_are_not_needed(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = artifact.save(artifacts.tiny(seed=2), tmp_path / "other")

    def start(row: runner.Row) -> Process:
        return (Dying if row.entry.name == "model" else Process)(row.folder / "cache")

    def joules(work: Callable[[], None]) -> float:
        work()
        return 30.0

    monkeypatch.setattr(runner.Row, "start", start)
    monkeypatch.setattr(runner, "ENERGY_SECONDS", 0.05)
    monkeypatch.setattr(energy, "find", lambda tdp: energy.Source(report.MEASURED, "by a test"))
    monkeypatch.setattr(energy, "measured_joules", joules)
    data = manifest(tmp_path / "set", [""] * 3)
    path = tmp_path / "r.json"
    result = run("bench", model, other, "--data", data, *QUICK, "--launches", "1", "--json", path)
    assert result.code == 1
    found = report.load(path)
    first, second = found.models
    assert first.error is not None
    assert "SIGKILL" in first.error
    assert first.load_cold_s is not None  # what was known before
    assert found.baseline == "other"
    assert (second.error, second.times_as_fast) == (None, 1)
    assert second.wer is None
    assert second.hypotheses[0].errors is None
    assert found.data.words is None
    assert 0 < second.energy_j_per_audio_s <= 30
    assert (second.energy_source, first.energy_source) == (report.MEASURED, report.UNAVAILABLE)
    assert {"WER", "CER"}.isdisjoint(result.out.split())
    page.save(found, tmp_path / "r.html")


def test_what_became_worse_is_said_and_ends_with_1(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    assert run("bench", model, *QUICK, "--launches", "1", "--json", old).code == 0
    report_of_today = report.load(old)
    monkeypatch.setattr(runner, "measure", lambda *arguments: None)
    monkeypatch.setattr(summary, "summarise", lambda *arguments, **more: report_of_today)
    result = run("bench", model, "--compare", old, "--json", new)
    assert result.code == 0
    assert "REGRESSION" not in result.out
    (row,) = report_of_today.models
    smaller = row.model_copy(update={"bytes": row.bytes // 2})
    report_of_today.model_copy(update={"models": [smaller]}).save(old)
    result = run("bench", model, "--compare", old)
    assert result.code == 1
    assert "REGRESSION model: MB" in result.out
    assert run("bench", model, "--compare", old, "--threshold", "1.5").code == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--baseline", "kaldi"), "--baseline kaldi is unknown"),
        (("--baseline", "faster-whisper"), "needs a model of its own"),
        (("--lengths", "2,two"), "--lengths '2,two'"),
        (("--lengths", "2,2"), "--lengths '2,2'"),
        (("--lengths", "nan"), "--lengths 'nan'"),
        (("--json", "."), ". is a folder: name a file"),
        (("--precision", "fp8"), "precision 'fp8' is unknown"),
        (("--threads", "1.5"), "whole numbers"),
        (("--country", "XXX"), "--country XXX"),
        (("littlefoot-en",), "littlefoot-en is given twice"),
    ],
)
def test_wrong_usage_is_told_before_the_work(run: Run, arguments: tuple[str, ...], says: str) -> None:
    result = run("bench", "littlefoot-en", *arguments)
    assert result.code == 2
    assert says in result.err


def test_an_old_report_that_is_none_is_told_before_the_work(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("{}")
    result = run("bench", model, "--compare", tmp_path / "old.json")
    assert result.code == 1
    assert "not a report of littlefoot bench" in result.err


@pytest.mark.slow
def test_peers_say_the_same_and_those_not_installed_are_left_out(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in ("nncf", "ctranslate2") else real(name)
    )
    model = checkpoints.write(oracle.tiny("wav2vec2-large").model, tmp_path / "model")
    path = tmp_path / "r.json"
    data = manifest(tmp_path / "set", ["ONE TWO", "THREE", "FOUR FIVE SIX"])
    result = run(
        *("bench", model, "--data", data, "--baseline", "all", *QUICK, "--launches", "1", "--json", path)
    )
    assert result.code == 0
    assert "openvino-nncf is left out: not installed: nncf" in result.err
    assert "ctranslate2 is left out: not installed: ctranslate2" in result.err
    ours, *baselines = report.load(path).models
    assert [row.kind for row in baselines] == ["transformers", "transformers-bf16", "onnxruntime-int8"]
    texts = [[hypothesis.text for hypothesis in row.hypotheses] for row in (ours, baselines[0])]
    assert texts[0] == texts[1]
    assert any(texts[0])
    assert all(row.x_realtime and row.bytes and row.load_s for row in baselines)
    assert baselines[0].roofline_share is not None
    assert ours.macs_per_audio_s == baselines[0].macs_per_audio_s


BROWSER = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no chromium is installed")
def test_the_page_draws_in_a_browser(run: Run, model: Path, streaming: Path, tmp_path: Path) -> None:
    data = manifest(tmp_path / "set", ["ONE TWO", "<b>THREE</b>", "FOUR FIVE SIX"])
    html = tmp_path / "r.html"
    arguments = ("--data", data, *QUICK, "--launches", "1", "--html", html)
    assert run("bench", model, streaming, *arguments).code == 0
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run")
    quiet = ("--disable-background-networking", "--disable-quic", f"--user-data-dir={tmp_path / 'profile'}")
    command = [str(BROWSER), *options, *quiet, "--virtual-time-budget=2000", "--dump-dom", html.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert dom.count("<circle") == 2 * 3  # models, plots
    assert dom.count("<svg") == 3
    assert dom.count('<th scope="row">streaming</th>') == 5  # the tables that have it
    assert dom.count("<audio") == 3
    assert "<b>" not in dom


def test_a_file_without_marks_is_refused_before_the_work(run: Run, model: Path, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Mine\n")
    result = run("bench", model, "--markdown", tmp_path / "README.md")
    assert (result.code, result.out) == (1, "")
    assert "has no lines <!-- bench -->" in result.err
    assert (tmp_path / "README.md").read_text() == "# Mine\n"


def test_a_busy_machine_is_refused(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quiet, "others", lambda: 0.8)
    monkeypatch.setattr(quiet, "PATIENCE", 0.0)
    arguments = [option for option in QUICK if option != "--busy"]
    result = run("bench", model, *arguments, "--launches", "1", "--json", tmp_path / "b.json")
    assert result.code == 1
    assert "measure nevertheless, with --busy" in result.err
    assert not (tmp_path / "b.json").exists()
    result = run("bench", model, *arguments, "--launches", "1", "--busy", "--json", tmp_path / "b.json")
    assert result.code == 0
    assert "The machine was busy" in result.err
    assert report.load(tmp_path / "b.json").machine.other_programs == 0.8
