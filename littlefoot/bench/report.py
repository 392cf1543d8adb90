"""Define the report of ``littlefoot bench --json``: every figure with its definition.

Times are seconds of wall-clock unless a name says otherwise, sizes are bytes, rates are fractions. An
interval (low, high) is a 95 % bootstrap interval. None: not measured, or not defined for the model.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from littlefoot.errors import LittlefootError

SCHEMA_VERSION = 1
"""Version of the file. It increases if a field changes its meaning or is removed, not if one is added."""

MEASURED, ESTIMATED, UNAVAILABLE = "measured (RAPL)", "estimated (TDP x CPU time)", "unavailable"
"""Sources of energy figures."""

Interval = tuple[float, float]


class Part(BaseModel):
    """An immutable part of the report. Unknown fields of newer versions are ignored."""

    model_config = ConfigDict(frozen=True)


class Machine(Part):
    """The machine of the measurements."""

    processor: str
    instructions: list[str]
    """Instruction sets that engines use."""
    virtual: bool
    """Whether the processor declares that it belongs to a virtual machine."""
    threads: int
    """Processor threads available to the processes."""
    memory_bytes: int | None
    platform: str
    versions: dict[str, str]
    """Versions of littlefoot, Python, and the installed packages that compute."""
    other_programs: float | None = None
    """Largest share of the processor threads that other programs used before a launch, in 0 ... 1."""
    load_before: float | None
    """Load average of the minute before: 0 on a quiet machine."""
    load_after: float | None
    """Load average of the last minute of the run, which includes the models."""
    peak_ops_per_s: dict[str, float]
    """The fastest large matrix product in this run, by precision, with the first number of threads; two
    operations are a multiply-accumulate."""


class Data(Part):
    """The recordings of the run."""

    manifests: list[str]
    split: str
    sets: dict[str, int]
    """Utterances of each set."""
    seconds: float
    words: int | None
    """Words of the references; None without references."""
    pseudo_labelled: list[str]
    """Sets whose references were made by other recognisers: their error rates are agreement, not truth."""
    fingerprint: str
    """Digest of the utterances' ids and references: error rates with the same digest are comparable."""
    failed: list[str]
    """Recordings that could not be read, with the reasons."""


class Utterance(Part):
    id: str
    set: str
    seconds: float
    path: str
    """Path of the recording; in a file, relative to its folder."""
    reference: str | None


class Hypothesis(Part):
    """A model's result for an utterance."""

    text: str
    errors: int | None
    """Word errors; None without a reference."""
    latency_ms: float


class Rates(Part):
    """Error rates of a set of utterances; they may exceed 1."""

    wer: float
    wer_interval: Interval
    cer: float
    cer_interval: Interval
    words: int
    utterances: int


class Difference(Part):
    """Difference of a model's word error rate from the baseline's on the same utterances."""

    wer: float
    """Difference of the rates; positive if the model makes more errors than the baseline."""
    interval: Interval
    p_value: float
    """Two-sided p value of a paired bootstrap over utterances."""


class Speed(Part):
    """Speed from samples in memory to text, for one length of audio and number of threads."""

    audio_s: float
    threads: int
    seconds: float
    """Median seconds over all rounds."""
    quartiles: Interval
    x_realtime: float
    rtf: float
    """Real-time factor: 1 / x_realtime."""
    times_as_fast: float | None
    """Median over rounds of the baseline's time over this model's."""
    times_as_fast_interval: Interval | None
    """Interval by a bootstrap over launches, then over rounds within a launch."""
    settled: bool
    """Whether the interval is so narrow that another run should agree within 5 %."""


class Percentiles(Part):
    p50: float
    p95: float
    p99: float


class Streaming(Part):
    """Delays of a streaming model that gets audio as from a sound card."""

    algorithmic_latency_ms: float
    """Time from a frame to the last sample that can change it, without computing."""
    chunk_ms: Percentiles
    """Milliseconds for computing a chunk."""
    first_partial_ms: float
    """Median over utterances: from the beginning of the first word, as the model places it, to the first
    text, in time of the recording plus computing."""
    finalisation_ms: float
    """Median over utterances: from the end of the recording to the final text."""
    utterances: int


class Model(Part):
    """A row of the table."""

    name: str
    kind: str
    """``littlefoot``, or the library that ran it."""
    source: str
    error: str | None = None
    """Reason for missing figures, if the model failed to load or crashed."""
    precision: str | None = None
    """Precision of the products, such as ``int8 + bf16``."""
    engine: str | None = None
    parameters: int | None = None
    bytes: int | None = None
    """Bytes of the files on the disk; of the weights alone, where another library ran the model."""
    bytes_by_part: dict[str, int] | None = None
    """Bytes of the weights of front_end, transformer and head."""
    layers: int | None = None
    load_s: float | None = None
    """Seconds of imports and loading in a fresh process, with a warm cache of compiled models. Median over
    launches."""
    load_spread_s: Interval | None = None
    """Least and most of these seconds."""
    load_cold_s: float | None = None
    """Seconds of one load with an empty cache of compiled models. Files may be in the system's page cache."""
    peak_rss_bytes: int | None = None
    """Most resident memory of a fresh process that loads the model, warm, and recognises the longest clip;
    median over launches. Pages of files mapped into memory count."""
    peak_rss_cold_bytes: int | None = None
    """Peak memory with an empty cache, which includes compiling."""
    x_realtime: float | None = None
    """Speed for ``headline_s`` of audio with the first number of threads, the headline."""
    times_as_fast: float | None = None
    """Ratio of the headline to the baseline."""
    times_as_fast_interval: Interval | None = None
    settled: bool | None = None
    speed: list[Speed] = []
    latency_ms: Percentiles | None = None
    """Time from samples in memory to text, over the utterances, with the first number of threads."""
    cpu_s_per_audio_s: float | None = None
    """Processor seconds, of all threads, per second of audio, over the utterances."""
    macs_per_audio_s: float | None = None
    """Multiply-accumulates of the network per second of audio, for the headline's length."""
    roofline_share: float | None = None
    """Ratio of the time at the measured peak of its precisions to the time taken, for the headline. None for
    the native kernels, whose operations are others than those of the product that the peak is of."""
    wer: float | None = None
    wer_interval: Interval | None = None
    cer: float | None = None
    cer_interval: Interval | None = None
    wer_difference: Difference | None = None
    per_set: dict[str, Rates] = {}
    streaming: Streaming | None = None
    energy_j_per_audio_s: float | None = None
    energy_source: str = UNAVAILABLE
    co2_g_per_audio_h: float | None = None
    ranks: dict[str, int] = {}
    """Ranks by wer, x_realtime, bytes and peak_rss_bytes: 1 + the number of models that are significantly
    better, so models without a significant difference share a rank."""
    hypotheses: list[Hypothesis | None] = []
    """Results in the order of the report's utterances."""


class Energy(Part):
    """Source of the energy figures of all models."""

    source: str
    """Source: ``MEASURED``, ``ESTIMATED`` or ``UNAVAILABLE``."""
    detail: str
    """Explanation of the source, or the reason why there is none."""
    g_co2_per_kwh: float | None
    co2_source: str


class Report(Part):
    schema_version: int = SCHEMA_VERSION
    created: str
    """Time of the report, ISO 8601, UTC."""
    command: str
    seconds_taken: float
    baseline: str | None
    """The model that ratios and differences refer to: the first that did not fail."""
    lengths_s: list[float]
    threads: list[int]
    headline_s: float
    launches: int
    """Number of fresh starts of every model's process."""
    rounds: int
    """Turns of every model per launch, length and number of threads."""
    measuring_overhead: float | None
    """Time of reading the clock, as a share of the shortest measured time."""
    notes: list[str]
    machine: Machine
    energy: Energy
    data: Data
    utterances: list[Utterance]
    models: list[Model]

    def beside(self, file: Path) -> Report:
        """Copy the report, with paths of recordings relative to the folder of ``file``."""
        folder = file.absolute().parent
        moved = [u.model_copy(update={"path": os.path.relpath(u.path, folder)}) for u in self.utterances]
        return self.model_copy(update={"utterances": moved})

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        path.write_text(self.beside(path).model_dump_json(indent=1) + "\n", encoding="utf-8")


def load(path: Path) -> Report:
    """Read a report that ``save`` wrote. Raises LittlefootError for anything else."""
    try:
        text = path.read_text(encoding="utf-8")
        report = Report.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise LittlefootError(f"{path}: cannot be read ({error}): give a file of bench --json") from error
    except ValidationError as error:
        first: dict[str, Any] = dict(error.errors()[0])
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LittlefootError(
            f"{path}: is not a report of littlefoot bench ({where}: {first['msg']}): give a file of bench "
            "--json"
        ) from error
    if report.schema_version != SCHEMA_VERSION:
        raise LittlefootError(
            f"{path}: has schema version {report.schema_version}, this littlefoot reads {SCHEMA_VERSION}: "
            "measure again"
        )
    return report
