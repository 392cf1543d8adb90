"""Summarise measurements in a report: medians, intervals, error rates and ranks."""

from __future__ import annotations

import hashlib
import os
import platform
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any

import numpy as np

from littlefoot.bench import energy, report
from littlefoot.bench.runner import BenchSettings, Measured, Row
from littlefoot.bench.scores import Scored
from littlefoot.evaluate.metrics import normalize_text, word_errors
from littlefoot.evaluate.statistics import (
    is_settled,
    median_interval,
    paired_difference,
    percentiles,
    ranks,
    ratios,
)
from littlefoot.system import machine

PACKAGES = (
    "littlefoot", "numpy", "openvino", "onnxruntime", "torch", "transformers", "nncf", "ctranslate2",
    "faster-whisper", "codecarbon",
)  # fmt: skip


def summarise(
    measured: Measured,
    settings: BenchSettings,
    manifests: Sequence[str],
    split: str,
    scored: bool = True,
    notes: Sequence[str] = (),
    command: str = "",
    seconds_taken: float = 0.0,
    load_before: float | None = None,
) -> report.Report:
    """Make the report of a run.

    Args:
        scored: True compares texts with the references.
        notes: remarks for the reader of the report.
        load_before: ``load_average`` at the beginning.

    Raises ConfigError for an unknown country.
    """
    references = _references(measured) if scored else None
    g_co2_per_kwh, co2_source = energy.carbon(settings.country)
    models, baseline = _models(measured, settings, g_co2_per_kwh, references)
    overheads = [
        row.overhead / min(min(_all(times)) for times in row.times.values())
        for row in measured.rows
        if row.error is None and row.overhead is not None
    ]
    return report.Report(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        seconds_taken=seconds_taken,
        baseline=baseline,
        lengths_s=list(settings.lengths),
        threads=list(settings.threads),
        headline_s=settings.headline,
        launches=settings.launches,
        rounds=settings.rounds,
        measuring_overhead=max(overheads, default=None),
        notes=[*notes, *_unsettled(models, baseline)],
        machine=_machine(load_before, measured),
        energy=report.Energy(
            source=measured.source.kind,
            detail=measured.source.detail,
            g_co2_per_kwh=g_co2_per_kwh,
            co2_source=co2_source,
        ),
        data=_data(measured, manifests, split, references),
        utterances=[
            report.Utterance(
                id=utterance.id,
                set=utterance.set_name,
                seconds=seconds,
                path=str(utterance.path.absolute()),
                reference=utterance.text if references else None,
            )
            for utterance, seconds in zip(measured.utterances, measured.seconds, strict=True)
        ],
        models=models,
    )


def _machine(before: float | None, measured: Measured) -> report.Machine:
    versions = {name: found for name in PACKAGES if (found := machine.package_version(name))}
    return report.Machine(
        processor=machine.processor(),
        instructions=list(machine.instructions()),
        virtual=energy.is_virtual(),
        threads=machine.threads(),
        memory_bytes=_memory(),
        platform=platform.platform(),
        versions={"python": platform.python_version(), **versions},
        other_programs=measured.others,
        load_before=before,
        load_after=load_average(),
        peak_ops_per_s=measured.peaks,
    )


def load_average() -> float | None:
    """Return the average number of runnable processes in the last minute, if the system counts them."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, AttributeError, OSError):
        return None


def _models(
    measured: Measured, settings: BenchSettings, g_co2_per_kwh: float | None, references: list[str] | None
) -> tuple[list[report.Model], str | None]:
    """Summarise the rows; return them with the name of the baseline."""
    alive = [row for row in measured.rows if row.error is None]
    baseline = alive[0] if alive else None
    scores = [Scored(row, references, measured.utterances) for row in alive] if references else []
    fields = {row.entry.name: _described(row) for row in measured.rows}
    for row in alive:
        own = fields[row.entry.name]
        own |= _costs(row, measured, settings, g_co2_per_kwh)
        own["speed"] = [_speed(row, baseline, key) for key in row.times]
        _headline(own, settings)
    for row, score in zip(alive, scores, strict=False):  # no scores without references
        fields[row.entry.name] |= score.fields(scores[0])
    for row in measured.rows:
        fields[row.entry.name]["hypotheses"] = _hypotheses(row, references)
    _rank(alive, scores, fields, settings)
    models = [report.Model(**fields[row.entry.name]) for row in measured.rows]
    return models, baseline.entry.name if baseline else None


def _unsettled(models: Sequence[report.Model], baseline: str | None) -> list[str]:
    """Describe the ratios that may differ in another run, in one line or none."""
    ratios = [(m.name, s) for m in models if m.name != baseline for s in m.speed]
    unsure = [(name, speed) for name, speed in ratios if not speed.settled]
    if not unsure:
        return []
    name, speed = max(unsure, key=lambda each: _width(each[1]))
    low, high = speed.times_as_fast_interval or (0.0, 0.0)
    return [
        f"{len(unsure)} of {len(ratios)} ratios of speed may differ by more than 5 % in another run. The "
        f"widest: {name}, {speed.audio_s:g} s, threads {speed.threads}: {speed.times_as_fast:.2f} "
        f"({low:.2f} - {high:.2f})"
    ]


def _width(speed: report.Speed) -> float:
    low, high = speed.times_as_fast_interval or (1.0, 1.0)
    return (high - low) / (speed.times_as_fast or 1.0)


def _described(row: Row) -> dict[str, Any]:
    """Return the fields that are known even if a model fails later."""
    described = {key: value for key, value in row.description.items() if key != "macs"}
    return {
        "name": row.entry.name,
        "kind": row.entry.kind,
        "source": row.entry.source,
        "error": row.error,
        "engine": row.engine,
        "precision": _precision(row),
        "load_cold_s": row.load_cold,
        "peak_rss_cold_bytes": row.rss_cold,
        **described,
    }


def _precision(row: Row) -> str | None:
    narrow = row.description.get("macs", {}).get("int8")
    return f"int8 + {row.precision}" if narrow and row.precision else row.precision


def _costs(
    row: Row, measured: Measured, settings: BenchSettings, g_co2_per_kwh: float | None
) -> dict[str, Any]:
    """Return load time, memory, latency, processor time, operations and energy."""
    texts = [text for text in row.texts if text]
    cpu = sum(text["cpu_seconds"] for text in texts) / sum(measured.seconds)
    joules = None
    if row.joules:
        joules = statistics.median(row.joules)
    elif measured.source.watts_per_thread is not None:
        joules = cpu * measured.source.watts_per_thread
    counts: dict[str, int] = row.description.get("macs", {})
    # A joule per second of audio is 3600 J per hour; a kWh is 3.6 MJ.
    carbon = None if joules is None or g_co2_per_kwh is None else joules * g_co2_per_kwh / 1000
    return {
        "load_s": statistics.median(row.loads),
        "load_spread_s": (min(row.loads), max(row.loads)),
        "peak_rss_bytes": round(statistics.median(row.rss)),
        "latency_ms": _percentiles([1000 * text["seconds"] for text in texts]),
        "cpu_s_per_audio_s": cpu,
        "macs_per_audio_s": sum(counts.values()) / settings.headline if counts else None,
        "roofline_share": roofline_share(row, counts, measured.peaks, settings),
        "energy_j_per_audio_s": joules,
        "energy_source": report.UNAVAILABLE if joules is None else measured.source.kind,
        "co2_g_per_audio_h": carbon,
        "streaming": _streaming(row),
    }


def _percentiles(values: Sequence[float]) -> report.Percentiles:
    p50, p95, p99 = percentiles(values)
    return report.Percentiles(p50=p50, p95=p95, p99=p99)


def roofline_share(
    row: Row, counts: dict[str, int], peaks: dict[str, float], settings: BenchSettings
) -> float | None:
    """Compute the ratio of the products' time at the measured peak to the time taken.

    Return None if the peak of the products was not measured. The native kernels look up sums in tables, so
    they may exceed the peak of an engine's multiplications.
    """
    if row.kernels != "none":
        return None
    ideal = 0.0
    for precision, count in counts.items():
        peak = peaks.get(str(row.precision) if precision == "rest" else precision)
        if peak is None:
            return None
        ideal += 2 * count / peak
    taken = _all(row.times[settings.headline, settings.threads[0]])
    return ideal / statistics.median(taken) if ideal else None


def _all(rounds: Sequence[Sequence[float]]) -> list[float]:
    return [value for launch in rounds for value in launch]


def _streaming(row: Row) -> report.Streaming | None:
    chunks = [1000 * chunk for stream in row.streams for chunk in stream["chunks"]]
    partials = [1000 * s["first_partial"] for s in row.streams if s["first_partial"] is not None]
    if not chunks or not partials:
        return None
    return report.Streaming(
        algorithmic_latency_ms=1000 * row.streams[0]["latency"],
        chunk_ms=_percentiles(chunks),
        first_partial_ms=statistics.median(partials),
        finalisation_ms=statistics.median(1000 * s["finalisation"] for s in row.streams),
        utterances=len(row.streams),
    )


def _speed(row: Row, baseline: Row | None, key: tuple[float, int]) -> report.Speed:
    audio_s, threads = key
    times = row.times[key]
    middle = statistics.median(_all(times))
    first, third = np.percentile(_all(times), [25, 75])
    fast, interval, settled = 1.0, (1.0, 1.0), True
    if baseline is not None and baseline is not row:
        fast, low, high = median_interval(ratios(baseline.times[key], times))
        interval, settled = (low, high), is_settled(fast, low, high)
    return report.Speed(
        audio_s=audio_s,
        threads=threads,
        seconds=middle,
        quartiles=(float(first), float(third)),
        x_realtime=audio_s / middle,
        rtf=middle / audio_s,
        times_as_fast=fast,
        times_as_fast_interval=interval,
        settled=settled,
    )


def _headline(own: dict[str, Any], settings: BenchSettings) -> None:
    for speed in own["speed"]:
        if (speed.audio_s, speed.threads) == (settings.headline, settings.threads[0]):
            for name in ("x_realtime", "times_as_fast", "times_as_fast_interval", "settled"):
                own[name] = getattr(speed, name)


def _references(measured: Measured) -> list[str] | None:
    """Return the references; None if no utterance has one."""
    texts = [utterance.text for utterance in measured.utterances]
    return texts if any(normalize_text(text) for text in texts) else None


def _rank(alive: list[Row], scores: list[Scored], fields: dict[str, Any], settings: BenchSettings) -> None:
    """Rank the models by each measure. Only a significant difference makes a model better than another."""
    key = (settings.headline, settings.threads[0])

    def fewer_errors(one: int, other: int) -> bool:
        return paired_difference(scores[other].errors, scores[one].errors, scores[one].words)[2] < 0

    def faster(one: int, other: int) -> bool:
        return median_interval(ratios(alive[other].times[key], alive[one].times[key]))[1] > 1

    def smaller(one: int, other: int) -> bool:
        sizes = [float(alive[index].description.get("bytes", inf)) for index in (one, other)]
        return sizes[0] < sizes[1]

    def less_memory(one: int, other: int) -> bool:
        return max(alive[one].rss) < min(alive[other].rss)

    measures = {"x_realtime": faster, "bytes": smaller, "peak_rss_bytes": less_memory}
    if scores:
        measures["wer"] = fewer_errors
    found = {name: ranks(len(alive), better) for name, better in measures.items()}
    for index, row in enumerate(alive):
        fields[row.entry.name]["ranks"] = {
            name: places[index]
            for name, places in found.items()
            if name != "bytes" or row.description.get("bytes") is not None
        }


def _hypotheses(row: Row, references: Sequence[str] | None) -> list[report.Hypothesis | None]:
    found: list[report.Hypothesis | None] = []
    for index, text in enumerate(row.texts):
        if text is None:  # it failed before
            found.append(None)
            continue
        errors = word_errors(references[index], text["text"])[0] if references else None
        found.append(report.Hypothesis(text=text["text"], errors=errors, latency_ms=1000 * text["seconds"]))
    return found


def _data(
    measured: Measured, manifests: Sequence[str], split: str, references: Sequence[str] | None
) -> report.Data:
    sets: dict[str, int] = {}
    digest = hashlib.sha256()
    for utterance in measured.utterances:
        sets[utterance.set_name] = sets.get(utterance.set_name, 0) + 1
        digest.update(f"{utterance.set_name}\t{utterance.id}\t{utterance.text}\n".encode())
    return report.Data(
        manifests=list(manifests),
        split=split,
        sets=sets,
        seconds=sum(measured.seconds),
        words=sum(len(normalize_text(text).split()) for text in references) if references else None,
        pseudo_labelled=sorted({u.set_name for u in measured.utterances if u.pseudo_labelled}),
        fingerprint=digest.hexdigest()[:16],
        failed=measured.failed,
    )
